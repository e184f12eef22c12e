"""Ranks of methods over data sets, against scipy's and Demšar's formula."""

import pytest
from scipy import stats

from zostudy.study.analysis.ranks import ranks

#: Four classifiers on 14 data sets, with ties.
AREAS = {
    "C4.5": (763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957),
    "C4.5+m": (768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978),
    "C4.5+cf": (771, 590, 968, 654, 886, 916, 609, 563, 866, 1000, 965, 614, 975, 946),
    "C4.5+m+cf": (798, 569, 967, 657, 898, 931, 685, 625, 875, 1000, 962, 669, 975, 970),
}


def values(areas):
    return {name: dict(enumerate(map(float, own))) for name, own in areas.items()}


def test_ranks_p_and_critical_difference_are_those_of_slow_formulas():
    found = ranks(values(AREAS), range(14))
    columns = [stats.rankdata([-own[d] for own in AREAS.values()]) for d in range(14)]
    means = {name: sum(c[i] for c in columns) / 14 for i, name in enumerate(AREAS)}
    assert found.mean_ranks == pytest.approx(means)
    assert list(found.mean_ranks) == sorted(means, key=means.__getitem__)
    assert found.p == pytest.approx(stats.friedmanchisquare(*AREAS.values()).pvalue)
    # Demšar 2006, section 3.2.2: q for four methods at 0.05 is 2.569.
    assert found.critical_difference == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=1e-3)
    assert found.groups == [tuple(found.mean_ranks)]


def test_a_group_is_what_lies_within_the_critical_difference():
    apart = {name: {d: float(-rank) for d in range(14)} for rank, name in enumerate("abcd")}
    assert ranks(apart, range(14)).groups == [("a", "b"), ("b", "c"), ("c", "d")]


def test_methods_that_are_missing_somewhere_are_left_out():
    some = values(AREAS) | {"few": {0: 1.0}}
    found = ranks(some, range(14))
    assert found.missing == {"few": tuple(range(1, 14))}
    assert "few" not in found.mean_ranks


@pytest.mark.parametrize(("methods", "datasets"), [(2, 14), (4, 1)])
def test_of_too_few_there_are_no_ranks(methods, datasets):
    found = ranks(dict(list(values(AREAS).items())[:methods]), range(datasets))
    assert (found.mean_ranks, found.p, found.critical_difference, found.groups) == (
        {},
        None,
        None,
        [],
    )


def test_methods_that_are_equal_everywhere_do_not_differ():
    assert ranks({name: {0: 1.0, 1: 1.0} for name in "abc"}, range(2)).p == 1.0
