"""The supernet: masked mixed operations, partial channels, edge normalization.

Symbols:
    α    float[E, O] per cell type, architecture parameters
    β    float[E] per cell type, edge parameters (PC-DARTS)
    w    float[E, O], mixing weights: softmax over the unmasked operations of an edge, Eq. 1
    k    the mixed operation acts on 1/k of the channels

References:
    docs/method.md, sections 1 to 3; Eq. 1 of the paper; PC-DARTS, section 3 (Xu et al. 2019).
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.settings import SupernetSettings
from zostudy.networks import skeleton
from zostudy.networks.channel_splits import attended, splitter
from zostudy.networks.mixing import CellMixing, Mixing, edge_softmax, masked_softmax
from zostudy.networks.node_operations import NodeOperations
from zostudy.networks.node_sums import NodeSums, add_terms, dropped, spread
from zostudy.networks.operations import kaiming_normal_
from zostudy.networks.recompute import recomputed
from zostudy.networks.rederived import derived, rederiving
from zostudy.networks.shared_operations import Recompute
from zostudy.networks.weights import Group, GroupWeights, NodeWeights
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

Images = Float[Tensor, "batch channels height width"]

#: What a cell hands on: its outputs where they are joined again for the backward pass, or where
#: cells read them as they are; otherwise the single tensor that `_joined` makes of them.
Outputs = tuple[Images, ...]


class SearchCell(nn.Module):
    """A cell whose edges are masked mixed operations.

    Args:
        space: The search space.
        kind: The cell's type.
        mask: bool[edge, operation] of that type.
        entrance: What brings each input to the cell's channels.
        channels: Channels of the nodes.
        partial: k of the partial channels.
        split: Gives, for a number of channels, what splits them; see `channel_splits`.
        halves: Whether the picture is half the size of the previous cell's.
        auxiliary: Operations behind those of the space, on every edge; see `Supernet`.
        recompute: What the backward pass computes again; see `Supernet`.
    """

    def __init__(  # noqa: PLR0913  # what a cell is made of
        self,
        space: SearchSpace,
        kind: str,
        mask: tuple[tuple[bool, ...], ...],
        entrance: nn.ModuleList,
        *,
        channels: int,
        partial: int,
        split: Callable[[int], nn.Module | None],
        halves: bool,
        auxiliary: Sequence[str] = (),
        recompute: Recompute = "none",
    ) -> None:
        super().__init__()
        self.space = space
        self.kind = kind
        self.channels = channels
        self.partial = partial
        self.halves = halves
        self.recompute = recompute
        self.preprocess = entrance
        self.outgoing = {
            source: [e for e, edge in enumerate(space.edges) if edge[0] == source]
            for source in range(space.inputs + space.nodes - 1)
        }
        self.nodes = nn.ModuleList(
            NodeOperations(
                [space.operation(name) for name in (*space.operations, *auxiliary)],
                [(*mask[edge], *(True for _ in auxiliary)) for edge in edges],
                channels // partial,
                space.stride(kind, source),
                # An input node is computed again as a whole, its operations with it.
                recompute="none" if recompute == "full" and source < space.inputs else recompute,
            )
            for source, edges in self.outgoing.items()
        )
        splits = {str(source): split(channels) for source in self.outgoing if partial > 1}
        self.splits = nn.ModuleDict({name: own for name, own in splits.items() if own is not None})
        by_node: list[list[Group]] = [node.groups for node in self.nodes]  # type: ignore[misc]
        self._groups = [len(groups) for groups in by_node]
        groups = [(group, source) for source, own in enumerate(by_node) for group in own]
        self.weights = GroupWeights(
            [group for group, _ in groups],
            [self.outgoing[source] for _, source in groups],
            len(space.operations) + len(auxiliary),
            channels // partial,
        )

    def forward(
        self,
        previous: tuple[Outputs, ...],
        mixing: CellMixing,
        taken: dict[str, Float[Tensor, " places"]],
    ) -> tuple[Images, ...]:
        """The cell's outputs: its intermediate nodes, or the last of them.

        Args:
            previous: What earlier cells hand on.
            mixing: How it mixes.
            taken: By cell type, the weights of all that is computed, those of the edges in them,
                where another cell that mixes alike has taken them; this one's are added.
        """
        if self.kind not in taken:
            matrix = mixing.operations * mixing.edges[:, None]
            taken[self.kind] = self.weights.taken(matrix)
        given = iter(self.weights.parted(taken[self.kind]))
        edges = mixing.edges.unbind() if self.partial > 1 else ()
        weights = [
            NodeWeights(
                list(itertools.islice(given, count)),
                [edges[edge] for edge in self.outgoing[source]] if edges else [],
            )
            for source, count in enumerate(self._groups)
        ]
        sums = NodeSums({}, {})
        for source, outputs in enumerate(previous):
            if self.recompute == "full":
                entering = recomputed(self._enter, source, outputs, weights[source], mixing)
                sums.add(entering)
            else:
                state = recomputed(
                    self._preprocessed, source, outputs, when=self.recompute != "none"
                )
                self._leave(source, state, weights[source], mixing, sums)
        nodes = []
        for target in self.space.targets:
            node = self._node(target, sums, previous[-1])
            nodes.append(node)
            if target in self.outgoing:
                self._leave(target, node, weights[target], mixing, sums)
        return tuple(nodes if self.space.output == "nodes" else nodes[-1:])

    def _preprocessed(self, source: int, outputs: Outputs) -> Images:
        """An input node."""
        if not self.space.projects:
            return self.preprocess[source](outputs[0])  # type: ignore[no-any-return]
        active = outputs[0] if self.recompute == "none" else _joined(*outputs)
        return self.preprocess[source](active, True)  # type: ignore[no-any-return]

    def _enter(
        self, source: int, outputs: Outputs, weights: NodeWeights, mixing: CellMixing
    ) -> NodeSums:
        """What an input node adds to the nodes behind it."""
        sums = NodeSums({}, {})
        state = self._preprocessed(source, outputs)
        self._leave(source, state, weights, mixing, sums)
        return sums

    def _leave(
        self,
        source: int,
        state: Images,
        weights: NodeWeights,
        mixing: CellMixing,
        sums: NodeSums,
    ) -> None:
        """Add what leaves a node to the nodes that it enters."""
        edges = self.outgoing[source]
        targets = [self.space.edges[edge][1] for edge in edges]
        active, places = state, None
        if self.partial > 1:
            active, places = self._bypass(source, state, weights.bypass, sums)
        mixed = sums.mixed if places is None else {}
        computed = [mixing.active[edge] for edge in edges] if mixing.active else None
        terms = self.nodes[source](active, weights.groups, computed)
        if mixing.drop:
            terms = dropped(terms, mixing.drop, mixing.cell, edges)
        add_terms(mixed, terms, active, targets)
        if places is not None:
            sums.place(mixed, places)

    def _bypass(
        self, source: int, state: Images, weights: Sequence[Tensor], sums: NodeSums
    ) -> tuple[Images, Tensor | None]:
        """Add what bypasses a node's operations; gives the channels that these act on.

        Where a module has split the channels, it gives the places of these as well.
        """
        part, stride = self.channels // self.partial, self.space.stride(self.kind, source)
        targets = [self.space.edges[edge][1] for edge in self.outgoing[source]]
        if str(source) in self.splits:
            split = attended(state, self.splits[str(source)], part, stride)
            spread(sums.mixed, targets, split.rest, [w * split.passing for w in weights])
            return split.active, split.places
        active, rest = torch.split(state, [part, self.channels - part], dim=1)
        if self.nodes[source].recompute == "none":  # dense once for every operation
            active = active.clone()
        if stride == 2:
            rest = functional.max_pool2d(rest, 2, 2, ceil_mode=True)
        spread(sums.bypassing, targets, rest, weights)
        return active, None

    def _node(self, target: int, sums: NodeSums, last: Outputs) -> Images:
        """A node: the sum of its mixed operations beside that of its bypassing channels."""
        node = sums.mixed.pop(target, None)
        if node is None:  # every edge keeps only the zero operation
            stride = 2 if self.halves else 1
            batch, _, *side = last[0].shape
            sides = [-(-length // stride) for length in side]
            node = last[0].new_zeros(batch, self.channels // self.partial, *sides)
        if self.partial == 1 or self.splits:
            return node
        both = torch.cat([node, sums.bypassing.pop(target)], dim=1)
        return functional.channel_shuffle(both, self.partial)


def _joined(*outputs: Images) -> Images:
    """What the next cells read of a cell: its outputs side by side, past ReLU."""
    return functional.relu(torch.cat(outputs, dim=1), inplace=True)


class Supernet(nn.Module):
    """The network of all candidate operations that a mask leaves.

    A masked operation is never built. α and β keep the shape of the full search space.

    Args:
        space: The search space.
        mask: What remains of it.
        settings: Size, partial channels and edge normalization.
        in_channels: Channels of the pictures.
        classes: Number of classes.
        recompute: What the backward pass computes again instead of keeping it. ``none``: nothing.
            ``partial``: what cells make of their inputs (ReLU, 1×1, BN, or residual blocks) and the
            convolutions inside operations; the cells' nodes, the nodes past ReLU and the pools are
            kept. ``full``: all
            but the cells' nodes, an input node with all that leaves it at a time.
        auxiliary: Operations that every edge has behind those of the space, outside α, mask and
            genotype; `Mixing.operations` has a column for each.
    """

    def __init__(  # what a supernet is made of
        self,
        space: SearchSpace,
        mask: OperationMask,
        settings: SupernetSettings,
        *,
        in_channels: int,
        classes: int,
        auxiliary: Sequence[str] = (),
        recompute: Recompute = "none",
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.space = space
        self.mask = mask
        layout = space.layout(settings.cells)
        split = splitter(space, settings.channel_split)
        self.sequence = tuple(position.kind for position in layout)
        self.stem = skeleton.stem(space, in_channels, settings.channels, searched=True)
        self.cells = nn.ModuleList()
        widths, halved = (space.skeleton.stem * settings.channels,) * space.inputs, False
        for position in layout:
            channels = position.width * settings.channels
            entrance = skeleton.entrance(
                space, widths, channels, halves=position.halves, halved=halved, searched=True
            )
            cell = SearchCell(
                space,
                position.kind,
                mask.rows[position.kind],
                entrance,
                channels=channels,
                partial=settings.partial_channels,
                split=split,
                halves=position.halves,
                auxiliary=auxiliary,
                recompute=recompute,
            )
            self.cells.append(cell)
            widths, halved = (*widths[1:], channels * space.outputs), position.halves
        self.head = skeleton.head(space, widths[-1], searched=True)
        self.classifier = nn.Linear(widths[-1], classes)
        self._declare_architecture(settings.edge_normalization)
        for module in self.modules():
            if isinstance(module, NodeOperations):
                module.reset_parameters()
        self.to(memory_format=torch.channels_last)

    def _declare_architecture(self, edge_normalization: bool) -> None:
        """α, β where edges are weighed, and the mask of each cell type."""
        space = self.space
        edges, operations = len(space.edges), len(space.operations)
        self.alpha = nn.ParameterDict(
            {kind: torch.zeros(edges, operations) for kind in space.cell_types}
        )
        self.beta = nn.ParameterDict(
            {kind: torch.zeros(edges) for kind in space.cell_types} if edge_normalization else {}
        )
        for kind in space.cell_types:
            self.register_buffer(
                f"mask_{kind}", torch.tensor(self.mask.rows[kind]), persistent=False
            )

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
        """The mixing weights of α and β, Eq. 1 of the paper."""
        operations = {
            kind: masked_softmax(alpha, self.mask_of(kind)) for kind, alpha in self.alpha.items()
        }
        return Mixing(operations, self.edge_weights())

    def edge_weights(self) -> dict[str, Float[Tensor, " edges"]]:
        """The weight of every edge by cell type: softmax of β, or 1 without β."""
        return {
            kind: edge_softmax(self.beta[kind], self.space)
            if kind in self.beta
            else torch.ones_like(alpha[:, 0])
            for kind, alpha in self.alpha.items()
        }

    def forward(
        self, images: Images, mixing: Mixing | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits.

        Args:
            images: A batch of pictures.
            mixing: Mixing weights in place of those of α and β.
        """
        mixing = mixing or self.mixing()
        again = self.recompute != "none"
        images = images.contiguous(memory_format=torch.channels_last)
        stem = recomputed(self.stem, images, when=again)
        as_they_are = again or not self.space.projects
        first: Outputs = (stem if as_they_are else functional.relu(stem, inplace=True),)
        previous, outputs = (first,) * self.space.inputs, first
        shared: dict[str, Tensor] = {}
        with rederiving(bool(mixing.active) and not again):
            for number, (kind, cell) in enumerate(zip(self.sequence, self.cells, strict=True)):
                alike = {} if mixing.offsets else shared  # without them cells of a type mix alike
                outputs = cell(previous, mixing.of(number, kind), alike)
                last = cell is self.cells[-1]
                handed_on = outputs if as_they_are or last else (derived(_joined, *outputs),)
                previous = (*previous[1:], handed_on)
        if len(self.head):
            outputs = (recomputed(self.head, skeleton.concatenated(outputs), when=again),)
        pooled = torch.cat([output.mean(dim=(2, 3)) for output in outputs], dim=1)
        return self.classifier(pooled)  # type: ignore[no-any-return]

    @torch.no_grad()
    def inherit_(self, other: "Supernet") -> None:
        """Take over weights, α and β of a supernet of the same size with these operations or more.

        Args:
            other: The supernet.
        """
        theirs = other.state_dict()
        for name, own in self.state_dict().items():
            if ".nodes." not in name:
                own.copy_(theirs[name])
        for cell, before in zip(self.cells, other.cells, strict=True):
            for node, old in zip(cell.nodes, before.nodes, strict=True):  # type: ignore[arg-type]
                node.inherit_(old)

    @torch.no_grad()
    def initialize_architecture_(self, generator: torch.Generator) -> None:
        """Draw unmasked α from N(0, 10⁻⁶); β starts at 0, masked α stay 0 (DARTS, section 3.1)."""
        for kind, alpha in self.alpha.items():
            drawn = 1e-3 * torch.randn(alpha.shape, generator=generator)
            alpha.copy_(drawn.to(alpha.device) * self.mask_of(kind))

    @torch.no_grad()
    def kaiming_normal_(self, generator: torch.Generator) -> None:
        """Initialize every weight for zero-shot scores (docs/method.md, section 5)."""
        kaiming_normal_(self, generator)
        for module in self.modules():
            if isinstance(module, NodeOperations):
                module.kaiming_normal_(generator)
