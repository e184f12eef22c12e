"""Architectures that a mask leaves: counted, or one after the other.

Symbols:
    n_j  incoming edges that node j keeps
    k_i  operations left on edge i that a genotype may keep
    N    architectures: Π_j Σ over choices of n_j of the node's edges, of Π_i k_i
"""

import itertools
import math
from collections.abc import Iterator

from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import Node, SearchSpace


def count(mask: OperationMask) -> int:
    """How many architectures a mask leaves, N; without listing them."""
    return math.prod(
        sum(
            math.prod(len(_kept(mask, kind, edge)) for edge in chosen)
            for chosen in choices(mask, target)
        )
        for kind in mask.space.cell_types
        for target in mask.space.targets
    )


def genotypes(mask: OperationMask) -> Iterator[Genotype]:
    """Every architecture that a mask leaves, each once, in a fixed order."""
    for nodes in itertools.product(*_ways(mask)):
        yield _of_nodes(nodes, mask.space)


def _ways(mask: OperationMask) -> list[Iterator[Node]]:
    """Every way to make each node, by cell types."""
    space = mask.space
    return [_nodes(mask, kind, target) for kind in space.cell_types for target in space.targets]


def _of_nodes(nodes: tuple[Node, ...], space: SearchSpace) -> Genotype:
    starts = range(0, len(nodes), space.nodes)
    cells = [nodes[start : start + space.nodes] for start in starts]
    return Genotype(space, dict(zip(space.cell_types, cells, strict=True)))


def choices(mask: OperationMask, target: int) -> Iterator[tuple[int, ...]]:
    """Every choice of as many incoming edges as a node keeps."""
    return itertools.combinations(mask.space.incoming(target), mask.space.kept(target))


def operations(mask: OperationMask, kind: str, target: int) -> dict[int, list[str]]:
    """For each incoming edge of a node, the operations left that a genotype may keep."""
    return {edge: _kept(mask, kind, edge) for edge in mask.space.incoming(target)}


def _kept(mask: OperationMask, kind: str, edge: int) -> list[str]:
    space, row = mask.space, mask.rows[kind][edge]
    named = zip(space.operations, row, strict=True)
    return [name for name, kept in named if kept and name in space.keepable]


def _nodes(mask: OperationMask, kind: str, target: int) -> Iterator[Node]:
    """Every way to make a node."""
    for chosen in choices(mask, target):
        sources = [mask.space.edges[edge][0] for edge in chosen]
        for names in itertools.product(*(_kept(mask, kind, edge) for edge in chosen)):
            yield tuple(zip(names, sources, strict=True))
