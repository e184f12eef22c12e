"""Topology and candidate operations of a cell, as data.

Symbols:
    E   edges of a cell, ordered by target node, then by source node
    O   candidate operations of an edge
    (i, j)  the edge from node i to node j; nodes 0 .. inputs-1 are the cell's inputs
"""

import functools
from dataclasses import dataclass

from zostudy.registry import find


@dataclass(frozen=True)
class SearchSpace:
    """A cell-based search space.

    Attributes:
        name: The name that study files and genotypes carry.
        cell_types: Names of the cell types, each with its own mask and architecture parameters.
        reduction_types: The cell types that halve the picture and double the channels.
        inputs: Input nodes of a cell.
        nodes: Intermediate nodes of a cell.
        operations: Candidate operations of every edge, in the order of the columns of α and mask.
        zero: The operation that is no operation (it can not be kept in a genotype).
        kept_edges: Incoming edges that a genotype keeps for each intermediate node.
    """

    name: str
    cell_types: tuple[str, ...]
    reduction_types: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]
    zero: str
    kept_edges: int

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

    @property
    def zero_index(self) -> int:
        """Column of the zero operation."""
        return self.operations.index(self.zero)

    @property
    def size(self) -> int:
        """Operations of the whole space, over all cell types."""
        return len(self.cell_types) * len(self.edges) * len(self.operations)

    def cell_sequence(self, cells: int) -> tuple[str, ...]:
        """The type of each cell of a network, reductions at one third and two thirds.

        Args:
            cells: Number of cells, at least 1.

        References:
            METHOD section 1; DARTS, section 3.1 (Liu et al. 2018).
        """
        normal = next(kind for kind in self.cell_types if kind not in self.reduction_types)
        reduction = next(iter(self.reduction_types), normal)
        places = {cells // 3, 2 * cells // 3} if cells > 1 else set()
        return tuple(reduction if index in places else normal for index in range(cells))


def search_space(name: str, extensions: tuple[str, ...] = ()) -> SearchSpace:
    """The search space registered under a name.

    Raises:
        ConfigError: There is none of that name.
    """
    space = find("search_space", name, "search_space.name", extensions).load()()
    if not isinstance(space, SearchSpace):
        raise TypeError(f"search space {name!r} must be a SearchSpace, not {type(space).__name__}")
    return space
