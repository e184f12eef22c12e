"""Search algorithms: which architecture is scored next, where a score is all that is known.

An algorithm is ``(variation, fitness, *, options) -> architectures``: a generator whose every
architecture is scored before it is asked for the next one. ``fitness`` gives, for architectures
that were scored, how good each is among them; larger is better. One that proposes an architecture
again gets on without another score. It is asked until the search has scored as many as it may.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

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


def _best_first(genotypes: Sequence[Genotype], fitness: Fitness) -> list[Genotype]:
    """Each architecture once, the best first; of equal ones the first."""
    different = list(dict.fromkeys(genotypes))
    found = dict(zip(different, fitness(different), strict=True))
    return sorted(different, key=lambda genotype: -found[genotype])
