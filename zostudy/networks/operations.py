"""Candidate operations (docs/method.md, section 1; NAS-Bench-201, section 2.1, Dong and Yang 2020).

An operation is a function ``(channels, stride, affine) -> nn.Module`` that maps pictures of
``channels`` channels to pictures of the same channels, its side divided by the stride (rounded up).
``affine`` says whether batch normalization has learnable parameters (stand-alone network) or not
(supernet). The fact ``learns: False`` says that it is counted as one without weights of its own.
Every BN here normalizes with batch statistics while training; in the supernet always.

The supernet computes operations built of the classes below together for all edges that leave a
node; any other module of an extension is run edge by edge.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional, init

from zostudy.networks.convolution import Conv2d, corrected
from zostudy.networks.rederived import derived
from zostudy.registry import Component, operation

Images = Float[Tensor, "batch channels height width"]
Halved = Float[Tensor, "batch out half_height half_width"]

#: Output of an operation: as its input, or of half the side where the stride is 2.
Strided = Float[Tensor, "batch channels out_height out_width"]


def batch_norm(channels: int, *, affine: bool) -> nn.BatchNorm2d:
    """BN: with learnable parameters and running statistics, or with neither.

    Differs from: the reference code, whose supernet keeps running statistics that only its
    (informative) supernet accuracy uses; ours always normalizes by the batch.
    """
    if affine:
        return nn.BatchNorm2d(channels)
    return _PlainNorm(channels, affine=False, track_running_stats=False)


class _PlainNorm(nn.BatchNorm2d):
    """BN of the supernet, which a step that draws paths need not keep the output of."""

    def forward(self, images: Images) -> Images:
        """The pictures normalized by their own statistics."""
        return derived(super().forward, images)


class Zero(nn.Module):
    """No operation: its output is zero.

    A gradient, zero as well, passes through it, so that every weight of a stand-alone network takes
    part in every step, whether anything reaches the output from it or not.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, images: Images) -> Strided:
        """Zeros of the output's shape."""
        return 0 * images[:, :, :: self.stride, :: self.stride]


class Pool(nn.Module):
    """3×3 pooling with padding 1, without counting the padding; a BN without parameters may follow.

    Attributes:
        normalizes: Whether BN follows.
    """

    def __init__(self, kind: str, channels: int, stride: int, *, normalizes: bool) -> None:
        super().__init__()
        self.kind = kind
        self.stride = stride
        self.normalizes = normalizes
        self.norm = batch_norm(channels, affine=False) if normalizes else nn.Identity()

    def forward(self, images: Images) -> Strided:
        """Pooled pictures."""
        return self.norm(pool(self.kind, images, self.stride))  # type: ignore[no-any-return]


def pool(kind: str, images: Images, stride: int) -> Strided:
    """3×3 max or average pooling, padding 1."""
    if kind == "max":
        return functional.max_pool2d(images, 3, stride, 1)
    return functional.avg_pool2d(images, 3, stride, 1, count_include_pad=False)


class FactorizedReduction(nn.Module):
    """ReLU, two 1×1 convolutions of stride 2, the second shifted by one pixel, BN.

    Pictures of odd side keep the rounded-up half: the shifted picture is padded by a zero row and
    column.
    """

    def __init__(self, channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        first = out_channels - out_channels // 2
        self.first = Conv2d(channels, first, 1, stride=2, bias=False)
        self.second = (
            Conv2d(channels, out_channels // 2, 1, stride=2, bias=False)
            if out_channels > 1
            else None
        )
        self.norm = batch_norm(out_channels, affine=affine)

    def forward(self, images: Images, active: bool = False) -> Halved:
        """Pictures of half the side.

        Args:
            images: The pictures.
            active: Whether they have passed ReLU already.
        """
        past_relu = images if active else functional.relu(images)
        halves = [self.first(past_relu)]
        if self.second is not None:
            halves.append(self.second(shifted(past_relu)))
        return self.norm(torch.cat(halves, dim=1))  # type: ignore[no-any-return]


def shifted(images: Images) -> Strided:
    """The pictures without their first row and column, zero-padded at the end to even division."""
    height, width = images.shape[-2] % 2, images.shape[-1] % 2
    if height or width:
        images = functional.pad(images, (0, width, 0, height))
    return images[:, :, 1:, 1:]


class SeparableConvolution(nn.Module):
    """(ReLU, depthwise k×k, pointwise, BN), once or several times; only the first has a stride."""

    def __init__(
        self, channels: int, kernel: int, stride: int, dilation: int, repeats: int, *, affine: bool
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.dilation = dilation
        self.repeats = repeats
        padding = dilation * (kernel // 2)
        stages = []
        for index in range(repeats):
            step = stride if index == 0 else 1
            stages += [
                nn.ReLU(),
                Conv2d(
                    channels,
                    channels,
                    kernel,
                    step,
                    padding,
                    dilation,
                    groups=channels,
                    bias=False,
                ),
                Conv2d(channels, channels, 1, bias=False),
                batch_norm(channels, affine=affine),
            ]
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Images) -> Strided:
        """Convolved pictures."""
        return self.stages(images)  # type: ignore[no-any-return]


class ReLUConvBN(nn.Module):
    """ReLU, k×k convolution (1×1 unless told otherwise), BN."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, affine: bool
    ) -> None:
        super().__init__()
        self.convolution = Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = batch_norm(out_channels, affine=affine)

    def forward(
        self, images: Images, active: bool = False
    ) -> Float[Tensor, "batch out out_height out_width"]:
        """Convolved pictures.

        Args:
            images: The pictures.
            active: Whether they have passed ReLU already.
        """
        past_relu = images if active else functional.relu(images)
        return self.norm(self.convolution(past_relu))  # type: ignore[no-any-return]


@operation("none", learns=False)
def none(channels: int, stride: int, affine: bool) -> nn.Module:  # noqa: ARG001  # zero needs neither
    """No operation."""
    return Zero(stride)


@operation("max_pool_3x3", learns=False)
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3×3 max pooling."""
    # The stand-alone network has no BN behind its pools (reference code, `model.py`).
    return Pool("max", channels, stride, normalizes=not affine)


@operation("avg_pool_3x3", learns=False)
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3×3 average pooling, without counting the padding."""
    return Pool("avg", channels, stride, normalizes=not affine)


@operation("plain_avg_pool_3x3", learns=False)
def plain_avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:  # noqa: ARG001  # no BN
    """3×3 average pooling without BN, as NAS-Bench-201 has it."""
    return Pool("avg", channels, stride, normalizes=False)


@operation("nor_conv_1x1")
def nor_conv_1x1(channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, 1×1 convolution, BN."""
    return ReLUConvBN(channels, channels, 1, stride, affine=affine)


@operation("nor_conv_3x3")
def nor_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, 3×3 convolution, BN."""
    return ReLUConvBN(channels, channels, 3, stride, affine=affine)


@operation("skip_connect", learns=False)
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    """The identity, or a factorized reduction where the stride is 2."""
    if stride == 1:
        return nn.Identity()
    return FactorizedReduction(channels, channels, affine=affine)


@operation("sep_conv_3x3")
def sep_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Two separable 3×3 convolutions."""
    return SeparableConvolution(channels, 3, stride, 1, 2, affine=affine)


@operation("sep_conv_5x5")
def sep_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    """Two separable 5×5 convolutions."""
    return SeparableConvolution(channels, 5, stride, 1, 2, affine=affine)


@operation("dil_conv_3x3")
def dil_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """One separable 3×3 convolution of dilation 2."""
    return SeparableConvolution(channels, 3, stride, 2, 1, affine=affine)


@operation("dil_conv_5x5")
def dil_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    """One separable 5×5 convolution of dilation 2."""
    return SeparableConvolution(channels, 5, stride, 2, 1, affine=affine)


def build(component: Component, channels: int, stride: int, *, affine: bool) -> nn.Module:
    """The module of an operation.

    Args:
        component: The operation, as the search space finds it.
        channels: Channels of input and output.
        stride: 1, or 2 to halve the picture.
        affine: Whether BN has learnable parameters.
    """
    module = component.load()(channels, stride, affine)
    if not isinstance(module, nn.Module):
        raise TypeError(f"operation {component.name!r} must give an nn.Module")
    return corrected(module)


@torch.no_grad()
def kaiming_normal_(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal initialization, fan out, of every convolution and linear layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            init.kaiming_normal_(
                layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if layer.bias is not None:
                layer.bias.zero_()
