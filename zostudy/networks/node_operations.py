"""All operations that read one node, computed together for every edge that leaves it.

Edges that leave a node read the same tensor. Their shared work is done once: the ReLU, each pool
and its BN. What differs by edge is done in one call a kind of operation: a convolution whose
outputs are the channels of all edges; a depthwise and the pointwise convolution behind it are one
linear map, so the product of their kernels is one convolution too. The mixing weight w_o is the
scale of the BN that closes an operation, so its gradient comes out of BN's backward pass and the
weighted output is kept nowhere. ``none`` costs nothing.

Symbols:
    R    edges that leave the node and keep the operation ("rows")
    C    channels of the mixed operation (the supernet's channels / k)
    w    float[edges, operations], mixing weights of the edges that leave the node

References:
    docs/method.md, sections 1, 2 and 9. The same function as the per-edge formulation, which
    tests/reference holds.
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional, init

from zostudy.networks.convolution import Convolution
from zostudy.networks.operations import (
    FactorizedReduction,
    Pool,
    ReLUConvBN,
    SeparableConvolution,
    Zero,
    build,
    shifted,
)
from zostudy.networks.recompute import (
    Pooling,
    normalized,
    pooled_rows,
    recomputed,
    separable,
)
from zostudy.registry import Component

#: The 1×1 convolutions of a factorized reduction.
_HALVING = Convolution(stride=2)

#: What the backward pass computes again.
Recompute = Literal["none", "partial", "full"]

NodeImages = Float[Tensor, "batch channels height width"]
RowImages = Float[Tensor, "batch rows_times_channels out_height out_width"]

#: A row (an edge), a term of its sum, and the term's weight unless it is in the term.
Term = tuple[int, Tensor, Tensor | None]


class _SharedConvolutions(nn.Module, abc.ABC):
    """(ReLU, convolution, BN), once or several times, on R edges; the last BN has a scale."""

    def __init__(self, stages: Iterable[Convolution]) -> None:
        super().__init__()
        self.stages = tuple(stages)

    @abc.abstractmethod
    def kernels(self) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The kernel of each stage, that of all rows in one."""

    def forward(
        self,
        images: NodeImages,
        scale: Float[Tensor, " rows_times_channels"],
        recompute: Recompute = "none",
    ) -> RowImages:
        """Convolved pictures of all rows, scaled.

        Args:
            images: The node; past ReLU unless everything is computed again.
            scale: The scale of the closing BN.
            recompute: What the backward pass computes again.
        """
        kernels = self.kernels()
        if recompute != "none":
            return separable(self.stages, images, scale, kernels, active=recompute == "partial")
        for stage, (convolution, kernel) in enumerate(zip(self.stages, kernels, strict=True)):
            if stage:
                images = functional.relu(normalized(images), inplace=True)
            images = convolution(images, kernel)
        return normalized(images, scale)


class SharedSeparable(_SharedConvolutions):
    """A separable convolution on R edges, with its closing BN."""

    def __init__(self, prototype: SeparableConvolution, rows: int, channels: int) -> None:
        padding, dilation = prototype.dilation * (prototype.kernel // 2), prototype.dilation
        super().__init__(
            Convolution(1, padding, dilation, rows)
            if stage
            else Convolution(prototype.stride, padding, dilation, 1)
            for stage in range(prototype.repeats)
        )
        self.kernel = prototype.kernel
        side = (self.kernel, self.kernel)
        self.depthwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, *side)) for _ in range(prototype.repeats)
        )
        self.pointwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, channels)) for _ in range(prototype.repeats)
        )

    def kernels(self) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The products of depthwise and pointwise kernels."""
        return [
            (pointwise[..., None, None] * depthwise[:, None])
            .flatten(0, 1)
            .contiguous(memory_format=torch.channels_last)
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
        kernel, stride = prototype.convolution.kernel_size[0], prototype.convolution.stride[0]
        super().__init__([Convolution(stride, kernel // 2, 1, 1)])
        self.weight = nn.Parameter(torch.empty(rows * channels, channels, kernel, kernel))

    def kernels(self) -> list[Float[Tensor, "rows_times_channels in side side"]]:
        """The kernel."""
        return [self.weight]

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
    ) -> RowImages:
        """Halved pictures of all rows, scaled; arguments as those of a separable convolution."""
        past_relu = recompute != "full"
        return recomputed(self._halved, images, scale, past_relu, when=recompute != "none")

    def _halved(self, images: NodeImages, scale: Tensor, past_relu: bool) -> RowImages:
        active = images if past_relu else functional.relu(images)
        halves = []
        for kernel, images in ((self.first, active), (self.second, shifted(active))):
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
        rows: Sequence[int],
        weights: Float[Tensor, " rows"],
        recompute: Recompute,
    ) -> Iterator[Term]:
        """What the pool adds to each edge.

        Args:
            images: The node; it may be a view.
            rows: The edges.
            weights: Their mixing weights.
            recompute: What the backward pass computes again.
        """
        if self.normalizes and recompute != "none":
            keep = recompute == "partial"
            yield from _unweighted(rows, pooled_rows(self.pooling, images, weights, keep=keep))
        elif recompute == "full":
            yield from _unweighted(rows, recomputed(self._weighted, images, weights))
        else:
            pooled = self.pooling(images)[0]
            pooled = normalized(pooled) if self.normalizes else pooled
            yield from ((row, pooled, weight) for row, weight in zip(rows, weights, strict=True))

    def _weighted(
        self, images: NodeImages, weights: Float[Tensor, " rows"]
    ) -> tuple[NodeImages, ...]:
        pooled = self.pooling(images)[0]
        return tuple(weight * pooled for weight in weights)


class NodeOperations(nn.Module):
    """Every unmasked operation on the edges that leave one node.

    Args:
        operations: The candidate operations, in the order of the mask's columns.
        mask: bool[edges that leave the node, operations].
        channels: Channels of the mixed operation.
        stride: 1, or 2 to halve the picture.
        recompute: What the backward pass computes again of separable convolutions, pools and
            extensions: ``none``; ``partial`` for all but the node past ReLU and the pools;
            ``full`` for all.
    """

    def __init__(
        self,
        operations: Sequence[Component],
        mask: Sequence[Sequence[bool]],
        channels: int,
        stride: int,
        *,
        recompute: Recompute = "none",
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.edges = len(mask)
        self.channels = channels
        self.stride = stride
        self.shared = nn.ModuleDict()
        self.single = nn.ModuleDict()
        self._shared_rows: dict[str, tuple[int, list[int]]] = {}
        self._single_row: dict[str, tuple[int, int]] = {}
        self._pools: list[tuple[SharedPool, int, list[int]]] = []
        self._identity: list[tuple[int, list[int]]] = []
        for column, operation in enumerate(operations):
            rows = [row for row, kept in enumerate(mask) if kept[column]]
            if rows:
                self._add(operation, column, rows)

    def _add(self, operation: Component, column: int, rows: list[int]) -> None:
        name = operation.name

        def module() -> nn.Module:
            return build(operation, self.channels, self.stride, affine=False)

        with torch.device("meta"):
            prototype = module()
        shared: nn.Module | None = None
        match prototype:
            case Zero():
                return
            case nn.Identity():
                self._identity.append((column, rows))
            case Pool():
                pooling = Pooling(prototype.kind, self.stride)
                self._pools.append((SharedPool(pooling, prototype.normalizes), column, rows))
            case SeparableConvolution():
                shared = SharedSeparable(prototype, len(rows), self.channels)
            case ReLUConvBN():
                shared = SharedDense(prototype, len(rows), self.channels)
            case FactorizedReduction():
                shared = SharedReduction(len(rows), self.channels)
            case _:
                for row in rows:
                    self.single[f"{name}_{row}"] = module()
                    self._single_row[f"{name}_{row}"] = (column, row)
        if shared is not None:
            self.shared[name] = shared
            self._shared_rows[name] = (column, rows)

    def forward(
        self, images: NodeImages, weights: Float[Tensor, "edges operations"]
    ) -> Iterator[Term]:
        """The terms of the mixed operations, as they come.

        Args:
            images: The node; it may be a view.
            weights: Mixing weights.

        Yields:
            A row, a term of its sum, and the term's weight unless it is in the term.
        """
        recompute = self.recompute if torch.is_grad_enabled() else "none"
        active = images if recompute == "full" or not self.shared else functional.relu(images)
        for name, module in self.shared.items():
            column, rows = self._shared_rows[name]
            scale = weights[rows, column].repeat_interleave(self.channels)
            mixed = module(active, scale, recompute)
            yield from _unweighted(rows, torch.split(mixed, self.channels, dim=1))
        for pool, column, rows in self._pools:
            yield from pool.terms(images, rows, weights[rows, column], recompute)
        for column, rows in self._identity:
            yield from ((row, images, weights[row, column]) for row in rows)
        for name, module in self.single.items():
            column, row = self._single_row[name]
            term = recomputed(module, images, when=recompute != "none")
            yield row, term, weights[row, column]

    @torch.no_grad()
    def kaiming_normal_(self, generator: torch.Generator) -> None:
        """Kaiming-normal initialization, fan out (docs/method.md, section 5)."""
        for module in self.shared.values():
            for kernel, _, fan_out in module.convolutions():  # type: ignore[operator]  # ours
                kernel.normal_(0, (2 / fan_out) ** 0.5, generator=generator)
        kaiming_normal_(self.single, generator)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Default initialization of a convolution, by the global generator."""
        for module in self.shared.values():
            for kernel, fan_in, _ in module.convolutions():  # type: ignore[operator]  # ours
                kernel.uniform_(-(fan_in**-0.5), fan_in**-0.5)


def _unweighted(rows: Sequence[int], terms: Sequence[Tensor]) -> Iterator[Term]:
    """Terms that hold their weight already."""
    for row, term in zip(rows, terms, strict=True):
        yield row, term, None


@torch.no_grad()
def kaiming_normal_(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal initialization, fan out, of every convolution and linear layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            init.kaiming_normal_(
                layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if layer.bias is not None:
                layer.bias.zero_()
