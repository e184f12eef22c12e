"""The trial that conditions pick."""

import pytest

from zostudy.config.sweep import ObjectiveSettings, SweepSettings
from zostudy.errors import ConfigError
from zostudy.study.report.picking import Condition, condition, picked

ACCURACY = ObjectiveSettings()
SMALL = ObjectiveSettings(metric="macs", direction="minimize")


def of(objectives, seeds, **constraints):
    """A sweep with a number of seeds, and the most of metrics."""
    limits = {name: {"at_most": most} for name, most in constraints.items()}
    return SweepSettings(
        objectives=tuple(objectives), seeds=tuple(range(seeds)), constraints=limits
    )


def trial(number, accuracy, macs, state="complete", point=None):
    metrics = {"validation_accuracy": accuracy, "macs": macs, "parameters": 100.0}
    params = {"prune.xi": number if point is None else point}
    return {"number": number, "state": state, "params": params, "metrics": metrics}


TRIALS = [
    trial(0, 90.0, 1e6),
    trial(1, 92.0, 3e6),
    trial(2, 91.0, 2e6),
    trial(3, 95.0, 1e5, "excluded"),
    trial(4, 91.0, 1.5e6),
]


@pytest.mark.parametrize(
    ("texts", "objectives", "number"),
    [
        (["macs<1e9"], [ACCURACY], 1),
        (["macs<3e6"], [ACCURACY], 2),
        (["macs <= 3e6"], [ACCURACY], 1),
        (["macs<3e6"], [ACCURACY, SMALL], 4),
        (["validation_accuracy>90", "macs>1.5e6"], [SMALL], 2),
        (["validation_accuracy>=90", "macs<1.2e6"], [ACCURACY], 0),
    ],
)
def test_the_best_point_that_meets_all_conditions_is_picked(texts, objectives, number):
    assert picked(TRIALS, [condition(text) for text in texts], of(objectives, 1)) == number


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["macs<5e5"], r"no complete point has macs<500000; nearest: trial 0 with macs 1000000$"),
        (
            ["validation_accuracy>91.5", "macs<2.9e6"],
            r"has validation_accuracy>91.5 and macs<2.9e\+06; nearest: trial 2 with "
            r"validation_accuracy 91, macs 2000000$",
        ),
        (["prune_reliability<1"], r"--pick: no complete trial has the metric prune_reliability$"),
    ],
)
def test_where_none_meets_them_the_nearest_is_named(texts, message):
    with pytest.raises(ConfigError, match=message):
        picked(TRIALS, [condition(text) for text in texts], of([ACCURACY], 1))


#: Points of two seeds: one with the luckiest trial, one that is better on average.
SEEDS = [
    trial(0, 97.0, 1e6, point="lucky"),
    trial(1, 85.0, 1e6, point="lucky"),
    trial(2, 92.0, 3e6, point="better"),
    trial(3, 93.0, 1e6, point="better"),
    trial(4, 99.0, 1e5, point="half run"),
]


def test_points_are_compared_by_their_means_and_a_lucky_seed_picks_nothing():
    assert picked(SEEDS, [condition("macs<1e9")], of([ACCURACY], 2)) == 3


def test_means_meet_the_conditions_and_the_picked_trial_meets_them_too():
    assert picked(SEEDS, [condition("macs<1.5e6")], of([ACCURACY], 2)) == 0
    assert picked(SEEDS, [condition("validation_accuracy<92.6")], of([ACCURACY], 2)) == 2
    with pytest.raises(ConfigError, match=r"nearest: trials 0, 1 with macs 1000000 on average$"):
        picked(SEEDS, [condition("macs<9e5")], of([ACCURACY], 2))


def test_where_means_meet_the_conditions_and_no_trial_does_that_is_said():
    conditions = [condition("validation_accuracy>90"), condition("macs<1.5e6")]
    pair = [trial(5, 97.0, 1.9e6), trial(6, 89.0, 1e6)]
    both = [one | {"params": {"prune.xi": 1}} for one in pair]
    said = r"--pick: trials 5, 6 have validation_accuracy>90 and macs<1.5e\+06 on average, but none"
    with pytest.raises(ConfigError, match=said):
        picked(both, conditions, of([ACCURACY], 2))


def test_a_point_that_breaks_a_constraint_is_not_picked():
    assert picked(SEEDS, [condition("macs<1e9")], of([ACCURACY], 2, macs=2e6)) == 0
    with pytest.raises(ConfigError, match=r"no complete point keeps to sweep\.constraints"):
        picked(SEEDS, [condition("macs<1e9")], of([ACCURACY], 2, macs=1e3))


@pytest.mark.parametrize("text", ["latency<5ms", "latency_ms < 5ms", "latency<5MS"])
def test_a_unit_belongs_to_the_name_of_the_metric(text):
    with pytest.raises(ConfigError, match=r"is no condition; .*did you mean 'latency_ms<5'\?$"):
        condition(text)


def test_a_point_that_lacks_a_seed_is_not_picked():
    with pytest.raises(ConfigError, match="no point has all of its 3 seeds yet"):
        picked(SEEDS, [condition("macs<1e9")], of([ACCURACY], 3))


def test_a_trial_without_the_metric_does_not_meet_a_condition_on_it():
    assert not Condition("regret", "<", 1).met({"macs": 1.0})
    assert not Condition("regret", ">", 1).met({"macs": 1.0})


@pytest.mark.parametrize(
    "text", ["macs", "macs=1", "macs<", "macs<x", "macs<nan", "macs<5ms", "<1", "macs<1 2"]
)
def test_what_states_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match=r"is no condition; allowed: a metric, one of <, <=, >"):
        condition(text)


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"--pick: unknown metric 'mac'.*'macs'"):
        condition("mac<1")


def test_nothing_is_picked_without_objectives_or_complete_trials():
    with pytest.raises(ConfigError, match="the study has no objectives"):
        picked(TRIALS, [condition("macs<1e9")], of([], 1))
    with pytest.raises(ConfigError, match="no trial is complete yet"):
        picked([trial(0, 1, 1, "failed")], [condition("macs<1e9")], of([ACCURACY], 1))


@pytest.mark.parametrize("name", ["test_accuracy", "regret", "rank", "percentile"])
def test_nothing_is_picked_by_the_test_part(name):
    with pytest.raises(ConfigError, match=f"--pick: {name} comes from the test part"):
        condition(f"{name}>50")


@pytest.mark.parametrize("name", ["validation_accuracy", "evaluate_seconds", "parameters"])
def test_costs_and_validation_accuracy_pick(name):
    assert condition(f"{name}>50").metric == name
