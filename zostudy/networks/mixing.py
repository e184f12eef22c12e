"""How a supernet mixes its operations in one pass: the weights, and what is computed at all.

A search method decides once a step, and the pass is told. Nothing here depends on a method.

Symbols:
    E    edges of a cell
    O    candidate operations of the search space, and the auxiliary ones behind them
    w    float[E, O], mixing weights
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zostudy.runtime import sent
from zostudy.space.search_space import SearchSpace

#: For each edge and operation, whether it is computed.
Active = tuple[tuple[bool, ...], ...]


class PathDrop:
    """Leaves operations out at random, picture by picture, and scales up what stays.

    The draw of a place depends on the seed and on the place alone, so that a pass that is computed
    again drops the same.

    Args:
        rates: For each operation, the probability that it is left out; 0 or more, below 1.
        seed: The seed of this pass.

    References:
        Larsson et al. 2017, "FractalNet", section 3; in a search: R-DARTS, section 6.1 (Zela et
        al. 2020), and on skip connections P-DARTS, section 3.3 (Chen et al. 2019).
    """

    def __init__(self, rates: Sequence[float], seed: int) -> None:
        self.rates = tuple(rates)
        self.seed = seed

    def __call__(self, term: Tensor, place: tuple[int, int], column: int) -> Tensor:
        """A term of an edge's sum, without the pictures that leave it out.

        Args:
            term: float[batch, channels, height, width].
            place: The cell and the edge.
            column: The operation.
        """
        rate = self.rates[column]
        if rate == 0:
            return term
        generator = torch.Generator().manual_seed(hash((self.seed, *place, column)) % 2**63)
        kept = torch.rand(len(term), 1, 1, 1, generator=generator) >= rate
        return term * sent(kept.to(term.dtype) / (1 - rate), term.device)


class CellMixing(NamedTuple):
    """How one cell mixes.

    Attributes:
        operations: Weights of its operations; exactly 0 where masked.
        edges: Weights of its edges.
        active: What is computed; everything that the mask leaves, if it is not given.
        drop: Leaves operations out, if it is given.
        cell: The cell's number.
    """

    operations: Float[Tensor, "edges operations"]
    edges: Float[Tensor, " edges"]
    active: Active | None = None
    drop: PathDrop | None = None
    cell: int = 0


@dataclass(frozen=True)
class Mixing:
    """How the supernet mixes, by cell type.

    Attributes:
        operations: float[E, O], weight of every operation; exactly 0 where masked.
        edges: float[E], weight of every edge.
        active: What is computed, by cell type; where a type is missing, all that the mask leaves.
        offsets: For each cell, what is added to the weights of its operations; of every cell or of
            none.
        drop: Leaves operations out, if it is given.
    """

    operations: Mapping[str, Float[Tensor, "edges operations"]]
    edges: Mapping[str, Float[Tensor, " edges"]]
    active: Mapping[str, Active] = field(default_factory=dict)
    offsets: Sequence[Float[Tensor, "edges operations"]] = ()
    drop: PathDrop | None = None

    def of(self, cell: int, kind: str) -> CellMixing:
        """How a cell mixes, by its number and type."""
        operations = self.operations[kind]
        if self.offsets:
            operations = operations + self.offsets[cell]
        return CellMixing(operations, self.edges[kind], self.active.get(kind), self.drop, cell)


def masked_softmax(
    values: Float[Tensor, "edges operations"], mask: Bool[Tensor, "edges operations"]
) -> Float[Tensor, "edges operations"]:
    """Softmax over the unmasked entries of each row; exactly 0, with no gradient, elsewhere."""
    return values.masked_fill(~mask, -torch.inf).softmax(dim=1)


def edge_softmax(values: Float[Tensor, " edges"], space: SearchSpace) -> Float[Tensor, " edges"]:
    """Softmax over the edges that enter the same node (edges are ordered by target)."""
    incoming = [len(space.incoming(target)) for target in space.targets]
    return torch.cat([part.softmax(dim=0) for part in torch.split(values, incoming)])
