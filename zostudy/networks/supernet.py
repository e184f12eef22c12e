"""The supernet: masked mixed operations, partial channels, edge normalisation.

Symbols:
    α    float[E, O] per cell type, architecture parameters
    β    float[E] per cell type, edge parameters (PC-DARTS)
    w    float[E, O], mixing weights: softmax over the unmasked operations of an edge, Eq. 1
    k    the mixed operation acts on 1/k of the channels

References:
    METHOD sections 1 to 3; Eq. 1 of the paper; PC-DARTS, section 3 (Xu et al. 2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.settings import SupernetSettings
from zostudy.networks.operations import FactorizedReduction, ReLUConvBN
from zostudy.networks.shared import NodeOperations, kaiming_normal_, recomputed
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

Pictures = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True)
class Mixing:
    """How the supernet mixes, per cell type.

    Attributes:
        operations: float[E, O], weight of every operation; 0 where masked.
        edges: float[E], weight of every edge.
    """

    operations: Mapping[str, Float[Tensor, "edges operations"]]
    edges: Mapping[str, Float[Tensor, " edges"]]


def masked_softmax(
    values: Float[Tensor, "edges operations"], mask: Bool[Tensor, "edges operations"]
) -> Float[Tensor, "edges operations"]:
    """Softmax over the unmasked entries of each row; exactly 0, with no gradient, elsewhere."""
    return values.masked_fill(~mask, -torch.inf).softmax(dim=1)


def edge_softmax(values: Float[Tensor, " edges"], space: SearchSpace) -> Float[Tensor, " edges"]:
    """Softmax over the edges that enter the same node (edges are ordered by target)."""
    incoming = [len(space.incoming(target)) for target in space.targets]
    return torch.cat([part.softmax(dim=0) for part in torch.split(values, incoming)])


class SearchCell(nn.Module):
    """A cell whose edges are masked mixed operations.

    Args:
        space: The search space.
        mask: bool[edge][operation] of the cell's type.
        in_channels: Channels of the two previous cells' outputs.
        channels: Channels of the nodes.
        partial: k of the partial channels.
        reduction: Whether the cell halves the picture.
        reduced: Whether the previous cell halved it.
        recompute: Whether its operations are computed again, one kind at a time, in the backward
            pass.
        extensions: Modules that may declare further operations.
    """

    def __init__(  # noqa: PLR0913  # what a cell is made of
        self,
        space: SearchSpace,
        mask: tuple[tuple[bool, ...], ...],
        *,
        in_channels: tuple[int, int],
        channels: int,
        partial: int,
        reduction: bool,
        reduced: bool,
        recompute: bool = False,
        extensions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.space = space
        self.channels = channels
        self.partial = partial
        self.reduction = reduction
        before = FactorizedReduction if reduced else ReLUConvBN
        self.preprocess = nn.ModuleList(
            [
                before(in_channels[0], channels, affine=False),
                ReLUConvBN(in_channels[1], channels, affine=False),
            ]
        )
        self.outgoing = {
            source: [e for e, edge in enumerate(space.edges) if edge[0] == source]
            for source in range(space.inputs + space.nodes - 1)
        }
        self.nodes = nn.ModuleList(
            NodeOperations(
                space.operations,
                [mask[edge] for edge in edges],
                channels // partial,
                2 if self._halves(source) else 1,
                recompute=recompute,
                extensions=extensions,
            )
            for source, edges in self.outgoing.items()
        )

    def _halves(self, source: int) -> bool:
        return self.reduction and source < self.space.inputs

    def forward(
        self,
        previous: tuple[Pictures, Pictures],
        weights: Float[Tensor, "edges operations"],
        edge_weights: Float[Tensor, " edges"],
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The concatenated intermediate nodes."""
        weights = weights * edge_weights[:, None]
        states = [
            preprocess(images) for preprocess, images in zip(self.preprocess, previous, strict=True)
        ]
        totals: dict[int, Tensor] = {}
        bypass: list[Tensor] = []
        for source in range(self.space.inputs):
            self._leave(source, states[source], weights, totals, bypass)
        for target in self.space.targets:
            states.append(self._node(target, totals, bypass, edge_weights, states[0]))
            if target in self.outgoing:
                self._leave(target, states[target], weights, totals, bypass)
        return torch.cat(states[self.space.inputs :], dim=1)

    def _leave(
        self,
        source: int,
        state: Tensor,
        weights: Tensor,
        totals: dict[int, Tensor],
        bypass: list[Tensor],
    ) -> None:
        """Add what leaves a node to the nodes it enters; keep its bypassing channels."""
        active = self.channels // self.partial
        edges = self.outgoing[source]
        for edge, output in zip(
            edges, self.nodes[source](state[:, :active], weights[edges]), strict=True
        ):
            if output is not None:
                target = self.space.edges[edge][1]
                totals[target] = totals[target] + output if target in totals else output
        if self.partial > 1:
            rest = state[:, active:]
            if self._halves(source):
                rest = functional.max_pool2d(rest, 2, 2, ceil_mode=True)
            bypass.append(rest)

    def _node(
        self,
        target: int,
        totals: dict[int, Tensor],
        bypass: list[Tensor],
        edge_weights: Tensor,
        first: Tensor,
    ) -> Tensor:
        """A node: the sum of its mixed operations beside the weighted bypassing channels."""
        node = totals.pop(target, None)
        if node is None:  # every edge keeps only the zero operation
            stride = 2 if self.reduction else 1
            node = torch.zeros_like(first[:, : self.channels // self.partial, ::stride, ::stride])
        if self.partial == 1:
            return node
        rest = _weighted(bypass, edge_weights[list(self.space.incoming(target))])
        return functional.channel_shuffle(torch.cat([node, rest], dim=1), self.partial)


def _weighted(
    bypass: Sequence[Tensor], edge_weights: Float[Tensor, " incoming"]
) -> Float[Tensor, "batch channels height width"]:
    """The bypassing channels of the nodes before one, weighted by the edges that enter it."""
    result = edge_weights[0] * bypass[0]
    for weight, images in zip(edge_weights[1:], bypass[1:], strict=True):
        result = torch.addcmul(result, weight, images)
    return result


class Supernet(nn.Module):
    """The network of all candidate operations that a mask leaves.

    A masked operation is never built. α and β keep the shape of the full search space.

    Args:
        space: The search space.
        mask: What remains of it.
        settings: Size, partial channels and edge normalisation.
        in_channels: Channels of the pictures.
        classes: Number of classes.
        recompute: What the backward pass computes again instead of keeping it: ``none``,
            ``partial`` for the cells, ``full`` for the cells and, inside them, the operations.
        extensions: Modules that may declare further operations.
    """

    def __init__(  # what a supernet is made of
        self,
        space: SearchSpace,
        mask: OperationMask,
        settings: SupernetSettings,
        *,
        in_channels: int,
        classes: int,
        recompute: Literal["none", "partial", "full"] = "none",
        extensions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.space = space
        self.mask = mask
        self.sequence = space.cell_sequence(settings.cells)
        channels = settings.channels
        stem = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem, track_running_stats=False),
        )
        self.cells = nn.ModuleList()
        widths, reduced = (stem, stem), False
        for kind in self.sequence:
            reduction = kind in space.reduction_types
            channels *= 2 if reduction else 1
            cell = SearchCell(
                space,
                mask.rows[kind],
                in_channels=widths,
                channels=channels,
                partial=settings.partial_channels,
                reduction=reduction,
                reduced=reduced,
                recompute=recompute == "full",
                extensions=extensions,
            )
            self.cells.append(cell)
            widths, reduced = (widths[1], channels * space.nodes), reduction
        self.classifier = nn.Linear(widths[1], classes)
        edges, operations = len(space.edges), len(space.operations)
        self.alpha = nn.ParameterDict(
            {kind: torch.zeros(edges, operations) for kind in space.cell_types}
        )
        self.beta = nn.ParameterDict(
            {kind: torch.zeros(edges) for kind in space.cell_types}
            if settings.edge_normalization
            else {}
        )
        for kind in space.cell_types:
            self.register_buffer(f"mask_{kind}", torch.tensor(mask.rows[kind]), persistent=False)
        for module in self.modules():
            if isinstance(module, NodeOperations):
                module.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def mask_of(self, kind: str) -> Bool[Tensor, "edges operations"]:
        """The mask of a cell type as a tensor."""
        return self.get_buffer(f"mask_{kind}")

    def architecture_parameters(self) -> list[nn.Parameter]:
        """α and β."""
        return [*self.alpha.values(), *self.beta.values()]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Every parameter but α and β."""
        architecture = {id(parameter) for parameter in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    def mixing(self) -> Mixing:
        """The mixing weights of α and β."""
        operations = {
            kind: masked_softmax(alpha, self.mask_of(kind)) for kind, alpha in self.alpha.items()
        }
        edges = {
            kind: edge_softmax(self.beta[kind], self.space)
            if kind in self.beta
            else torch.ones_like(alpha[:, 0])
            for kind, alpha in self.alpha.items()
        }
        return Mixing(operations, edges)

    def forward(
        self, images: Pictures, mixing: Mixing | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits.

        Args:
            images: A batch of pictures.
            mixing: Mixing weights in place of those of α and β.
        """
        mixing = mixing or self.mixing()
        stem = self.stem(images.contiguous(memory_format=torch.channels_last))
        previous = (stem, stem)
        for kind, cell in zip(self.sequence, self.cells, strict=True):
            output = recomputed(
                cell,
                previous,
                mixing.operations[kind],
                mixing.edges[kind],
                when=self.recompute != "none",
            )
            previous = (previous[1], output)
        return self.classifier(previous[1].mean(dim=(2, 3)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialize_architecture_(self, generator: torch.Generator) -> None:
        """Draw unmasked α from N(0, 10⁻⁶); β starts at 0, masked α stay 0 (DARTS, section 3.1)."""
        for kind, alpha in self.alpha.items():
            drawn = 1e-3 * torch.randn(alpha.shape, generator=generator)
            alpha.copy_(drawn.to(alpha.device) * self.mask_of(kind))

    @torch.no_grad()
    def kaiming_normal_(self, generator: torch.Generator) -> None:
        """Initialise every weight for zero-shot scores (METHOD section 5)."""
        kaiming_normal_(self, generator)
        for module in self.modules():
            if isinstance(module, NodeOperations):
                module.kaiming_normal_(generator)
