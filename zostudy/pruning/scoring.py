r"""What scores of operations and edges are, whichever way they are computed (Algorithm 1).

Symbols:
    N        the supernet, uniform weights over the unmasked operations of each edge
    N \ e_j  the same network without operation j: 1/(|E_i| − 1) on its edge
    r        a ranking function, averaged over batches
    s_j      Σ_r sign_r (r(N) − r(N \ e_j)) / |r(N)|; the lowest is pruned first

Differs from: Algorithm 1, which divides by r(N): where that is negative, as a logarithm may be, the
order would turn around.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.mixing import Mixing
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.space.mask import OperationMask, Place
from zostudy.space.search_space import SearchSpace

#: An edge: cell type and row.
Edge = tuple[str, int]

#: What is left out: an operation or an edge.
Removal = TypeVar("Removal", Place, Edge)


class Scorer(Protocol):
    """A way to compute scores."""

    def operation_scores(
        self,
        supernet: Supernet,
        rankings: Sequence[Ranking],
        batches: Sequence[ProxyInputs],
        memory: PeakMemory | None = None,
    ) -> dict[Place, float]:
        """The score of every operation that is not its edge's last."""

    def edge_scores(
        self,
        supernet: Supernet,
        rankings: Sequence[Ranking],
        batches: Sequence[ProxyInputs],
        edges: Sequence[Edge],
    ) -> dict[Edge, float]:
        """The score of some edges."""


def removable(mask: OperationMask) -> list[Place]:
    """Every operation that is not its edge's last, in the mask's order."""
    return [place for place in mask.places() if sum(mask.rows[place[0]][place[1]]) > 1]


def uniform_mixing(
    supernet: Supernet, *, without: Place | None = None, without_edge: Edge | None = None
) -> Mixing:
    """Uniform weights over what the mask leaves, less one operation or one edge.

    Args:
        supernet: The supernet, whose mask and edge normalization count.
        without: An operation to leave out.
        without_edge: An edge to leave out; with edge normalization the others share its weight.
    """
    space = supernet.space
    operations, edges = {}, {}
    for kind in space.cell_types:
        kept = supernet.mask_of(kind).to(supernet.classifier.weight.dtype)
        present = torch.ones_like(kept[:, 0])
        if without is not None and without[0] == kind:
            kept[without[1], without[2]] = 0
        if without_edge is not None and without_edge[0] == kind:
            present[without_edge[1]] = 0
        operations[kind] = kept / kept.sum(dim=1, keepdim=True)
        if kind in supernet.beta:
            for target in space.targets:
                rows = list(space.incoming(target))
                present[rows] = present[rows] / present[rows].sum()
        edges[kind] = present
    return Mixing(operations, edges)


def named(space: SearchSpace, removal: Place | Edge) -> str:
    """An operation or an edge in words: ``sep_conv_3x3 on edge c-1 → n0 of the normal cell``."""
    source, target = map(space.node_name, space.edges[removal[1]])
    operation = "" if len(removal) == 2 else f"{space.operations[removal[2]]} on "
    return f"{operation}edge {source} → {target} of the {removal[0]} cell"


def losses(
    space: SearchSpace,
    rankings: Sequence[Ranking],
    whole: Float[Tensor, " rankings"],
    lost: Float[Tensor, "removals rankings"],
    removals: Sequence[Removal],
) -> dict[Removal, float]:
    r"""Σ_r sign_r (r(N) − r(N \ e)) / |r(N)| for each e left out.

    Args:
        space: The search space, to name what goes wrong.
        rankings: Ranking functions.
        whole: r(N).
        lost: r(N) − r(N \ e).
        removals: What is left out.

    Raises:
        NumericalError: r(N) is 0 or not finite, or a loss is not finite.
    """
    for ranking, value in zip(rankings, whole.tolist(), strict=True):
        if value == 0 or not torch.isfinite(torch.tensor(value)):
            raise NumericalError(
                f"{ranking.name}: is {value} for the whole supernet; no relative loss is defined"
            )
    broken = (~torch.isfinite(lost)).nonzero().tolist()
    if broken:
        row, column = broken[0]
        raise NumericalError(
            f"{rankings[column].name}: its loss is {float(lost[row, column])} without "
            f"{named(space, removals[row])}"
        )
    signs = torch.tensor([ranking.sign for ranking in rankings], dtype=lost.dtype)
    scores = (lost / whole.abs() * signs).sum(dim=1)
    return dict(zip(removals, scores.tolist(), strict=True))
