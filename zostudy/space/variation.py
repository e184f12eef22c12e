"""Steps from one architecture to others, within what a mask leaves.

Symbols:
    n_j  incoming edges that node j keeps
    k_i  operations left on edge i that a genotype may keep
"""

import math
import random as pseudo_random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from zostudy.errors import InadmissibleError
from zostudy.space import enumeration
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import Node

#: One node of a genotype, made anew: cell type, its place in the cell, its pairs.
_Edit = tuple[str, int, Node]


#: Random architectures of which one must be admitted, and children of one parent, or of two.
TRIES, _CHILDREN = 1_000, 100

#: What a node may be: operations by edge, choices of edges, and how many ways each choice has.
_Ways = tuple[dict[int, list[str]], list[tuple[int, ...]], list[int]]


@dataclass(frozen=True)
class Variation:
    """Draws architectures that a mask leaves, and changes them.

    Attributes:
        mask: The mask; a genotype exists under it.
        draw: Draws.
        admits: Says which architectures may be given; the others are drawn again, or left out.
        listed: All that are admitted, where they are known; random ones are drawn from them.
    """

    mask: OperationMask
    draw: pseudo_random.Random
    admits: Callable[[Genotype], bool] = lambda _: True
    listed: Sequence[Genotype] = ()
    _ways: dict[tuple[str, int], _Ways] = field(default_factory=dict, compare=False)

    def random(self) -> Genotype:
        """An architecture; every one that is admitted is equally likely.

        Raises:
            InadmissibleError: None of `TRIES` in a row is admitted.
        """
        if self.listed:
            return self.draw.choice(self.listed)
        for _ in range(TRIES):
            found = self._any()
            if self.admits(found):
                return found
        raise InadmissibleError(f"none of {TRIES:,} architectures drawn at random is admitted")

    def _any(self) -> Genotype:
        space = self.mask.space
        cells = {
            kind: tuple(self._node(kind, target) for target in space.targets)
            for kind in space.cell_types
        }
        return Genotype(space, cells)

    def _node(self, kind: str, target: int) -> Node:
        if (kind, target) not in self._ways:
            by_edge = enumeration.operations(self.mask, kind, target)
            choices = list(enumeration.choices(self.mask, target))
            ways = [math.prod(len(by_edge[edge]) for edge in chosen) for chosen in choices]
            self._ways[kind, target] = by_edge, choices, ways
        by_edge, choices, ways = self._ways[kind, target]
        (chosen,) = self.draw.choices(choices, weights=ways)
        sources = (self.mask.space.edges[edge][0] for edge in chosen)
        names = (self.draw.choice(by_edge[edge]) for edge in chosen)
        return tuple(zip(names, sources, strict=True))

    def neighbours(self, genotype: Genotype) -> list[Genotype]:
        """All architectures one change away: another operation on an edge, or another edge."""
        every = (_with(genotype, edit) for edit in self._edits(genotype))
        return list(filter(self.admits, every))

    def mutated(self, genotype: Genotype, changes: int = 1) -> Genotype:
        """An architecture some changes away; it itself where nothing can change.

        It itself also where none of 100 such architectures is admitted.

        Args:
            genotype: Where to start.
            changes: How many steps to a random neighbour.
        """
        for _ in range(_CHILDREN):
            child = genotype
            for _ in range(changes):
                edits = list(self._edits(child))
                if edits:
                    child = _with(child, self.draw.choice(edits))
            if self.admits(child):
                return child
        return genotype

    def crossed(self, mother: Genotype, father: Genotype) -> Genotype:
        """A child: of each edge that both keep, and of each other node, one parent's.

        The mother where none of 100 children is admitted.
        """
        for _ in range(_CHILDREN):
            cells = {
                kind: tuple(map(self._either, nodes, father.cells[kind]))
                for kind, nodes in mother.cells.items()
            }
            child = Genotype(mother.space, cells)
            if self.admits(child):
                return child
        return mother

    def _either(self, one: Node, other: Node) -> Node:
        if [source for _, source in one] != [source for _, source in other]:
            return self.draw.choice((one, other))
        return tuple(map(self.draw.choice, zip(one, other, strict=True)))

    def _edits(self, genotype: Genotype) -> Iterator[_Edit]:
        mask, space = self.mask, self.mask.space
        for kind, nodes in genotype.cells.items():
            for index, (target, node) in enumerate(zip(space.targets, nodes, strict=True)):
                by_edge = enumeration.operations(mask, kind, target)
                for place, pair in enumerate(node):
                    rest = (*node[:place], *node[place + 1 :])
                    taken = {source for _, source in rest}
                    for edge, names in by_edge.items():
                        source = space.edges[edge][0]
                        if source not in taken:
                            for name in _others(pair, source, names):
                                yield kind, index, (*rest, (name, source))


def _others(pair: tuple[str, int], source: int, names: Sequence[str]) -> Sequence[str]:
    """Operations that an edge may have instead: on another edge the same, where it may be."""
    if source == pair[1]:
        return [name for name in names if name != pair[0]]
    return [pair[0]] if pair[0] in names else names


def _with(genotype: Genotype, edit: _Edit) -> Genotype:
    kind, index, node = edit
    nodes = genotype.cells[kind]
    cells = {**genotype.cells, kind: (*nodes[:index], node, *nodes[index + 1 :])}
    return Genotype(genotype.space, cells)
