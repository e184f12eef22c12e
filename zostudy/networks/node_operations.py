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

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from zostudy.networks.operations import (
    FactorizedReduction,
    Pool,
    ReLUConvBN,
    SeparableConvolution,
    Zero,
    build,
    kaiming_normal_,
)
from zostudy.networks.recompute import Pooling, recomputed
from zostudy.networks.rederived import derived
from zostudy.networks.shared_operations import (
    Chosen,
    NodeImages,
    Recompute,
    SharedDense,
    SharedPool,
    SharedReduction,
    SharedSeparable,
    rows_of,
)
from zostudy.networks.weights import Group, GroupWeights
from zostudy.registry import Component

#: For each edge that leaves the node and each operation, whether it is computed.
Active = Sequence[Sequence[bool]]


class Term(NamedTuple):
    """What an operation adds to the sum of an edge.

    Attributes:
        row: The edge, among those that leave the node.
        images: float[batch, channels, height, width].
        weight: Its weight, unless that is in the pictures.
        column: The operation.
    """

    row: int
    images: Tensor
    weight: Tensor | None = None
    column: int = 0


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

    Attributes:
        groups: Each operation with the edges that keep it; of an extension's, one edge a group.
        weights: Takes the weights of the groups out of those of the edges that leave the node.
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
            # An auxiliary column may hold an operation that the space has as well.
            again = any(operation.name == other.name for other in operations[:column])
            key = f"{operation.name}_auxiliary" if again else operation.name
            if rows:
                self._add(operation, key, column, rows)
        self.groups = [
            *(Group(*places, scales=True) for places in self._shared_rows.values()),
            *(Group(column, rows, scales=False) for _, column, rows in self._pools),
            *(Group(*places, scales=False) for places in self._identity),
            *(Group(column, [row], scales=False) for column, row in self._single_row.values()),
        ]
        every = [range(self.edges)] * len(self.groups)
        self.weights = GroupWeights(self.groups, every, len(operations), channels)

    def _add(self, operation: Component, key: str, column: int, rows: list[int]) -> None:

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
                    self.single[f"{key}_{row}"] = module()
                    self._single_row[f"{key}_{row}"] = (column, row)
        if shared is not None:
            self.shared[key] = shared
            self._shared_rows[key] = (column, rows)

    def forward(
        self,
        images: NodeImages,
        weights: Sequence[Tensor],
        active: Active | None = None,
    ) -> Iterator[Term]:
        """The terms of the mixed operations, as they come.

        Args:
            images: The node; it may be a view.
            weights: The mixing weights of each group; see `weights`.
            active: What is computed at all; everything that the mask leaves, if it is not given.
        """
        recompute = self.recompute if torch.is_grad_enabled() else "none"
        past_relu = images if recompute == "full" else None
        given = iter(zip(self.groups, weights, strict=True))
        for module, (group, scale) in zip(self.shared.values(), given, strict=False):
            rows, chosen = _active_rows(group, active)
            if not rows:
                continue
            past_relu = derived(functional.relu, images) if past_relu is None else past_relu
            if chosen is not None:
                scale = rows_of(scale.view(-1, self.channels), chosen).flatten()
            mixed = module(past_relu, scale, recompute, chosen)
            parts = torch.split(mixed, self.channels, dim=1)
            yield from (
                Term(row, p, None, group.column) for row, p in zip(rows, parts, strict=True)
            )
        for (pool, _, _), (group, weight) in zip(self._pools, given, strict=False):
            rows, chosen = _active_rows(group, active)
            if rows:
                terms = pool.terms(images, rows_of(weight, chosen), recompute)
                yield from (
                    Term(row, *term, group.column) for row, term in zip(rows, terms, strict=True)
                )
        for _, (group, weight) in zip(self._identity, given, strict=False):
            rows, chosen = _active_rows(group, active)
            of_rows = rows_of(weight, chosen).unbind()
            yield from (
                Term(row, images, own, group.column) for row, own in zip(rows, of_rows, strict=True)
            )
        for module, (group, weight) in zip(self.single.values(), given, strict=False):
            rows, _ = _active_rows(group, active)
            if rows:
                output = recomputed(module, images, when=recompute != "none")
                yield Term(rows[0], output, weight[0], group.column)

    def by_row(self) -> Iterator[tuple[int, list[int], list[nn.Parameter]]]:
        """Each kind of operation that has weights: its column, its rows and its parameters.

        A parameter holds an equal part for every row, one after the other.
        """
        for key, module in self.shared.items():
            yield (*self._shared_rows[key], [p for p in module.parameters() if p.numel()])
        for key, module in self.single.items():
            column, row = self._single_row[key]
            parameters = list(module.parameters())
            if parameters:
                yield column, [row], parameters

    @torch.no_grad()
    def inherit_(self, other: "NodeOperations") -> None:
        """Take over the weights of operations that are here and there.

        Args:
            other: The same node with these operations or more.
        """
        for key, module in self.shared.items():
            (_, rows), (_, others) = self._shared_rows[key], other._shared_rows[key]
            chosen = [others.index(row) for row in rows]
            theirs = dict(other.shared[key].named_parameters())
            for name, own in module.named_parameters():
                by_row = theirs[name].reshape(len(others), -1)
                own.copy_(by_row[chosen].reshape(own.shape))
        for key, module in self.single.items():
            module.load_state_dict(other.single[key].state_dict())

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


def _active_rows(group: Group, active: Active | None) -> tuple[list[int], Chosen]:
    """The rows that are computed, and their positions among all; none where these are all."""
    if active is None:
        return group.rows, None
    chosen = [place for place, row in enumerate(group.rows) if active[row][group.column]]
    rows = [group.rows[place] for place in chosen]
    return rows, None if len(chosen) == len(group.rows) else chosen
