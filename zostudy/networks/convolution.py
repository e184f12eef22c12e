"""Convolutions that every processor computes correctly. Networks convolve by these alone.

On a processor whose best instructions are AVX2, the library under torch (oneDNN, as torch 2.11 to
2.14.1 ship it) gets the float32 convolution with a 1×1 kernel and a stride wrong where the input is
channels-last and has fewer than 8 channels: with several threads the gradient of the kernel is
silently off, with one thread the heap is corrupted (oneDNN issue 6035). Such a kernel reads only
every stride-th pixel, so taking those pixels first and convolving without a stride is the same
function, and that shape is computed correctly everywhere.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Images = Float[Tensor, "batch channels height width"]
Kernel = Float[Tensor, "out in height width"]

_AXES = 2


class Convolution(NamedTuple):
    """The geometry of a convolution without a bias, the same along height and width."""

    stride: int
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def __call__(self, images: Images, kernel: Kernel) -> Images:
        """Convolved pictures."""
        if self._skips_pixels(kernel):
            images, stride = self._read(images), 1
        else:
            stride = self.stride
        return functional.conv2d(
            images, kernel, None, stride, self.padding, self.dilation, self.groups
        )

    def backward(
        self, grad: Images, images: Images, kernel: Kernel, needed: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the pictures and of the kernel, each where it is needed."""
        if not self._skips_pixels(kernel):
            return self._backward(grad, images, kernel, needed, self.stride)
        of_read, of_kernel = self._backward(grad, self._read(images), kernel, needed, 1)
        if of_read is None:
            return None, of_kernel
        of_images = torch.zeros_like(images)
        self._read(of_images).copy_(of_read)
        return of_images, of_kernel

    def _backward(
        self, grad: Images, images: Images, kernel: Kernel, needed: tuple[bool, bool], stride: int
    ) -> tuple[Tensor | None, Tensor | None]:
        geometry = ([size] * _AXES for size in (stride, self.padding, self.dilation))
        found = torch.ops.aten.convolution_backward(
            grad, images, kernel, None, *geometry, False, [0] * _AXES, self.groups, [*needed, False]
        )
        return found[0], found[1]

    def _skips_pixels(self, kernel: Kernel) -> bool:
        """Whether a 1×1 kernel leaves pixels out, which is the shape that must not be run."""
        return self.stride > 1 and self.padding == 0 and kernel.shape[2:] == (1, 1)

    def _read(self, images: Images) -> Images:
        """The pixels that a 1×1 kernel reads."""
        return images[:, :, :: self.stride, :: self.stride]


class Conv2d(nn.Conv2d):
    """torch's layer, without the shape that some processors compute wrongly."""

    def _conv_forward(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size != (1, 1) or max(self.stride) == 1:
            convolved: Tensor = super()._conv_forward(images, weight, bias)
            return convolved
        frame = self._reversed_padding_repeated_twice
        if any(frame):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            images = functional.pad(images, frame, mode)
        down, right = self.stride
        return functional.conv2d(images[..., ::down, ::right], weight, bias, groups=self.groups)


def corrected(module: nn.Module) -> nn.Module:
    """The module with every layer of torch's `Conv2d` in it made one of ours.

    For the operations that users write: the same parameters under the same names.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = Conv2d
    return module


class ChannelConvolution(nn.Conv1d):
    """A convolution along the channels, float[batch, 1, channels], that keeps their number.

    One kernel without a bias; its stride of 1 is computed correctly everywhere.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__(1, 1, kernel, padding=kernel // 2, bias=False)
