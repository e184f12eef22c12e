"""Tests of differences against scipy's, their power against simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from zostudy.study.analysis import significance
from zostudy.study.analysis.significance import holm, independent, paired, power, runs_needed


def test_pairs_are_judged_as_scipy_does():
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    found, test = paired(list(second - first)), stats.ttest_rel(second, first)
    assert found.p == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


@pytest.mark.parametrize("sizes", [(8, 8), (3, 12)])
def test_groups_are_judged_as_scipy_does(sizes):
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=sizes[0]), draw.normal(0.5, 3.0, size=sizes[1])
    test = stats.ttest_ind(second, first, equal_var=False)
    found = independent(list(first), list(second))
    assert found.p == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.difference == pytest.approx(second.mean() - first.mean())


def test_groups_without_spread_are_judged_by_their_numbers():
    assert independent([1.0] * 4, [2.0] * 4).p == pytest.approx(2 / math.comb(8, 4))
    assert independent([1.0] * 4, [1.0] * 4).p == 1.0
    assert independent([1.0], [2.0, 3.0]).p is None


def test_holm_goes_down_by_steps_and_leaves_out_what_was_not_tested():
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([]) == []


def test_the_runs_needed_are_the_fewest_with_that_power():
    for effect, alpha in itertools.product((0.5, 1.0, -2.0), (0.05, 0.001)):
        needed = runs_needed(effect, alpha=alpha)
        assert power(effect, needed, alpha=alpha) >= significance.POWER
        assert power(effect, needed - 1, alpha=alpha) < significance.POWER
    assert runs_needed(1e-3) is None
    assert runs_needed(0.0) is None


def test_differences_of_groups_are_found_with_the_power_that_is_stated():
    draw, runs, shift, spreads = np.random.default_rng(2), 8, 2.5, (1.0, 2.0)
    own, other = (s**2 for s in spreads)
    effect, degrees = shift / math.sqrt(own + other), (own + other) ** 2 / (own**2 + other**2)
    found = [
        independent(
            list(draw.normal(0, spreads[0], runs)), list(draw.normal(shift, spreads[1], runs))
        )
        for _ in range(1000)
    ]
    share = sum(one.p < significance.ALPHA for one in found) / len(found)
    assert share == pytest.approx(power(effect, runs, degrees=degrees), abs=0.05)
