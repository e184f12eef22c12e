"""Operations that a machine cannot do, each in its own way: an extension for tests."""

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from zostudy.registry import operation, search_space
from zostudy.space.search_space import SearchSpace


class LyingBackward(torch.autograd.Function):
    """The identity; in float32 alone its gradient is off by 1 %, as a kernel may lie."""

    @staticmethod
    def forward(_context, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(_context, grad: Tensor) -> Tensor:
        return 1.01 * grad if grad.dtype == torch.float32 else grad


class Applied(nn.Module):
    """A function of the pictures that begins with a 1×1 convolution, as operations do."""

    def __init__(self, channels, stride, function):
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 1, bias=False)
        self.stride = stride
        self.function = function

    def forward(self, images):
        single = images.dtype == torch.float32 and images.device.type != "meta"  # nor planned
        return self.function(self.convolution(images[:, :, :: self.stride, :: self.stride]), single)


class Direct(nn.Module):
    """A 1×1 convolution with a stride, as torch computes it."""

    def __init__(self, channels, stride):
        super().__init__()
        self.stride = stride
        self.kernel = nn.Parameter(torch.randn(channels, channels, 1, 1))

    def forward(self, images):
        return functional.conv2d(images, self.kernel, stride=self.stride)


@operation("right")
def right(channels, stride, affine):  # noqa: ARG001  # every operation is asked so
    return Applied(channels, stride, lambda images, _: images.relu())


@operation("lies")
def lies(channels, stride, affine):  # noqa: ARG001
    return Applied(channels, stride, lambda images, _: LyingBackward.apply(images))


@operation("aborts")
def aborts(channels, stride, affine):  # noqa: ARG001
    return Applied(channels, stride, lambda images, single: os.abort() if single else images)


@operation("hangs")
def hangs(channels, stride, affine):  # noqa: ARG001
    return Applied(channels, stride, lambda images, single: time.sleep(1e6) if single else images)


@operation("hungry")
def hungry(channels, stride, affine):  # noqa: ARG001
    def take(images, _):
        raise MemoryError(f"{images.numel()} numbers are too many")

    return Applied(channels, stride, take)


@operation("killed")
def killed(channels, stride, affine):  # noqa: ARG001
    return Applied(channels, stride, lambda images, single: _exit(images) if single else images)


def _exit(images):
    os._exit(7)
    return images


@operation("needs_float32")
def needs_float32(channels, stride, affine):  # noqa: ARG001
    def only(images, single):
        if not single:
            raise TypeError("float32 alone")
        return images

    return Applied(channels, stride, only)


@operation("fails_with_avx")
def fails_with_avx(channels, stride, affine):  # noqa: ARG001
    """Stands for a kernel that is right where fewer instructions may be used."""
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX"

    def maybe(images, single):
        return images if limited or not single else LyingBackward.apply(images)

    return Applied(channels, stride, maybe)


@operation("direct")
def direct(channels, stride, affine):  # noqa: ARG001
    return Direct(channels, stride)


@operation("as_told")
def as_told(channels, stride, affine):
    """The operation that the file beside the study names."""
    return globals()[Path("as_told").read_text().strip()](channels, stride, affine)


@search_space("faulty")
def faulty():
    return SearchSpace(
        name="faulty",
        cell_types=("normal",),
        reduction_types=(),
        inputs=2,
        nodes=1,
        operations=("none", "as_told"),
        zero="none",
        kept_edges=2,
    )
