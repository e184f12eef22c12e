"""Architectures as rows of numbers.

A cell is read as the graph of its live edges: those that are not the zero operation, and lie on a
path from an input of the cell to its output. What is left out does not change what the cell
computes, so that cells which differ only there are the same to ``graph`` and ``paths``.

Encodings:
    adjacency   one-hot: for each edge, which operation it has, dead or not
    paths       for each sequence of operations on a path through the cell, identities left out,
                how many paths have it; sequences are those of the training architectures, those
                that most of them have where there are more than `MOST_SEQUENCES`
    graph       statistics of the graph (`statistics`)

Symbols:
    n   architectures

References:
    White et al. 2020, "A study on encodings for neural architecture search" (adjacency, paths);
    Kadlecová et al. 2024, "Surprisingly strong performance prediction with neural graph features".
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from joblib import Parallel, delayed

from zostudy.host import processors
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace

ENCODINGS = ("adjacency", "graph", "paths")

#: Those that are taken where none is named.
DEFAULT = ("graph", "paths")

#: Sequences that ``paths`` counts at most; rare ones say little, and each costs as much.
MOST_SEQUENCES = 100

#: Architectures that one process makes rows of at a time.
_AT_ONCE = 5_000

_KERNEL = re.compile(r"_(\d+)x\1$")

Features = Float64[np.ndarray, "n features"]


class Edge(NamedTuple):
    """An operation from one node of a cell to another."""

    operation: str
    source: int
    target: int


def live_edges(genotype: Genotype, kind: str) -> list[Edge]:
    """The edges of a cell that lie on a path from an input to the output, zero left out."""
    edges = used_edges(genotype, kind)
    forward = set(range(genotype.space.inputs))
    for edge in edges:  # in the order of targets
        if edge.source in forward:
            forward.add(edge.target)
    return [edge for edge in edges if edge.source in forward]


def used_edges(genotype: Genotype, kind: str) -> list[Edge]:
    """The edges of a cell from which a path leads to the output, zero left out.

    What they get may be zero nevertheless, because none leads from an input to them.
    """
    edges = [edge for edge in all_edges(genotype, kind) if edge.operation != genotype.space.zero]
    backward = set(_outputs(genotype.space))
    for edge in reversed(edges):
        if edge.target in backward:
            backward.add(edge.source)
    return [edge for edge in edges if edge.target in backward]


def all_edges(genotype: Genotype, kind: str) -> list[Edge]:
    """Every edge of a cell, those of the zero operation too, in the order of their targets."""
    return [
        Edge(name, source, target)
        for own, source, target, name in genotype.operations()
        if own == kind
    ]


def _outputs(space: SearchSpace) -> tuple[int, ...]:
    return space.targets if space.output == "nodes" else space.targets[-1:]


def paths(genotype: Genotype, kind: str) -> list[tuple[str, ...]]:
    """The operations on every path of live edges from an input of a cell to an output node."""
    space, edges = genotype.space, live_edges(genotype, kind)
    ending: dict[int, list[tuple[str, ...]]] = {node: [()] for node in range(space.inputs)}
    for target in space.targets:
        ending[target] = [
            (*path, edge.operation)
            for edge in edges
            if edge.target == target
            for path in ending[edge.source]
        ]
    return [path for node in _outputs(space) for path in ending[node]]


def statistics(genotype: Genotype, kind: str) -> dict[str, float]:
    """Statistics of the graph of a cell's live edges.

    How many edges have each operation, and how many weights these have in kernels of one channel
    (k² for k × k); how many paths there are, how many differ, and how many hold no operation with
    weights, no pool or nothing but identities; and over the paths the least, the most and the mean
    of: each operation, operations with weights, all but identities, all, and the receptive field
    (Σ (k − 1)).
    """
    space = genotype.space
    edges, found = live_edges(genotype, kind), paths(genotype, kind)
    used = Counter(edge.operation for edge in edges)
    operations = [name for name in space.keepable if name != space.zero]
    learned = {name for name in operations if space.learns(name)}
    pools = set(operations) - learned - {space.identity}
    shortened = [tuple(name for name in path if name != space.identity) for path in found]
    numbers: dict[str, float] = {f"edges of {name}": used[name] for name in operations}
    numbers |= {
        "edges": len(edges),
        "edges from inputs": sum(edge.source < space.inputs for edge in edges),
        "edges into outputs": sum(edge.target in _outputs(space) for edge in edges),
        "kernel weights": sum(_kernel(e.operation) ** 2 for e in edges if e.operation in learned),
        "paths": len(found),
        "different paths": len(set(shortened)),
        "identity paths": sum(not path for path in shortened),
        "paths without weights": sum(learned.isdisjoint(path) for path in shortened),
        "paths without pools": sum(pools.isdisjoint(path) for path in shortened),
        "paths of weights": sum(bool(path) and learned.issuperset(path) for path in shortened),
    }
    reach = {name: _kernel(name) - 1 for name in operations}
    lengths = {f"{name} on a path": [path.count(name) for path in found] for name in operations}
    lengths |= {
        "weights on a path": [sum(name in learned for name in path) for path in found],
        "operations on a path": [len(path) for path in shortened],
        "edges on a path": [len(path) for path in found],
        "receptive field": [sum(reach[name] for name in path) for path in found],
    }
    for name, along in lengths.items():
        along = along or [0]
        numbers |= {
            f"{name}, least": min(along),
            f"{name}, most": max(along),
            f"{name}, mean": sum(along) / len(along),
        }
    return numbers


@functools.cache
def _kernel(name: str) -> int:
    """The side of an operation's kernel, which its name ends with; 1 where it does not."""
    found = _KERNEL.search(name)
    return int(found[1]) if found else 1


@dataclass(frozen=True)
class Encoder:
    """Makes rows of numbers of architectures.

    Attributes:
        space: The search space.
        encodings: Names of `ENCODINGS`.
        sequences: The sequences of operations that ``paths`` counts, with their cell types.
    """

    space: SearchSpace
    encodings: tuple[str, ...]
    sequences: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, genotypes: Sequence[Genotype], encodings: tuple[str, ...]) -> "Encoder":
        """An encoder for training architectures of one space, at least one."""
        having: Counter[tuple[str, tuple[str, ...]]] = Counter()
        if "paths" in encodings:
            for genotype in genotypes:
                having.update(_sequences(genotype).keys())
        commonest = sorted(having, key=lambda sequence: (-having[sequence], sequence))
        sequences = tuple(sorted(commonest[:MOST_SEQUENCES]))
        return cls(genotypes[0].space, encodings, sequences)

    def __call__(self, genotypes: Sequence[Genotype]) -> Features:
        """A row for each architecture; of many, by as many processes as there are processors."""
        if len(genotypes) <= _AT_ONCE:
            return np.array([self._row(genotype) for genotype in genotypes], dtype=np.float64)
        parts = [genotypes[i : i + _AT_ONCE] for i in range(0, len(genotypes), _AT_ONCE)]
        run = Parallel(n_jobs=processors())
        return np.concatenate(run(delayed(self)(part) for part in parts))

    def _row(self, genotype: Genotype) -> list[float]:
        row: list[float] = []
        if "adjacency" in self.encodings:
            row += _adjacency(genotype)
        if "graph" in self.encodings:
            for kind in self.space.cell_types:
                row += statistics(genotype, kind).values()
        if "paths" in self.encodings:
            counts = _sequences(genotype)
            row += [counts[sequence] for sequence in self.sequences]
        return row


def _adjacency(genotype: Genotype) -> list[float]:
    space = genotype.space
    chosen = set(genotype.operations())
    return [
        float((kind, *edge, name) in chosen)
        for kind in space.cell_types
        for edge in space.edges
        for name in space.keepable
    ]


def _sequences(genotype: Genotype) -> Mapping[tuple[str, tuple[str, ...]], int]:
    """How many paths have each sequence of operations, identities left out."""
    identity = genotype.space.identity
    return Counter(
        (kind, tuple(name for name in path if name != identity))
        for kind in genotype.space.cell_types
        for path in paths(genotype, kind)
    )
