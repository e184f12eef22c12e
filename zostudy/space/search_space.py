"""Topology and candidate operations of a cell, and the network around its cells, as data.

Symbols:
    E   edges of a cell, ordered by target node, then by source node
    O   candidate operations of an edge
    (i, j)  the edge from node i to node j; nodes 0 .. inputs-1 are the cell's inputs
"""

import abc
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from zostudy.registry import Component, Kind, find

#: The (operation, source) pairs of an intermediate node.
Node = tuple[tuple[str, int], ...]

#: For each cell type, its intermediate nodes.
Cells = Mapping[str, tuple[Node, ...]]

_STAGES = 3


class Notation(abc.ABC):
    """How public code writes the architectures of a search space as text."""

    @property
    @abc.abstractmethod
    def opening(self) -> str:
        """What every text in this notation begins with."""

    @abc.abstractmethod
    def write(self, cells: Cells, space: "SearchSpace") -> str:
        """The text of an architecture."""

    @abc.abstractmethod
    def read(self, text: str, space: "SearchSpace") -> Cells:
        """The architecture in a text; whether it fits the space is not looked at.

        Raises:
            ArchitectureError: The text is not in this notation.
        """

    def read_document(
        self,
        data: Mapping[str, object],  # noqa: ARG002  # the interface
        space: "SearchSpace",  # noqa: ARG002  # the interface
    ) -> Cells | None:
        """The architecture in a JSON object as public code writes it; nothing if it is another.

        Raises:
            ArchitectureError: It says what the space has not.
        """
        return None


@dataclass(frozen=True)
class Skeleton:
    """The network around its cells.

    Attributes:
        halving: What halves the picture and doubles the channels. ``cells``: cells of the
            reduction types, at one third and two thirds of the depth; every cell brings its inputs
            to its channels by ReLU, 1×1 convolution and BN. ``blocks``: a residual block of
            stride 2 before the second and the third of three stages of as many cells; cells read
            their input as it is.
        stem: Channels of the stem, in multiples of the first cells' channels.
        head: What stands before global average pooling: nothing (``pool``), or BN and ReLU
            (``norm``).
    """

    halving: Literal["cells", "blocks"] = "cells"
    stem: int = 3
    head: Literal["pool", "norm"] = "pool"


@dataclass(frozen=True)
class Position:
    """One cell of a network.

    Attributes:
        kind: Its type.
        width: Channels of its nodes, in multiples of the first cells' channels.
        halves: Whether it, or the residual block before it, halves the picture.
    """

    kind: str
    width: int
    halves: bool


@dataclass(frozen=True)
class SearchSpace:
    """A cell-based search space.

    Attributes:
        name: The name that study files and genotypes carry.
        cell_types: Names of the cell types, each with its own mask and architecture parameters.
        reduction_types: The cell types that halve the picture and double the channels.
        inputs: Input nodes of a cell: the outputs of as many previous cells.
        nodes: Intermediate nodes of a cell.
        operations: Candidate operations of every edge, in the order of the columns of α and mask.
        zero: The operation that is no operation.
        kept_edges: Incoming edges that a genotype keeps for each intermediate node.
        keeps_zero: Whether a genotype may keep the zero operation.
        identity: The operation that hands its input on where the stride is 1, if there is one.
        registered: Operations that are registered under another name, with that name.
        output: What a cell gives: its ``nodes`` side by side, or the ``last`` one.
        skeleton: The network around the cells.
        notation: How public code writes architectures, if there is a way.
        extensions: Modules of the study that may declare further components; the study file's, so
            that whatever knows the space finds them.

    Raises:
        ValueError: The parts do not fit each other.
    """

    name: str
    cell_types: tuple[str, ...]
    reduction_types: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]
    zero: str
    kept_edges: int | Literal["all"]
    keeps_zero: bool = False
    identity: str | None = None
    registered: tuple[tuple[str, str], ...] = ()
    output: Literal["nodes", "last"] = "nodes"
    skeleton: Skeleton = Skeleton()
    notation: Notation | None = None
    extensions: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        blocks = self.skeleton.halving == "blocks"
        if blocks and (self.inputs, self.output, self.skeleton.stem) != (1, "last", 1):
            raise ValueError(
                f"search space {self.name!r}: between residual blocks, cells have one input, "
                "their last node as output, and the stem's channels"
            )
        if blocks and self.reduction_types:
            raise ValueError(
                f"search space {self.name!r}: residual blocks leave reduction types nothing to do"
            )

    @functools.cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Every edge (source, target), in the order of the rows of α and mask."""
        return tuple(
            (source, target)
            for target in range(self.inputs, self.inputs + self.nodes)
            for source in range(target)
        )

    @functools.cached_property
    def targets(self) -> tuple[int, ...]:
        """The intermediate nodes."""
        return tuple(range(self.inputs, self.inputs + self.nodes))

    def incoming(self, target: int) -> tuple[int, ...]:
        """Indices of the edges that enter a node."""
        return tuple(index for index, edge in enumerate(self.edges) if edge[1] == target)

    def kept(self, target: int) -> int:
        """How many of the edges that enter a node a genotype keeps."""
        return target if self.kept_edges == "all" else self.kept_edges

    @property
    def ranks_edges(self) -> bool:
        """Whether a genotype leaves edges out."""
        return any(self.kept(target) < len(self.incoming(target)) for target in self.targets)

    @functools.cached_property
    def keepable(self) -> tuple[str, ...]:
        """The operations that a genotype may keep."""
        return tuple(o for o in self.operations if self.keeps_zero or o != self.zero)

    def component(self, operation: str) -> str:
        """The name under which an operation is registered."""
        return dict(self.registered).get(operation, operation)

    def find(self, kind: Kind, name: str, place: str) -> Component:
        """The component of that name, zostudy's own or an extension's.

        Raises:
            ConfigError: No such component; the message begins with the place that named it.
        """
        return find(kind, name, place, self.extensions)

    def operation(self, name: str) -> Component:
        """The component of a candidate operation."""
        return self.find("operation", self.component(name), "search_space.operations")

    def learns(self, name: str) -> bool:
        """Whether a candidate operation counts as one that has weights to learn."""
        return bool(self.operation(name).facts.get("learns", True))

    @property
    def zero_index(self) -> int:
        """Column of the zero operation."""
        return self.operations.index(self.zero)

    @property
    def size(self) -> int:
        """Operations of the whole space, over all cell types."""
        return len(self.cell_types) * len(self.edges) * len(self.operations)

    @property
    def projects(self) -> bool:
        """Whether cells bring their inputs to their channels by ReLU, convolution and BN."""
        return self.skeleton.halving == "cells"

    @property
    def outputs(self) -> int:
        """How many nodes a cell gives."""
        return self.nodes if self.output == "nodes" else 1

    def stride(self, kind: str, source: int) -> int:
        """The stride of the edges that leave a node of a cell of some type."""
        return 2 if kind in self.reduction_types and source < self.inputs else 1

    def node_name(self, node: int) -> str:
        """A node in text: ``c-1`` for the previous cell, ``n0`` for the first node."""
        return f"{'c' if node < self.inputs else 'n'}{node - self.inputs}"

    def layout(self, cells: int) -> tuple[Position, ...]:
        """The cells of a network in order.

        Args:
            cells: Number of cells, at least 1; a stage's where residual blocks part stages.

        References:
            docs/method.md, section 1; DARTS, section 3.1 (Liu et al. 2018); NAS-Bench-201, section
            2.1 (Dong and Yang 2020).
        """
        normal = next(kind for kind in self.cell_types if kind not in self.reduction_types)
        if self.skeleton.halving == "blocks":
            return tuple(
                Position(normal, 2**stage, halves=stage > 0 and index == 0)
                for stage in range(_STAGES)
                for index in range(cells)
            )
        places = {cells // 3, 2 * cells // 3} if cells > 1 and self.reduction_types else set()
        found, width = [], 1
        for index in range(cells):
            width *= 2 if index in places else 1
            kind = self.reduction_types[0] if index in places else normal
            found.append(Position(kind, width, halves=index in places))
        return tuple(found)


def search_space(name: str, extensions: tuple[str, ...] = ()) -> SearchSpace:
    """The search space registered under a name.

    Args:
        name: Its name.
        extensions: Modules that may declare it, and whatever else is found for it.

    Raises:
        ConfigError: There is none of that name.
    """
    space = find("search_space", name, "search_space.name", extensions).load()()
    if not isinstance(space, SearchSpace):
        raise TypeError(f"search space {name!r} must be a SearchSpace, not {type(space).__name__}")
    return replace(space, extensions=extensions)
