"""The pruning mask: which candidate operations remain, per cell type and edge.

Symbols:
    1[o]   bool, True where the operation remains          docs/method.md, section 2, Eq. 1
    E_i    remaining operations of mixed operation i
    ξ      pruning level in (0, 1]                         Algorithm 1
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zostudy.errors import ArchitectureError
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace
from zostudy.space.text import shown, shown_names

Rows = tuple[tuple[bool, ...], ...]
Measure = Literal["operations", "architectures"]

#: One operation: cell type, row of the edge, column of the operation.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class OperationMask:
    """A boolean mask over the original search space.

    Attributes:
        space: The search space it belongs to.
        rows: For each cell type, bool[edge, operation].

    Raises:
        ArchitectureError: The shape is not the search space's, or an edge keeps no operation.
    """

    space: SearchSpace
    rows: Mapping[str, Rows]

    def __post_init__(self) -> None:
        if tuple(self.rows) != self.space.cell_types:
            raise ArchitectureError(
                f"mask.cells: cell types are {shown_names(self.rows)}; "
                f"{self.space.name!r} has {', '.join(map(repr, self.space.cell_types))}"
            )
        for kind, rows in self.rows.items():
            if len(rows) != len(self.space.edges):
                raise ArchitectureError(
                    f"mask.cells.{kind}: {len(rows)} edges; "
                    f"{self.space.name!r} has {len(self.space.edges)}"
                )
            for edge, row in enumerate(rows):
                if len(row) != len(self.space.operations):
                    raise ArchitectureError(
                        f"mask.cells.{kind}[{edge}]: {len(row)} operations; "
                        f"{self.space.name!r} has {len(self.space.operations)}"
                    )
                if not any(row):
                    raise ArchitectureError(
                        f"mask.cells.{kind}[{edge}]: keeps no operation; needs at least one"
                    )

    @classmethod
    def full(cls, space: SearchSpace) -> "OperationMask":
        """The mask that keeps everything."""
        row = (True,) * len(space.operations)
        return cls(space, dict.fromkeys(space.cell_types, (row,) * len(space.edges)))

    @classmethod
    def of(cls, genotype: Genotype) -> "OperationMask":
        """The mask that leaves a genotype alone; edges that it has not keep the zero operation."""
        space = genotype.space
        chosen = {(kind, *edge): name for kind, *edge, name in genotype.operations()}
        rows = {
            kind: tuple(
                tuple(name == chosen.get((kind, *edge), space.zero) for name in space.operations)
                for edge in space.edges
            )
            for kind in space.cell_types
        }
        return cls(space, rows)

    def __hash__(self) -> int:
        return hash(self.digest())

    def places(self) -> Iterator[Place]:
        """Every remaining operation, in a fixed order."""
        for kind, rows in self.rows.items():
            for edge, row in enumerate(rows):
                for column, kept in enumerate(row):
                    if kept:
                        yield kind, edge, column

    def changed(
        self, *, remove: Iterable[Place] = (), add: Iterable[Place] = ()
    ) -> "OperationMask":
        """The mask without and with some operations.

        Raises:
            ArchitectureError: An edge would keep no operation.
        """
        cells = {kind: [list(row) for row in rows] for kind, rows in self.rows.items()}
        for value, places in ((False, remove), (True, add)):
            for kind, edge, column in places:
                cells[kind][edge][column] = value
        return OperationMask(self.space, _frozen(cells))

    def count(self) -> int:
        """Remaining operations over all cell types and edges."""
        return sum(1 for _ in self.places())

    def level(self, measure: Measure) -> float:
        """What remains of the full search space, in (0, 1].

        Args:
            measure: ``operations`` for Σ|E_i| / Σ|E_i in N_0|, ``architectures`` for the ratio
                of the products (Algorithm 1, line 3 as printed).
        """
        if measure == "operations":
            return self.count() / self.space.size
        full = len(self.space.operations)
        return math.exp(
            sum(math.log(sum(row) / full) for rows in self.rows.values() for row in rows)
        )

    def missing_edges(self) -> dict[tuple[str, int], int]:
        """Nodes for which no genotype exists.

        Returns:
            For (cell type, node), how many more incoming edges must keep an operation that a
            genotype may keep.
        """
        missing = {}
        for kind, rows in self.rows.items():
            for target in self.space.targets:
                usable = sum(self._usable(rows[edge]) for edge in self.space.incoming(target))
                if usable < self.space.kept(target):
                    missing[kind, target] = self.space.kept(target) - usable
        return missing

    def _usable(self, row: tuple[bool, ...]) -> bool:
        return any(
            kept and name in self.space.keepable
            for name, kept in zip(self.space.operations, row, strict=True)
        )

    def repairs(self, preference: Mapping[Place, float]) -> tuple[Place, ...]:
        """The least change after which a genotype exists: the operations to bring back.

        One operation for every edge that a node lacks, the most preferred one on each of the
        most preferred edges.

        Args:
            preference: How good each operation is; higher comes first. Places left out come last.
        """
        added: list[Place] = []
        for (kind, target), lacking in self.missing_edges().items():
            best: list[tuple[float, Place]] = []
            for edge in self.space.incoming(target):
                if self._usable(self.rows[kind][edge]):
                    continue
                places = [
                    (kind, edge, column)
                    for column, name in enumerate(self.space.operations)
                    if name in self.space.keepable
                ]
                place = max(places, key=lambda p: preference.get(p, -math.inf))
                best.append((preference.get(place, -math.inf), place))
            best.sort(key=lambda item: -item[0])
            added.extend(place for _, place in best[:lacking])
        return tuple(added)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries: for each edge, the names of the remaining operations."""
        cells = {
            kind: [
                [name for name, kept in zip(self.space.operations, row, strict=True) if kept]
                for row in rows
            ]
            for kind, rows in self.rows.items()
        }
        return {"search_space": self.space.name, "cells": cells}

    def digest(self) -> str:
        """SHA-256 of the mask, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()


def from_dict(data: object, space: SearchSpace) -> OperationMask:
    """A mask from what JSON holds.

    Raises:
        ArchitectureError: The structure is another, or the mask does not fit the space.
    """
    if not (
        isinstance(data, dict)
        and set(data) == {"search_space", "cells"}
        and isinstance(data["cells"], dict)
    ):
        there = f"; there are {shown_names(data)}" if isinstance(data, dict) else ""
        raise ArchitectureError(f"mask: needs exactly the keys 'search_space' and 'cells'{there}")
    if data["search_space"] != space.name:
        raise ArchitectureError(
            f"mask.search_space: {shown(data['search_space'])}; the study has {space.name!r}"
        )
    cells: dict[str, Rows] = {}
    for kind, edges in data["cells"].items():
        place = f"mask.cells.{kind[:100]}"
        if not isinstance(edges, list) or not all(isinstance(edge, list) for edge in edges):
            raise ArchitectureError(f"{place}: needs a list of lists of operation names")
        for index, edge in enumerate(edges):
            _check_edge(f"{place}[{index}]", edge, space)
        cells[kind] = tuple(tuple(name in edge for name in space.operations) for edge in edges)
    return OperationMask(space, {k: cells[k] for k in space.cell_types if k in cells} | cells)


def _check_edge(place: str, edge: list[object], space: SearchSpace) -> None:
    """Whether an edge lists operations of the space, each once."""
    for name in edge:
        if name not in space.operations:
            raise ArchitectureError(
                f"{place}: operation {shown(name)} is not in {space.name!r}; "
                f"allowed: {', '.join(space.operations)}"
            )
        if edge.count(name) > 1:
            raise ArchitectureError(f"{place}: operation {name!r} is there twice")


def _frozen(cells: Mapping[str, list[list[bool]]]) -> dict[str, Rows]:
    return {kind: tuple(tuple(row) for row in rows) for kind, rows in cells.items()}
