import itertools
import random

import pytest

from tests.methods import SPACES, mask_of
from zostudy.registry import components
from zostudy.search import algorithms
from zostudy.space.variation import Variation

ALGORITHMS = components("search_algorithm")


def wanted(genotype):
    """A score with one top: how many edges have the last operation."""
    space = genotype.space
    return sum(name == space.keepable[-1] for *_, name in genotype.operations())


def proposals(name, count, seed=0, space="nasbench201", **options):
    variation = Variation(mask_of(SPACES[space], "full"), random.Random(seed))

    def fitness(genotypes):
        return [wanted(genotype) for genotype in genotypes]

    return list(itertools.islice(ALGORITHMS[name].load()(variation, fitness, **options), count))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize(
    "space",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "darts")) for name in SPACES],
)
def test_an_algorithm_follows_its_draws_alone(name, space):
    first = proposals(name, 120, space=space)
    assert first == proposals(name, 120, space=space)
    assert first != proposals(name, 120, seed=1, space=space)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("evolution", {"population": 20, "sample": 5}),
        ("evolution", {"population": 20, "sample": 5, "crossover": 0.5}),
        ("evolution", {"population": 20, "sample": 5, "changes": 2, "removes": "worst"}),
        ("free_rea", {"population": 20, "sample": 5}),
        ("local", {}),
        ("local", {"step": "first"}),
    ],
)
def test_an_algorithm_that_reads_scores_finds_better_ones_than_chance(name, options):
    found = [max(map(wanted, proposals(name, 150, seed, **options))) for seed in range(8)]
    chance = [max(map(wanted, proposals("random", 150, seed))) for seed in range(8)]
    assert sum(found) > sum(chance)


def test_local_search_goes_on_from_another_start_when_no_neighbour_is_better():
    found = proposals("local", 300)
    assert sum(wanted(genotype) == 6 for genotype in found) > 0
    assert len(set(found)) < len(found) or len(set(found)) > 25


def test_evolution_begins_with_as_many_random_ones_as_are_asked_for():
    few = proposals("evolution", 3, population=50, initial=2, sample=1)
    variation = Variation(mask_of(SPACES["nasbench201"], "full"), random.Random(0))
    assert few[:2] == [variation.random(), variation.random()]
    assert len(set(few[2].operations()) - set().union(*(one.operations() for one in few[:2]))) <= 1


def test_of_equal_architectures_the_first_is_the_best():
    one, other = proposals("random", 2)
    assert algorithms._best_first([one, other, one], lambda given: [0.0] * len(given))[0] == one
