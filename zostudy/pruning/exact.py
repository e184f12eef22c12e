"""Scores by leaving each operation, or each edge, out in turn (Algorithm 1, lines 4 to 9).

Nothing that a removal does not change is computed again (`zostudy.pruning.forward_cache`). Where
pictures are small, the operations of an edge are left out in one vectorized pass. Ranking functions
that take gradients get a full pass of their own.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.mixing import Mixing
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import reading, values
from zostudy.pruning.forward_cache import Changes, ForwardCache
from zostudy.pruning.scoring import Edge, Removal, losses, named, removable, uniform_mixing
from zostudy.space.mask import Place

#: Pixels of pictures, over all variants, that go through the network in one vectorized pass.
_VARIANT_BUDGET = 2**16


def operation_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    memory: PeakMemory | None = None,
) -> dict[Place, float]:
    """The score of every operation that is not its edge's last, by leaving each out in turn.

    Args:
        supernet: An initialized supernet of the mask to be scored.
        rankings: Ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        memory: Measures a pass through the network, where it is given.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.

    References:
        The paper, Algorithm 1, lines 4 to 9.
    """
    places = removable(supernet.mask)
    mixings = {place: uniform_mixing(supernet, without=place) for place in places}

    def changes(kept: ForwardCache, own: Sequence[Place]) -> Changes[Place]:
        images = kept.batch.images
        pixels = images.numel() // images.shape[1]
        return kept.operation_changes(own, max(1, _VARIANT_BUDGET // pixels))

    return _scores(supernet, rankings, batches, mixings, changes, memory)


def edge_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    edges: Sequence[Edge],
) -> dict[Edge, float]:
    """The score of edges, by leaving each out in turn: the ranking of ETENAS's last step.

    Args:
        supernet: An initialized supernet.
        rankings: Ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        edges: The edges to score.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.
    """
    mixings = {edge: uniform_mixing(supernet, without_edge=edge) for edge in edges}

    def changes(kept: ForwardCache, own: Sequence[Edge]) -> Changes[Edge]:
        return kept.edge_changes(own, mixings)

    return _scores(supernet, rankings, batches, mixings, changes, None)


def _scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    mixings: Mapping[Removal, Mixing],
    changes: Callable[[ForwardCache, Sequence[Removal]], Changes[Removal]],
    memory: PeakMemory | None,
) -> dict[Removal, float]:
    rows = {removal: row for row, removal in enumerate(mixings)}
    whole = torch.zeros(len(rankings), dtype=torch.float64)
    lost = torch.zeros(len(rows), len(rankings), dtype=torch.float64)
    for batch in batches:
        with memory.sample(supernet, batch.images) if memory else contextlib.nullcontext():
            base = _ranked(supernet, uniform_mixing(supernet), rankings, batch)
            left = _without(supernet, rankings, batch, mixings, changes)
            first = list(itertools.islice(left, 1))
        memory = None
        whole += base.cpu() / len(batches)
        for removal, found in itertools.chain(first, left):
            lost[rows[removal]] += (base - found).cpu() / len(batches)
    return losses(supernet.space, rankings, whole, lost, list(rows))


def _ranked(
    supernet: Supernet, mixing: Mixing, rankings: Sequence[Ranking], batch: ProxyInputs
) -> Float[Tensor, " rankings"]:
    with torch.no_grad():
        found = values(supernet, mixing, rankings, batch, twice=False)
    return torch.stack([value.detach().double() for value in found])


def _without(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batch: ProxyInputs,
    mixings: Mapping[Removal, Mixing],
    changes: Callable[[ForwardCache, Sequence[Removal]], Changes[Removal]],
) -> Iterator[tuple[Removal, Float[Tensor, " rankings"]]]:
    """Every ranking's value without each operation or edge in turn.

    Raises:
        NumericalError: A ranking means nothing without one; it is named.
    """
    quick: list[Ranking] = [ranking for ranking in rankings if ranking.forward_only]
    slow: list[Ranking] = [ranking for ranking in rankings if not ranking.forward_only]
    order = [[*quick, *slow].index(ranking) for ranking in rankings]
    passes = _passes(supernet, quick, batch, mixings, changes)
    for removal, given in passes if quick else ((removal, {}) for removal in mixings):
        try:
            found = [ranking.value(given).double() for ranking in quick]
            found += _ranked(supernet, mixings[removal], slow, batch) if slow else []
        except NumericalError as error:
            place = named(supernet.space, removal)
            raise NumericalError(f"{error} (without {place})") from error
        yield removal, torch.stack(found)[order]


@torch.no_grad()
def _passes(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batch: ProxyInputs,
    mixings: Mapping[Removal, Mixing],
    changes: Callable[[ForwardCache, Sequence[Removal]], Changes[Removal]],
) -> Iterator[tuple[Removal, dict[str, Any]]]:
    """What rankings read, without each operation or edge in turn."""
    names = {name for ranking in rankings for name in ranking.reads}
    for kind in supernet.space.cell_types:
        own = [removal for removal in mixings if removal[0] == kind]
        if kind not in supernet.sequence:  # so small a network has no such cell
            unchanged = reading(supernet, batch, uniform_mixing(supernet), names)
            yield from ((removal, unchanged) for removal in own)
            continue
        kept = ForwardCache.of(supernet, kind, batch, names)
        for removals, change in changes(kept, own):
            yield from zip(removals, kept.readings(removals, mixings, change), strict=True)
