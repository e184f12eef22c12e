"""Shares of variance: by hand, with gaps in the grid, and what chance alone is given."""

import random

import pytest

from zostudy.study.analysis.importances import importances


def trials(value, xis=(0.25, 0.5), names=("none", "beta_decay"), seeds=(0, 1, 2), leave_out=()):
    return [
        {
            "state": "complete",
            "seed": seed,
            "params": {"prune.xi": xi, "search.regularizer.name": name},
            "metrics": {"accuracy": value(xi, name, seed)},
        }
        for xi in xis
        for name in names
        for seed in seeds
        if (xi, name) not in leave_out
    ]


XI, NAME = ("prune.xi",), ("search.regularizer.name",)


def test_settings_that_add_up_share_the_variance_and_seeds_take_none():
    found = importances(
        trials(lambda xi, name, seed: 12 * xi + (name == "none") + 50 * seed), "accuracy"
    )
    assert found.shares[XI] == pytest.approx(0.9)  # effects of 3 and 1: 9 of 10 parts
    assert found.shares[NAME] == pytest.approx(0.1)
    assert found.shares[XI + NAME] == pytest.approx(0, abs=1e-9)
    assert found.rest == pytest.approx(0, abs=1e-9)
    assert found.trials == 12


def test_what_only_both_together_do_is_an_interaction():
    found = importances(
        trials(lambda xi, name, _: float((xi > 0.3) == (name == "none"))), "accuracy"
    )
    assert found.shares[XI + NAME] == pytest.approx(1)
    assert found.shares[XI] == pytest.approx(0, abs=1e-9)


def test_a_grid_may_have_gaps():
    found = importances(
        trials(lambda xi, name, _: 4 * xi + (name == "none"), leave_out=[(0.5, "none")],
               xis=(0.25, 0.5, 0.75)),
        "accuracy",
    )  # fmt: skip
    assert found.shares[XI] > found.shares[NAME] > 0
    assert found.rest < 0.3


def test_chance_is_given_little_of_either():
    drawn = random.Random(3)
    found = [
        importances(trials(lambda *_: drawn.gauss(0, 1)), "accuracy").shares[XI] for _ in range(300)
    ]
    assert sum(found) / len(found) < 0.08  # uncorrected it is 1 of 9 degrees of freedom


def test_many_numbers_are_cut_into_parts():
    drawn = random.Random(1)
    xis = tuple(drawn.random() for _ in range(40))
    found = importances(trials(lambda xi, *_: xi, xis=xis, seeds=(0,)), "accuracy")
    assert found.cut == ("prune.xi",)
    assert 0.85 < found.shares[XI] < 1


@pytest.mark.parametrize(
    "case",
    [
        trials(lambda *_: 1.0),
        trials(lambda xi, *_: xi, names=("none",)),
        trials(lambda xi, *_: xi, seeds=(0,))[:3],
        [],
    ],
)
def test_nothing_is_said_where_nothing_can_be(case):
    assert importances(case, "accuracy") is None
