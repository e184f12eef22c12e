"""Scores of operations: what a ranking function loses when one operation goes (Algorithm 1).

Symbols:
    N        the supernet, uniform weights over the unmasked operations of each edge
    N \\ e_j  the same network without operation j: 1/(|E_i| − 1) on its edge
    r        a ranking function, averaged over batches
    s_j      Σ_r sign_r (r(N) − r(N \\ e_j)) / r(N); the lowest is pruned first
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.networks.supernet import Mixing, Supernet
from zostudy.registry import find
from zostudy.space.mask import OperationMask, Place

Batch = tuple[Float[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]

#: An edge: cell type and row.
Edge = tuple[str, int]


@dataclass(frozen=True)
class Ranking:
    """A ranking function with its options bound.

    Attributes:
        name: Its registered name.
        function: ``(network, images, labels) -> scalar``.
        sign: 1 where larger is better, −1 where smaller is.
    """

    name: str
    function: Callable[..., Tensor]
    sign: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], extensions: tuple[str, ...] = ()) -> "Ranking":
        """The ranking function that ``{"name": …, option: value, …}`` names."""
        component = find("ranking_function", settings["name"], "prune.ranking", extensions)
        options = {key: value for key, value in settings.items() if key != "name"}
        loaded = component.load()

        def function(network: object, images: Tensor, labels: Tensor) -> Tensor:
            value: Tensor = loaded(network, images, labels, **options)
            return value

        sign = component.facts.get("sign", 1)
        return cls(settings["name"], function, -1 if sign == -1 else 1)


def uniform_mixing(
    supernet: Supernet, *, without: Place | None = None, without_edge: Edge | None = None
) -> Mixing:
    """Uniform weights over what the mask leaves, less one operation or one edge.

    Args:
        supernet: The supernet, whose mask and edge normalisation count.
        without: An operation to leave out.
        without_edge: An edge to leave out; with edge normalisation the others share its weight.
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


@torch.no_grad()
def rank(
    supernet: Supernet, rankings: Sequence[Ranking], batches: Sequence[Batch], mixing: Mixing
) -> list[float]:
    """Each ranking function's value, averaged over the batches.

    Raises:
        NumericalError: A value is not finite.
    """
    values = []
    for ranking in rankings:
        total = 0.0
        for images, labels in batches:
            value = float(ranking.function(lambda x: supernet(x, mixing), images, labels))
            if not abs(value) < float("inf"):
                raise NumericalError(f"{ranking.name}: the ranking is {value}")
            total += value
        values.append(total / len(batches))
    return values


def exact_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[Batch],
    after: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Place, float]:
    """The score of every operation that is not its edge's last, by leaving each out in turn.

    Args:
        supernet: An initialised supernet of the mask to be scored.
        rankings: Ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        after: Called with operations done and in all.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.

    References:
        The paper, Algorithm 1, lines 4 to 9.
    """
    whole = rank(supernet, rankings, batches, uniform_mixing(supernet))
    removable = [place for place in supernet.mask.places() if _removable(supernet.mask, place)]
    scores = {}
    for done, place in enumerate(removable, start=1):
        parts = rank(supernet, rankings, batches, uniform_mixing(supernet, without=place))
        scores[place] = relative_loss(rankings, whole, parts)
        after(done, len(removable))
    return scores


def edge_scores(
    supernet: Supernet, rankings: Sequence[Ranking], batches: Sequence[Batch], edges: Sequence[Edge]
) -> dict[Edge, float]:
    """The score of edges, by leaving each out in turn: the ranking of ETENAS's last step."""
    whole = rank(supernet, rankings, batches, uniform_mixing(supernet))
    return {
        edge: relative_loss(
            rankings,
            whole,
            rank(supernet, rankings, batches, uniform_mixing(supernet, without_edge=edge)),
        )
        for edge in edges
    }


def relative_loss(
    rankings: Sequence[Ranking], whole: Sequence[float], parts: Sequence[float]
) -> float:
    """Σ_r sign_r (r(N) − r(N \\ e)) / r(N).

    Raises:
        NumericalError: The whole network's ranking is 0.
    """
    score = 0.0
    for ranking, all_in, left_out in zip(rankings, whole, parts, strict=True):
        if all_in == 0:
            raise NumericalError(f"{ranking.name}: is 0 for the whole supernet; no relative loss")
        score += ranking.sign * (all_in - left_out) / all_in
    return score


def _removable(mask: OperationMask, place: Place) -> bool:
    kind, edge, _ = place
    return sum(mask.rows[kind][edge]) > 1
