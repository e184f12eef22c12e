r"""Scores by leaving each operation, or each edge, out in turn (Algorithm 1, lines 4 to 9)."""

import contextlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Mixing, Supernet
from zostudy.pruning.probe import Batch, Ranking
from zostudy.pruning.scoring import (
    Edge,
    Removal,
    losses,
    named,
    removable,
    uniform_mixing,
    values,
)
from zostudy.space.mask import Place


def operation_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[Batch],
    memory: PeakMemory | None = None,
) -> dict[Place, float]:
    """The score of every operation that is not its edge's last, by leaving each out in turn.

    Args:
        supernet: An initialised supernet of the mask to be scored.
        rankings: Ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        memory: Measures a pass through the network, where it is given.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.

    References:
        The paper, Algorithm 1, lines 4 to 9.
    """
    places = removable(supernet.mask)
    mixings = [uniform_mixing(supernet, without=place) for place in places]
    return _scores(supernet, rankings, batches, places, mixings, memory)


def edge_scores(
    supernet: Supernet, rankings: Sequence[Ranking], batches: Sequence[Batch], edges: Sequence[Edge]
) -> dict[Edge, float]:
    """The score of edges, by leaving each out in turn: the ranking of ETENAS's last step.

    Args:
        supernet: An initialised supernet.
        rankings: Ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        edges: The edges to score.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.
    """
    mixings = [uniform_mixing(supernet, without_edge=edge) for edge in edges]
    return _scores(supernet, rankings, batches, edges, mixings, None)


def _scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[Batch],
    removals: Sequence[Removal],
    mixings: Sequence[Mixing],
    memory: PeakMemory | None,
) -> dict[Removal, float]:
    whole = torch.zeros(len(rankings), dtype=torch.float64)
    lost = torch.zeros(len(removals), len(rankings), dtype=torch.float64)
    for batch in batches:
        with memory.sample(supernet, batch.images) if memory else contextlib.nullcontext():
            base = _rank(supernet, uniform_mixing(supernet), rankings, batch)
        memory = None
        whole += base / len(batches)
        for row, (removal, mixing) in enumerate(zip(removals, mixings, strict=True)):
            try:
                lost[row] += (base - _rank(supernet, mixing, rankings, batch)) / len(batches)
            except NumericalError as error:
                place = named(supernet.space, removal)
                raise NumericalError(f"{error} (without {place})") from error
    return losses(supernet.space, rankings, whole, lost, removals)


def _rank(
    supernet: Supernet, mixing: Mixing, rankings: Sequence[Ranking], batch: Batch
) -> Float[Tensor, " rankings"]:
    with torch.no_grad():
        found = values(supernet, mixing, rankings, batch, twice=False)
    return torch.stack([value.detach().double().cpu() for value in found])
