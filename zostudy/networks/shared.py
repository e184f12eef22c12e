"""All operations that read one node, computed together for every edge that leaves it.

Edges that leave a node read the same tensor. Their shared work is done once: the ReLU, each pool
and its BN. What differs by edge is done in one call a kind of operation: a depthwise and the
pointwise convolution behind it are one linear map, so the product of their kernels is one
convolution whose outputs are the channels of all edges. The mixing weight w_o is the scale of the
BN that closes an operation, so its gradient comes out of BN's backward pass and the weighted output
is kept nowhere. ``none`` costs nothing.

Symbols:
    R    edges that leave the node and keep the operation ("rows")
    C    channels of the mixed operation (the supernet's channels / k)
    w    float[edges, operations], mixing weights of the edges that leave the node

References:
    METHOD sections 1, 2 and 9. The same function as the per-edge formulation, which
    tests/reference holds.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional, init
from torch.utils.checkpoint import checkpoint

from zostudy.networks.operations import (
    FactorizedReduction,
    Pool,
    SeparableConvolution,
    Zero,
    build,
    pool,
    shifted,
)

T = TypeVar("T")

Node = Float[Tensor, "batch channels height width"]
Rows = Float[Tensor, "batch rows_times_channels out_height out_width"]


def normalized(
    images: Float[Tensor, "batch channels height width"],
    scale: Float[Tensor, " channels"] | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """BN by the batch's own statistics, with a scale for each channel and no shift."""
    return functional.batch_norm(images, None, None, scale, None, training=True)


class SharedSeparable(nn.Module):
    """A separable convolution on R edges, up to but without its closing BN."""

    def __init__(self, prototype: SeparableConvolution, rows: int, channels: int) -> None:
        super().__init__()
        self.kernel = prototype.kernel
        self.stride = prototype.stride
        self.dilation = prototype.dilation
        side = (self.kernel, self.kernel)
        self.depthwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, *side)) for _ in range(prototype.repeats)
        )
        self.pointwise = nn.ParameterList(
            nn.Parameter(torch.empty(rows, channels, channels)) for _ in range(prototype.repeats)
        )

    def forward(self, active: Node) -> Rows:
        """Convolved pictures of all rows; the input has passed ReLU."""
        rows = self.depthwise[0].shape[0]
        padding = self.dilation * (self.kernel // 2)
        images = active
        for index, (depthwise, pointwise) in enumerate(
            zip(self.depthwise, self.pointwise, strict=True)
        ):
            first = index == 0
            if not first:
                images = functional.relu(normalized(images), inplace=True)
            kernel = (pointwise[..., None, None] * depthwise[:, None]).flatten(0, 1)
            images = functional.conv2d(
                images,
                kernel.contiguous(memory_format=torch.channels_last),
                None,
                self.stride if first else 1,
                padding,
                self.dilation,
                1 if first else rows,
            )
        return images

    def convolutions(self) -> list[tuple[Tensor, int, int]]:
        """Every kernel with the fan in and the fan out of one edge's convolution.

        As in torch, the fan out of a depthwise convolution counts all its channels.
        """
        channels, area = self.depthwise[0].shape[1], self.kernel**2
        found = [(kernel, area, channels * area) for kernel in self.depthwise]
        return found + [(kernel, channels, channels) for kernel in self.pointwise]


class SharedReduction(nn.Module):
    """A factorized reduction on R edges, up to but without its closing BN."""

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        second = channels // 2
        self.first = nn.Parameter(torch.empty(rows, channels - second, channels))
        self.second = nn.Parameter(torch.empty(rows, second, channels))

    def forward(self, active: Node) -> Rows:
        """Halved pictures of all rows; the input has passed ReLU."""
        halves = []
        for kernel, images in ((self.first, active), (self.second, shifted(active))):
            if kernel.shape[1]:
                flat = functional.conv2d(images, kernel.flatten(0, 1)[..., None, None], stride=2)
                halves.append(flat.reshape(len(flat), *kernel.shape[:2], *flat.shape[2:]))
        return torch.cat(halves, dim=2).flatten(1, 2)

    def convolutions(self) -> list[tuple[Tensor, int, int]]:
        """Every kernel with its fan in and fan out."""
        kernels = [kernel for kernel in (self.first, self.second) if kernel.numel()]
        return [(kernel, kernel.shape[2], kernel.shape[1]) for kernel in kernels]


class NodeOperations(nn.Module):
    """Every unmasked operation on the edges that leave one node.

    Args:
        operations: Names of the candidate operations, in the order of the mask's columns.
        mask: bool[edges that leave the node][operations].
        channels: Channels of the mixed operation.
        stride: 1, or 2 to halve the picture.
        recompute: Whether the backward pass computes the shared operations again.
        extensions: Modules that may declare further operations.
    """

    def __init__(
        self,
        operations: Sequence[str],
        mask: Sequence[Sequence[bool]],
        channels: int,
        stride: int,
        *,
        recompute: bool = False,
        extensions: tuple[str, ...] = (),
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
        self._pools: list[tuple[str, int, list[int]]] = []
        self._identity: list[tuple[int, list[int]]] = []
        for column, name in enumerate(operations):
            rows = [row for row, kept in enumerate(mask) if kept[column]]
            if rows:
                self._add(name, column, rows, extensions)

    def _add(self, name: str, column: int, rows: list[int], extensions: tuple[str, ...]) -> None:
        def module() -> nn.Module:
            return build(name, self.channels, self.stride, affine=False, extensions=extensions)

        with torch.device("meta"):
            prototype = module()
        shared: nn.Module | None = None
        match prototype:
            case Zero():
                return
            case nn.Identity():
                self._identity.append((column, rows))
            case Pool():
                self._pools.append((prototype.kind, column, rows))
            case SeparableConvolution():
                shared = SharedSeparable(prototype, len(rows), self.channels)
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
        self, images: Node, weights: Float[Tensor, "edges operations"]
    ) -> list[Float[Tensor, "batch channels out_height out_width"] | None]:
        """The mixed operation of every edge; nothing where the edge keeps only ``none``."""
        outputs: list[Tensor | None] = [None] * self.edges
        if self.shared:
            active = functional.relu(images)
            for name, module in self.shared.items():
                column, rows = self._shared_rows[name]
                scale = weights[rows, column].repeat_interleave(self.channels).to(images.dtype)
                mixed = recomputed(_scaled, module, active, scale, when=self.recompute)
                _add(outputs, rows, torch.split(mixed, self.channels, dim=1))
        for kind, column, rows in self._pools:
            pooled = normalized(pool(kind, images, self.stride))
            _add(outputs, rows, (weights[row, column] * pooled for row in rows))
        for column, rows in self._identity:
            _add(outputs, rows, (weights[row, column] * images for row in rows))
        for name, module in self.single.items():
            column, row = self._single_row[name]
            _add(outputs, [row], [weights[row, column] * module(images)])
        return outputs

    @torch.no_grad()
    def kaiming_normal_(self, generator: torch.Generator) -> None:
        """Kaiming-normal initialisation, fan out (METHOD section 5)."""
        for module in self.shared.values():
            for kernel, _, fan_out in module.convolutions():  # type: ignore[operator]  # ours
                kernel.normal_(0, (2 / fan_out) ** 0.5, generator=generator)
        kaiming_normal_(self.single, generator)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Default initialisation of a convolution, by the global generator."""
        for module in self.shared.values():
            for kernel, fan_in, _ in module.convolutions():  # type: ignore[operator]  # ours
                kernel.uniform_(-(fan_in**-0.5), fan_in**-0.5)


def recomputed(function: Callable[..., T], *inputs: object, when: bool) -> T:
    """The function's value; what its backward pass needs is computed again then, not kept.

    Args:
        function: Without randomness, so that computing it again gives the same bits.
        inputs: Its arguments.
        when: Whether to do so; otherwise, and where no gradient is wanted, a plain call.
    """
    if not (when and torch.is_grad_enabled()):
        return function(*inputs)
    value: T = checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
    )
    return value


def _scaled(module: nn.Module, active: Node, scale: Float[Tensor, " channels"]) -> Rows:
    """A shared operation of all rows with its closing BN, which scales by the mixing weights."""
    return normalized(module(active), scale)


def _add(outputs: list[Tensor | None], rows: Sequence[int], parts: Iterable[Tensor]) -> None:
    """Add a part to the output of each row."""
    for row, part in zip(rows, parts, strict=True):
        before = outputs[row]
        outputs[row] = part if before is None else before + part


@torch.no_grad()
def kaiming_normal_(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal initialisation, fan out, of every convolution and linear layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            init.kaiming_normal_(
                layer.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
            if layer.bias is not None:
                layer.bias.zero_()
