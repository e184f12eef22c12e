r"""Scores of operations: what a ranking function loses when one operation goes (Algorithm 1).

Symbols:
    N        the supernet, uniform weights over the unmasked operations of each edge
    N \ e_j  the same network without operation j: 1/(|E_i| − 1) on its edge
    r        a ranking function, averaged over batches
    s_j      Σ_r sign_r (r(N) − r(N \ e_j)) / r(N); the lowest is pruned first
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Mixing, Supernet
from zostudy.registry import find
from zostudy.space.mask import Place

Batch = Float[Tensor, "batch channels height width"]

#: Pixels of pictures, over all variants, that go through the network together.
_VARIANT_BUDGET = 2**15

#: An edge: cell type and row.
Edge = tuple[str, int]


@dataclass(frozen=True)
class Ranking:
    """A ranking function with its options bound.

    Attributes:
        name: Its registered name.
        function: ``logits -> scalar``.
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
        function = functools.partial(component.load(), **options)
        return cls(settings["name"], function, -1 if component.facts.get("sign") == -1 else 1)


@dataclass(frozen=True)
class Mixings:
    """Variants of a mixing that differ in some cell types.

    Attributes:
        base: The mixing of the cell types in which they do not differ.
        operations: float[variants, E, O] by cell type.
        edges: float[variants, E] by cell type.
    """

    base: Mixing
    operations: Mapping[str, Float[Tensor, "variants edges operations"]]
    edges: Mapping[str, Float[Tensor, "variants edges"]]

    def around(self, operations: Mapping[str, Tensor], edges: Mapping[str, Tensor]) -> Mixing:
        """The base with one variant's weights in it."""
        return Mixing({**self.base.operations, **operations}, {**self.base.edges, **edges})


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
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[Batch],
    mixings: Mixings,
    memory: PeakMemory | None = None,
) -> Float[Tensor, "variants rankings"]:
    """Every ranking function's value for every variant of the mixing, averaged over the batches.

    The variants go through the network together, so that what they share (all cells before the
    first one that differs) is computed once, and the rest as one larger batch.

    Args:
        supernet: An initialised supernet.
        rankings: Ranking functions.
        batches: Batches of pictures.
        mixings: The variants.
        memory: Measures the first pass through the network, where it is given.

    Raises:
        NumericalError: A value is not finite.
    """

    def forward(
        images: Batch, operations: Mapping[str, Tensor], edges: Mapping[str, Tensor]
    ) -> Tensor:
        passes = vmap(lambda o, e: supernet(images, mixings.around(o, e)))
        logits: Tensor = passes(operations, edges)
        return logits

    count = len(next(iter((*mixings.operations.values(), *mixings.edges.values()))))
    values = torch.zeros(count, len(rankings), dtype=torch.float64)
    for images in batches:
        variants = max(1, _VARIANT_BUDGET // (images.numel() // images.shape[1]))
        for start in range(0, count, variants):
            part = slice(start, start + variants)
            with memory.sample(supernet, images) if memory else contextlib.nullcontext():
                logits = forward(
                    images,
                    {kind: weights[part] for kind, weights in mixings.operations.items()},
                    {kind: weights[part] for kind, weights in mixings.edges.items()},
                )
            memory = None
            for variant, row in enumerate(logits, start=start):
                for column, ranking in enumerate(rankings):
                    values[variant, column] += float(ranking.function(row)) / len(batches)
    if not bool(torch.isfinite(values).all()):
        names = ", ".join(ranking.name for ranking in rankings)
        raise NumericalError(f"{names}: a ranking is not finite")
    return values


def exact_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[Batch],
    memory: PeakMemory | None = None,
) -> dict[Place, float]:
    """The score of every operation that is not its edge's last, by leaving each out in turn.

    Args:
        supernet: An initialised supernet of the mask to be scored.
        rankings: Ranking functions, summed.
        batches: Batches of pictures that each ranking is averaged over.
        memory: Measures a pass through the network, where it is given.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.

    References:
        The paper, Algorithm 1, lines 4 to 9.
    """
    mask = supernet.mask
    scores: dict[Place, float] = {}
    for kind in mask.space.cell_types:
        places = [p for p in mask.places() if p[0] == kind and sum(mask.rows[kind][p[1]]) > 1]
        if places:
            variants = [uniform_mixing(supernet)]
            variants += [uniform_mixing(supernet, without=place) for place in places]
            stacked = torch.stack([mixing.operations[kind] for mixing in variants])
            mixings = Mixings(variants[0], {kind: stacked}, {})
            values = rank(supernet, rankings, batches, mixings, memory)
            scores |= _losses(rankings, values, places)
    return scores


def edge_scores(
    supernet: Supernet, rankings: Sequence[Ranking], batches: Sequence[Batch], edges: Sequence[Edge]
) -> dict[Edge, float]:
    """The score of edges, by leaving each out in turn: the ranking of ETENAS's last step.

    Args:
        supernet: An initialised supernet.
        rankings: Ranking functions, summed.
        batches: Batches of pictures that each ranking is averaged over.
        edges: The edges to score.

    Raises:
        NumericalError: A ranking is not finite, or is 0 for the whole supernet.
    """
    scores: dict[Edge, float] = {}
    for kind in supernet.space.cell_types:
        chosen = [edge for edge in edges if edge[0] == kind]
        variants = [uniform_mixing(supernet)]
        variants += [uniform_mixing(supernet, without_edge=edge) for edge in chosen]
        stacked = torch.stack([mixing.edges[kind] for mixing in variants])
        mixings = Mixings(variants[0], {}, {kind: stacked})
        scores |= _losses(rankings, rank(supernet, rankings, batches, mixings), chosen)
    return scores


K = TypeVar("K")


def _losses(
    rankings: Sequence[Ranking], values: Float[Tensor, "variants rankings"], left_out: Sequence[K]
) -> dict[K, float]:
    r"""Σ_r sign_r (r(N) − r(N \ e)) / r(N) for each e left out; the first variant is N itself.

    Raises:
        NumericalError: The whole network's ranking is 0.
    """
    whole = values[0]
    if bool((whole == 0).any()):
        names = ", ".join(ranking.name for ranking in rankings)
        raise NumericalError(f"{names}: a ranking is 0 for the whole supernet; no relative loss")
    signs = torch.tensor([ranking.sign for ranking in rankings], dtype=values.dtype)
    losses = ((whole - values[1:]) / whole * signs).sum(dim=1)
    return dict(zip(left_out, losses.tolist(), strict=True))
