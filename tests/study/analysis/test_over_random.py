"""What a search gives over random genotypes: by hand, and how often chance is called a gain."""

import random

import pytest

from zostudy.study.analysis.over_random import Side, gains

DRAWN = {0: [60.0, 62.0], 1: [63.0], 2: [64.0, 60.0]}


def test_seeds_are_paired_with_the_mean_of_their_random_genotypes():
    (one,), whole = gains([Side("a", {0: 63.0, 1: 65.0, 2: 63.0}, DRAWN)])
    assert one == whole
    assert (one.difference, one.seeds, one.genotypes) == (pytest.approx(5 / 3), 3, 5)
    assert one.interval == pytest.approx((5 / 3 - 1.4342, 5 / 3 + 1.4342), abs=1e-3)
    assert one.p == pytest.approx(0.0377, abs=1e-4)
    assert one.percentile == 80


def test_random_genotypes_that_points_share_count_once_and_points_are_one_family():
    sides = [Side("a", {0: 63.0, 1: 65.0, 2: 63.0}, DRAWN), Side("a", {0: 60.0, 1: 65.0}, DRAWN)]
    found, whole = gains(sides)
    assert whole.genotypes == 5
    assert found[0].p == pytest.approx(2 * 0.0377, abs=1e-3)
    assert whole.difference == pytest.approx((0.5 + 2) / 2)  # seed 2 has one point alone


def test_one_seed_has_no_interval_and_no_shared_seed_has_nothing():
    found, whole = gains([Side("a", {0: 63.0}, DRAWN), Side("b", {7: 63.0}, DRAWN)])
    assert found[1] is None
    assert (found[0].difference, found[0].p, found[0].interval) == (2.0, None, None)
    assert not whole.differs
    assert gains([]) == ([], None)


def test_chance_is_called_a_gain_in_one_study_of_twenty():
    """1,000 studies of 3 points, 5 seeds and 10 random genotypes; masks add to all of a seed."""
    drawn = random.Random(1)
    claimed = 0
    for _ in range(1000):
        mask = {seed: drawn.gauss(0, 1) for seed in range(5)}

        def trial(seed, mask=mask):
            return 90 + mask[seed] + drawn.gauss(0, 1)

        beside = {seed: [trial(seed), trial(seed)] for seed in range(5)}
        sides = [Side("a", {seed: trial(seed) for seed in range(5)}, beside) for _ in range(3)]
        points, _ = gains(sides)
        claimed += any(one.differs for one in points)
    assert claimed <= 65  # 50 are expected at most; 65 and more have a probability of 2 %
