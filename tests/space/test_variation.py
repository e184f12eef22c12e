import random
from collections import Counter

import pytest

from tests.methods import SPACES, mask_of
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.space.variation import Variation

SHARES = ("half", "full", "single")


def variation(space, share, seed=0):
    return Variation(mask_of(SPACES[space], share), random.Random(seed))


def allowed(genotype, mask):
    space = mask.space
    return all(
        mask.rows[kind][space.edges.index((source, target))][space.operations.index(name)]
        for kind, source, target, name in genotype.operations()
    )


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("share", SHARES)
def test_every_step_stays_within_the_mask(space, share):
    steps = variation(space, share)
    one, other = steps.random(), steps.random()
    found = [one, other, steps.mutated(one, 3), steps.crossed(one, other), *steps.neighbours(one)]
    assert all(allowed(genotype, steps.mask) for genotype in found)


def differences(one, other):
    return len(set(one.operations()) - set(other.operations()))


@pytest.mark.parametrize("space", SPACES)
def test_neighbours_are_one_change_away_and_each_is_there_once(space):
    steps = variation(space, "full")
    one = steps.random()
    neighbours = steps.neighbours(one)
    assert {differences(one, neighbour) for neighbour in neighbours} == {1}
    assert len(set(neighbours)) == len(neighbours)
    assert steps.mutated(one) in neighbours


def test_the_neighbours_of_a_cell_of_nasbench201_are_24():
    steps = variation("nasbench201", "full")
    assert len(steps.neighbours(steps.random())) == 6 * 4


def test_a_child_has_each_edge_of_one_of_its_parents():
    steps = variation("nasbench201", "full")
    one, other = steps.random(), steps.random()
    both = set(one.operations()) | set(other.operations())
    assert all(set(steps.crossed(one, other).operations()) <= both for _ in range(20))


@pytest.mark.slow
def test_all_architectures_of_a_mask_are_drawn_equally_often():
    space = SPACES["darts"]
    mask = mask_of(space, "single")
    added = [("normal", edge, 3 if not mask.rows["normal"][edge][3] else 4) for edge in (0, 1, 3)]
    steps = Variation(mask.changed(add=added), random.Random(0))
    first = Counter(steps.random().cells["normal"][:2] for _ in range(3000))
    ways = {g.cells["normal"][:2] for g in enumeration.genotypes(_small(steps.mask))}
    assert set(first) == ways
    assert max(first.values()) < 1.6 * min(first.values())


def _small(mask):
    """The mask with what is drawn above, and one operation on every other edge."""
    rows = {
        kind: tuple(
            row if kind == "normal" and edge < 5 else tuple(c == row.index(True) for c in range(8))
            for edge, row in enumerate(own)
        )
        for kind, own in mask.rows.items()
    }
    return OperationMask(mask.space, rows)


def test_nothing_changes_where_one_architecture_is_left():
    steps = variation("nasbench201", "single")
    one = steps.random()
    assert steps.neighbours(one) == []
    assert steps.mutated(one, 2) == one
