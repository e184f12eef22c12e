"""One operation on several edges that leave a node, computed in one call (see `node_operations`).

Symbols:
    R    edges that leave the node and keep the operation ("rows")
    C    channels of the mixed operation (the supernet's channels / k)
"""

import abc
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.networks.convolution import Convolution
from zostudy.networks.operations import ReLUConvBN, SeparableConvolution, shifted
from zostudy.networks.recompute import (
    Pooling,
    normalized,
    pooled_rows,
    recomputed,
    separable,
)
from zostudy.networks.rederived import derived

#: The 1×1 convolutions of a factorized reduction.
_HALVING = Convolution(stride=2)

#: What the backward pass computes again.
Recompute = Literal["none", "partial", "full"]

NodeImages = Float[Tensor, "batch channels height width"]
RowImages = Float[Tensor, "batch rows_times_channels out_height out_width"]

#: Positions of the rows that are computed, among those that keep the operation; all, if none.
Chosen = Sequence[int] | None


class _SharedConvolutions(nn.Module, abc.ABC):
    """(ReLU, convolution, BN), once or several times, on R edges; the last BN has a scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @abc.abstractmethod
    def stages(self, rows: int) -> tuple[Convolution, ...]:
        """The geometry of each stage, for so many rows."""

    @abc.abstractmethod
    def kernels(self, chosen: Chosen) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The kernel of each stage, that of the chosen rows in one."""

    def forward(
        self,
        images: NodeImages,
        scale: Float[Tensor, " rows_times_channels"],
        recompute: Recompute = "none",
        chosen: Chosen = None,
    ) -> RowImages:
        """Convolved pictures of the chosen rows, scaled.

        Args:
            images: The node; past ReLU unless everything is computed again.
            scale: The scale of the closing BN.
            recompute: What the backward pass computes again.
            chosen: The rows that are computed; all, if none are named.
        """
        stages, kernels = self.stages(len(scale) // self.channels), self.kernels(chosen)
        if recompute != "none":
            return separable(stages, images, scale, kernels, active=recompute == "partial")
        for stage, (convolution, kernel) in enumerate(zip(stages, kernels, strict=True)):
            if stage:
                images = derived(_past_norm_and_relu, images)
            images = convolution(images, kernel)
        return normalized(images, scale)


class SharedSeparable(_SharedConvolutions):
    """A separable convolution on R edges, with its closing BN."""

    def __init__(self, prototype: SeparableConvolution, rows: int, channels: int) -> None:
        super().__init__(channels)
        self.stride, self.dilation = prototype.stride, prototype.dilation
        self.kernel = prototype.kernel
        side = (self.kernel, self.kernel)
        self.depthwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, *side)) for _ in range(prototype.repeats)
        )
        self.pointwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, channels)) for _ in range(prototype.repeats)
        )

    def stages(self, rows: int) -> tuple[Convolution, ...]:
        """The first stage reads the node, later ones what their own row made of it."""
        padding = self.dilation * (self.kernel // 2)
        return tuple(
            Convolution(1, padding, self.dilation, rows)
            if stage
            else Convolution(self.stride, padding, self.dilation, 1)
            for stage in range(len(self.depthwise))
        )

    def kernels(self, chosen: Chosen) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The products of depthwise and pointwise kernels."""
        return [
            derived(_product, rows_of(pointwise, chosen), rows_of(depthwise, chosen))
            for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True)
        ]

    def convolutions(self) -> list[tuple[Tensor, int, int]]:
        """Every kernel with the fan in and the fan out of one edge's convolution.

        As in torch, the fan out of a depthwise convolution counts all its channels.
        """
        channels, area = self.depthwise[0].shape[1], self.kernel**2
        found = [(kernel, area, channels * area) for kernel in self.depthwise]
        return found + [(kernel, channels, channels) for kernel in self.pointwise]


class SharedDense(_SharedConvolutions):
    """A convolution on R edges, with its BN."""

    def __init__(self, prototype: ReLUConvBN, rows: int, channels: int) -> None:
        super().__init__(channels)
        kernel, self.stride = prototype.convolution.kernel_size[0], prototype.convolution.stride[0]
        self.weight = nn.Parameter(torch.empty(rows * channels, channels, kernel, kernel))

    def stages(self, rows: int) -> tuple[Convolution, ...]:
        """One, whatever the rows."""
        del rows
        return (Convolution(self.stride, self.weight.shape[-1] // 2, 1, 1),)

    def kernels(self, chosen: Chosen) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The kernel."""
        by_row = self.weight.view(-1, self.channels, *self.weight.shape[1:])
        return [self.weight if chosen is None else rows_of(by_row, chosen).flatten(0, 1)]

    def convolutions(self) -> list[tuple[Tensor, int, int]]:
        """The kernel with the fan in and the fan out of one edge's convolution."""
        fan = self.weight[0].numel()
        return [(self.weight, fan, fan)]


class SharedReduction(nn.Module):
    """A factorized reduction on R edges, with its closing BN."""

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        second = channels // 2
        self.first = nn.Parameter(torch.empty(rows, channels - second, channels))
        self.second = nn.Parameter(torch.empty(rows, second, channels))

    def forward(
        self,
        images: NodeImages,
        scale: Float[Tensor, " rows_times_channels"],
        recompute: Recompute = "none",
        chosen: Chosen = None,
    ) -> RowImages:
        """Halved pictures of the chosen rows, scaled; arguments as of a separable convolution."""
        past_relu = recompute != "full"
        return recomputed(self._halved, images, scale, past_relu, chosen, when=recompute != "none")

    def _halved(
        self, images: NodeImages, scale: Tensor, past_relu: bool, chosen: Chosen
    ) -> RowImages:
        active = images if past_relu else functional.relu(images)
        halves = []
        for parameter, images in ((self.first, active), (self.second, shifted(active))):
            kernel = rows_of(parameter, chosen)
            if kernel.shape[1]:
                flat = _HALVING(images, kernel.flatten(0, 1)[..., None, None])
                halves.append(flat.reshape(len(flat), *kernel.shape[:2], *flat.shape[2:]))
        return normalized(torch.cat(halves, dim=2).flatten(1, 2), scale)

    def convolutions(self) -> list[tuple[Tensor, int, int]]:
        """Every kernel with its fan in and fan out."""
        kernels = [kernel for kernel in (self.first, self.second) if kernel.numel()]
        return [(kernel, kernel.shape[2], kernel.shape[1]) for kernel in kernels]


class SharedPool(NamedTuple):
    """A pool for R edges.

    Attributes:
        pooling: Its kind and stride.
        normalizes: Whether BN follows.
    """

    pooling: Pooling
    normalizes: bool

    def terms(
        self,
        images: NodeImages,
        weights: Float[Tensor, " rows"],
        recompute: Recompute,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """What the pool adds to each edge, and the weight of that unless it is in it.

        Args:
            images: The node; it may be a view.
            weights: Mixing weights of the edges.
            recompute: What the backward pass computes again.
        """
        if self.normalizes and recompute != "none":
            keep = recompute == "partial"
            yield from _unweighted(pooled_rows(self.pooling, images, weights, keep=keep))
        elif recompute == "full":
            yield from _unweighted(recomputed(self._weighted, images, weights))
        else:
            found: tuple[Tensor, ...] = derived(self.pooling.__call__, images)
            pooled = derived(normalized, found[0]) if self.normalizes else found[0]
            yield from ((pooled, weight) for weight in weights.unbind())

    def _weighted(
        self, images: NodeImages, weights: Float[Tensor, " rows"]
    ) -> tuple[NodeImages, ...]:
        pooled = self.pooling(images)[0]
        return tuple(weight * pooled for weight in weights.unbind())


def _past_norm_and_relu(images: RowImages) -> RowImages:
    return functional.relu(normalized(images), inplace=True)


def _product(
    pointwise: Float[Tensor, "rows channels channels"],
    depthwise: Float[Tensor, "rows channels side side"],
) -> Float[Tensor, "rows_times_channels in side side"]:
    """The kernel of a depthwise convolution and the pointwise one behind it, of each row."""
    product = pointwise[..., None, None] * depthwise[:, None]
    return product.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def rows_of(values: Tensor, chosen: Chosen) -> Tensor:
    """The rows that are computed; by slices, as a list of indices would go to the device."""
    if chosen is None:
        return values
    return torch.cat([values[:0], *(values[row : row + 1] for row in chosen)])


def _unweighted(terms: Sequence[Tensor]) -> Iterator[tuple[Tensor, None]]:
    """Terms that hold their weight already."""
    yield from ((term, None) for term in terms)
