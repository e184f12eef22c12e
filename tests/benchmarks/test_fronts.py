import random

import numpy as np
import pytest

from benchmarks.fronts import all_macs, counted_macs, front, hypervolume
from zostudy.space.mask import OperationMask
from zostudy.space.nasbench201 import nasbench201
from zostudy.space.variation import Variation


def dominated(gains, costs, point):
    no_worse = (gains >= gains[point]) & (costs <= costs[point])
    better = (gains > gains[point]) | (costs < costs[point])
    return bool((no_worse & better).any())


def test_a_front_is_what_nothing_dominates():
    drawn = np.random.default_rng(0)
    for _ in range(20):
        gains, costs = drawn.integers(0, 9, (2, 40)).astype(float)
        undominated = {p for p in range(40) if not dominated(gains, costs, p)}
        found = front(gains, costs).tolist()
        assert len(found) == len(set(found))
        assert set(found) == undominated


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(3, 1)], 2 * 4),
        ([(3, 1), (2, 1), (3, 4)], 2 * 4),  # what is dominated adds nothing
        ([(2, 1), (5, 3)], 1 * 4 + 3 * 2),
        ([(1, 0), (9, 5)], 0),  # nothing above the least gain, nothing below the most cost
    ],
)
def test_the_hypervolume_is_the_area_between_a_front_and_the_corner(points, area):
    gains, costs = np.array(points, dtype=float).T
    assert hypervolume(gains, costs, least=1, most=5) == area


def test_macs_of_every_cell_follow_from_how_many_convolutions_it_has():
    variation = Variation(OperationMask.full(nasbench201()), random.Random(0))
    cells = [variation.random() for _ in range(30)]
    for cell, known in list(zip(cells, all_macs(cells), strict=True))[-5:]:
        assert counted_macs(cell) == known
