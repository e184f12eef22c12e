"""Differences between the values of a swept setting, against plain loops and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from zostudy.study.analysis.factors import comparisons
from zostudy.study.analysis.significance import power


def trials(value, seeds=3, xi=(0.25, 0.5), source=("random", "zero_shot"), **states):
    """Complete trials whose accuracy is `value(xi, source, seed)`."""
    return [
        {
            "state": states.get(f"s{seed}", "complete"),
            "params": {"prune.xi": x, "prune.source": s},
            "seed": seed,
            "metrics": {"validation_accuracy": value(x, s, seed)},
        }
        for x, s, seed in itertools.product(xi, source, range(seeds))
    ]


def noise(seed=0, shift=0.0):
    """A study's accuracies: a chance that points with a seed share, and one of each trial."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=100)
    return lambda _x, s, k: float(
        shared[k] + generator.normal() + (shift if s == "zero_shot" else 0.0)
    )


def test_a_difference_is_that_of_pairs_which_differ_in_nothing_else():
    found = comparisons(trials(noise()), "validation_accuracy")
    assert [(c.setting, c.first, c.second) for c in found] == [
        ("prune.xi", 0.25, 0.5),
        ("prune.source", "random", "zero_shot"),
    ]
    by_seed = {}
    for one, other in itertools.product(trials(noise()), trials(noise())):
        same = one["seed"] == other["seed"] and (
            one["params"]["prune.source"] == other["params"]["prune.source"]
        )
        if same and (one["params"]["prune.xi"], other["params"]["prune.xi"]) == (0.25, 0.5):
            d = other["metrics"]["validation_accuracy"] - one["metrics"]["validation_accuracy"]
            by_seed.setdefault(one["seed"], []).append(d)
    means = [sum(d) / len(d) for d in by_seed.values()]
    test = stats.ttest_1samp(means, 0.0)
    low, high = test.confidence_interval(0.95)
    assert found[0].difference == pytest.approx(np.mean(means))
    assert found[0].interval == pytest.approx((low, high))
    assert found[0].effect == pytest.approx(np.mean(means) / np.std(means, ddof=1))
    assert (found[0].pairs, found[0].seeds) == (6, 3)


def test_p_values_are_corrected_as_one_family():
    found = comparisons(trials(noise(3), seeds=4, xi=(0.1, 0.2, 0.3)), "validation_accuracy")
    plain = [2 * float(stats.t.sf(abs(c.effect) * math.sqrt(c.seeds), c.seeds - 1)) for c in found]
    order = sorted(range(4), key=plain.__getitem__)
    holm = [min(1.0, plain[i] * (4 - rank)) for rank, i in enumerate(order)]
    for rank, index in enumerate(order):
        assert found[index].p == pytest.approx(max(holm[: rank + 1]))


def test_a_single_seed_has_neither_interval_nor_p_value():
    found = comparisons(trials(noise(), seeds=1), "validation_accuracy")
    assert [(c.interval, c.p, c.effect, c.seeds_needed) for c in found] == [(None,) * 4] * 2
    assert not any(c.differs for c in found)


def test_only_complete_trials_that_both_values_have_are_paired():
    study = trials(noise(), s2="failed")
    assert [c.seeds for c in comparisons(study, "validation_accuracy")] == [2, 2]
    one_sided = [t for t in study if t["params"]["prune.source"] == "random"]
    assert [c.setting for c in comparisons(one_sided, "validation_accuracy")] == ["prune.xi"]
    assert comparisons(study, "test_accuracy") == comparisons([], "validation_accuracy") == []


def test_the_same_difference_in_every_seed_is_judged_by_the_number_of_seeds():
    same = {n: comparisons(trials(lambda x, *_: x, seeds=n), "validation_accuracy") for n in (3, 9)}
    assert [c.p for c in same[3]] == [2 * 0.25, 1.0]
    assert [c.differs for c in same[9]] == [True, False]


def test_of_many_values_each_is_compared_with_the_first():
    found = comparisons(trials(noise(), xi=(1, 2, 3, 4, 5)), "validation_accuracy")
    assert [(c.first, c.second) for c in found[:4]] == [(1, 2), (1, 3), (1, 4), (1, 5)]


@pytest.mark.parametrize("seeds", [3, 8])
def test_at_most_one_null_study_of_twenty_claims_a_difference(seeds):
    """The share of 1,000 simulated studies, with the seed of the simulation fixed."""
    claimed = sum(
        any(
            c.differs
            for c in comparisons(trials(noise(i), seeds, (0.25, 0.5, 0.75)), "validation_accuracy")
        )
        for i in range(1000)
    )
    assert claimed <= 1000 * 0.05 + 2 * math.sqrt(1000 * 0.05 * 0.95)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_true_differences_are_found_with_the_power_that_is_stated(shift):
    """Of a study with one setting, whose d has a standard deviation of √2 and a mean of `shift`."""
    seeds = 8
    studies = [trials(noise(i, shift), seeds, xi=(0.5,)) for i in range(500)]
    found = sum(comparisons(study, "validation_accuracy")[-1].differs for study in studies)
    assert found / 500 == pytest.approx(power(shift / math.sqrt(2), seeds), abs=0.07)
