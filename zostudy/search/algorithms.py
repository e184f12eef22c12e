"""Search algorithms: which architecture is scored next, where a score is all that is known.

An algorithm is ``(variation, fitness, *, options) -> architectures``: a generator whose every
architecture is scored before it is asked for the next one. ``fitness`` gives, for architectures
that were scored, how good each is among them; larger is better. One that proposes an architecture
again gets on without another score. It is asked until the search has scored as many as it may.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm, rankdata

from zostudy.predictors.encodings import Encoder
from zostudy.predictors.models import gaussian_posterior
from zostudy.registry import search_algorithm
from zostudy.space.genotype import Genotype
from zostudy.space.variation import Variation

Fitness = Callable[[Sequence[Genotype]], Sequence[float]]


@search_algorithm("random")
def random(variation: Variation, fitness: Fitness) -> Iterator[Genotype]:
    """Architectures at random, all equally likely."""
    del fitness
    while True:
        yield variation.random()


@search_algorithm("evolution")
def evolution(  # noqa: PLR0913  # its settings
    variation: Variation,
    fitness: Fitness,
    *,
    population: Annotated[int, "[2, 100000]"] = 100,
    initial: Annotated[int, "[0, 100000]"] = 0,
    sample: Annotated[int, "[1, 100000]"] = 25,
    changes: Annotated[int, "[1, 1000]"] = 1,
    crossover: Annotated[float, "[0, 1]"] = 0.0,
    removes: Literal["oldest", "worst"] = "oldest",
) -> Iterator[Genotype]:
    """Children of the best of a few drawn from a population, which loses its oldest.

    The defaults are those of regularized evolution.

    Args:
        variation: Draws and changes architectures.
        fitness: How good they are.
        population: Architectures that live at once.
        initial: Random ones at the start; 0 for as many as the population has.
        sample: Architectures drawn from the population, with repetition, of which the best is the
            parent; 1 for a parent at random.
        changes: Mutations of a child.
        crossover: Probability that a child has two parents, the best two that are drawn, from each
            of whom it takes about half, instead of mutations.
        removes: Which of the population goes when a child comes: the ``oldest``, or the ``worst``.

    References:
        "Regularized Evolution for Image Classifier Architecture Search", Algorithm 1 and section
        3.3 (Real et al. 2019).
    """
    living: list[Genotype] = []
    while len(living) < (initial or population):
        living.append(variation.random())
        yield living[-1]
    while True:
        drawn = variation.draw.choices(living, k=sample)
        first, *others = _best_first(drawn, fitness)
        if others and variation.draw.random() < crossover:
            child = variation.crossed(first, others[0])
        else:
            child = variation.mutated(first, changes)
        yield child
        living.append(child)
        while len(living) > population:
            living.remove(living[0] if removes == "oldest" else _best_first(living, fitness)[-1])


@search_algorithm("local")
def local(
    variation: Variation, fitness: Fitness, *, step: Literal["best", "first"] = "best"
) -> Iterator[Genotype]:
    """From an architecture to a better neighbour until there is none; then from another start.

    Args:
        variation: Draws and changes architectures.
        fitness: How good they are.
        step: Whether all neighbours are scored and the ``best`` is taken, or the ``first`` that is
            better.

    References:
        "Local Search is State of the Art for Neural Architecture Search Benchmarks", Algorithm 1
        (White et al. 2020), for ``best``.
    """
    while True:
        best, here = variation.random(), None
        yield best
        while best != here:
            here, tried = best, [best]
            neighbours = variation.neighbours(here)
            variation.draw.shuffle(neighbours)
            for neighbour in neighbours:
                yield neighbour
                tried.append(neighbour)
                if step == "first" and _best_first([here, neighbour], fitness)[0] != here:
                    break
            best = _best_first(tried if step == "best" else [here, tried[-1]], fitness)[0]


@search_algorithm("free_rea")
def free_rea(
    variation: Variation,
    fitness: Fitness,
    *,
    population: Annotated[int, "[2, 100000]"] = 100,
    sample: Annotated[int, "[2, 100000]"] = 25,
) -> Iterator[Genotype]:
    """Two mutants and a crossing of the best two of a few; the oldest and then the worst go.

    Args:
        variation: Draws and changes architectures.
        fitness: How good they are.
        population: Architectures that live at once, each different.
        sample: Architectures drawn from them; all where there are fewer.

    References:
        FreeREA (Cavagnero et al. 2023); defaults and order of steps of its public code.
    """
    ages: dict[Genotype, int] = {}
    for _ in range(population):
        ages[variation.random()] = 0
        yield list(ages)[-1]
    generation = 0
    while True:
        generation += 1
        drawn = variation.draw.sample(list(ages), min(sample, len(ages)))
        first, *others = _best_first(drawn, fitness)
        second = others[0] if others else first
        children = variation.mutated(first), variation.mutated(second)
        for child in (*children, variation.crossed(first, second)):
            yield child
            ages[child] = generation
        if len(ages) > population:
            del ages[min(ages, key=lambda one: ages[one])]
            ages = {one: ages[one] for one in _best_first(list(ages), fitness)[:population]}


@search_algorithm("expected_improvement")
def expected_improvement(
    variation: Variation,
    fitness: Fitness,
    *,
    initial: Annotated[int, "[2, 100000]"] = 40,
    batch: Annotated[int, "[1, 10000]"] = 10,
    parents: Annotated[int, "[1, 10000]"] = 10,
    others: Annotated[int, "[0, 100000]"] = 100,
) -> Iterator[Genotype]:
    """What a Gaussian process expects most of, among neighbours of the best and random others.

    It is fitted to the normal scores of all that is known, on the architectures' graph statistics
    and operations, and again after every batch.

    Args:
        variation: Draws and changes architectures.
        fitness: How good they are.
        initial: Random ones at the start.
        batch: Architectures that are scored between two fits.
        parents: The best ones, whose neighbours are candidates.
        others: Random candidates beside them.

    References:
        The scheme of "BANANAS", Algorithm 1 (White et al. 2021): a predictor, and candidates from
        mutations of the best; with a Gaussian process in place of its ensemble of networks.
    """
    known: dict[Genotype, None] = {}
    for _ in range(initial):
        known[variation.random()] = None
        yield list(known)[-1]
    while True:
        best = _best_first(list(known), fitness)
        drawn = [variation.random() for _ in range(others)]
        near = [one for parent in best[:parents] for one in variation.neighbours(parent)]
        candidates = [one for one in dict.fromkeys([*near, *drawn]) if one not in known]
        chosen = _most_expected(best, fitness(best), candidates)[:batch]
        for one in chosen or drawn[:1] or [variation.random()]:
            known[one] = None
            yield one


def _most_expected(
    known: Sequence[Genotype], values: Sequence[float], candidates: Sequence[Genotype]
) -> list[Genotype]:
    """Candidates by their expected improvement on the best, on the scale of normal scores."""
    if not candidates:
        return []
    scores = norm.ppf((rankdata(values) - 0.5) / len(values))
    rows, others = (np.array([_features(one) for one in own]) for own in (known, candidates))
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation[deviation == 0] = 1.0
    posterior = gaussian_posterior((rows - mean) / deviation, scores)
    expected, spread = posterior((others - mean) / deviation)
    gain, spread = expected - scores.max(), np.maximum(spread, 1e-9)
    ratio = gain / spread
    improvement = gain * norm.cdf(ratio) + spread * norm.pdf(ratio)
    return [candidates[index] for index in np.argsort(-improvement, kind="stable")]


@functools.lru_cache(maxsize=100_000)
def _features(genotype: Genotype) -> Float64[np.ndarray, " features"]:
    """Graph statistics and operations of an architecture."""
    return np.asarray(Encoder(genotype.space, ("graph", "adjacency"), ())([genotype])[0])


def _best_first(genotypes: Sequence[Genotype], fitness: Fitness) -> list[Genotype]:
    """Each architecture once, the best first; of equal ones the first."""
    different = list(dict.fromkeys(genotypes))
    found = dict(zip(different, fitness(different), strict=True))
    return sorted(different, key=lambda genotype: -found[genotype])
