"""The supernet: masked mixed operations, partial channels, edge normalisation.

Symbols:
    α    float[E, O] per cell type, architecture parameters
    β    float[E] per cell type, edge parameters (PC-DARTS)
    w    float[E, O], mixing weights: softmax over the unmasked operations of an edge, Eq. 1
    k    the mixed operation acts on 1/k of the channels

References:
    METHOD sections 1 to 3; Eq. 1 of the paper; PC-DARTS, section 3 (Xu et al. 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.settings import SupernetSettings
from zostudy.networks.operations import FactorizedReduction, ReLUConvBN
from zostudy.networks.shared import NodeOperations, kaiming_normal_
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
                extensions,
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
        mixed: dict[int, Tensor | None] = {}
        bypass: dict[int, Tensor] = {}
        active = self.channels // self.partial
        for source in range(self.space.inputs):
            self._leave(source, states[source], weights, mixed, bypass)
        for target in self.space.targets:
            edges = self.space.incoming(target)
            shape = _output_shape(states, self.reduction)
            node = _sum([mixed.pop(edge) for edge in edges], shape, active, states[0])
            if self.partial > 1:
                rest = _weighted(bypass, self.space, edges, edge_weights)
                node = functional.channel_shuffle(torch.cat([node, rest], dim=1), self.partial)
            states.append(node)
            if target in self.outgoing:
                self._leave(target, node, weights, mixed, bypass)
        return torch.cat(states[self.space.inputs :], dim=1)

    def _leave(
        self,
        source: int,
        state: Tensor,
        weights: Tensor,
        mixed: dict[int, Tensor | None],
        bypass: dict[int, Tensor],
    ) -> None:
        """Compute what leaves a node: its mixed operations and its bypassing channels."""
        active = self.channels // self.partial
        edges = self.outgoing[source]
        outputs = self.nodes[source](state[:, :active], weights[edges])
        mixed.update(zip(edges, outputs, strict=True))
        if self.partial > 1:
            rest = state[:, active:]
            if self._halves(source):
                rest = functional.max_pool2d(rest, 2, 2, ceil_mode=True)
            bypass[source] = rest


def _output_shape(states: list[Tensor], reduction: bool) -> tuple[int, int]:
    height, width = states[0].shape[-2:]
    return ((height + 1) // 2, (width + 1) // 2) if reduction else (height, width)


def _sum(parts: list[Tensor | None], shape: tuple[int, int], channels: int, like: Tensor) -> Tensor:
    """The sum of the edges' outputs; zeros where every edge keeps only ``none``."""
    present = [part for part in parts if part is not None]
    if not present:
        return like.new_zeros(like.shape[0], channels, *shape)
    result = present[0]
    for part in present[1:]:
        result = result + part
    return result


def _weighted(
    bypass: Mapping[int, Tensor],
    space: SearchSpace,
    edges: tuple[int, ...],
    edge_weights: Float[Tensor, " edges"],
) -> Tensor:
    """The bypassing channels of the edges that enter a node, weighted."""
    first, *others = edges
    result = edge_weights[first] * bypass[space.edges[first][0]]
    for edge in others:
        result = torch.addcmul(result, edge_weights[edge], bypass[space.edges[edge][0]])
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
        extensions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
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
            output = cell(previous, mixing.operations[kind], mixing.edges[kind])
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
