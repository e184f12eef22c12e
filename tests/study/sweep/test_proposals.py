"""Sweeps whose points a sampler proposes."""

import json

import pytest

from tests.study.sweep.engine import (
    RANGE,
    TPE,
    Engine,
    document_without_numbers,
    stored,
    uninterrupted,
)
from zostudy.errors import ConfigError
from zostudy.study.report import results
from zostudy.study.sweep import standings


def test_a_sampled_point_is_run_with_every_seed_and_its_value_is_the_mean(make):
    sampler = {"sampler": {"name": "tpe"}, "trials": 1}
    file = make({"prune.xi": [0.5]}, **sampler, seeds=[1, 3])
    engine = Engine()
    engine.run(file)
    assert [(seed, number) for _, seed, number in engine.calls] == [(1, 0), (3, 1)]
    (trial,) = stored(file)
    assert trial.value == pytest.approx(90.0 - 0.1 + 2)
    assert trial.params == {"prune.xi": 0.5}


def test_a_sampled_sweep_has_a_total_number_of_trials(make):
    engine = Engine()
    engine.run(make(RANGE, **(TPE | {"trials": 3})))
    assert len(engine.calls) == 3
    more = Engine()
    more.run(make(RANGE, **(TPE | {"trials": 5})))
    assert len(more.calls) == 2
    assert standings.standing(make(RANGE, **TPE)).trials_left == 9


@pytest.mark.slow
def test_an_interrupted_sampled_sweep_proposes_what_an_uninterrupted_one_does(make):
    file = make(RANGE, **TPE)
    count = 0

    def wrong(*_):
        nonlocal count
        count += 1
        return KeyboardInterrupt() if count in (3, 9, 13) else None

    engine = Engine(wrong)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            engine.run(file)
    engine.run(file)
    assert document_without_numbers(file) == uninterrupted(make, RANGE, **TPE)


def test_a_sampled_point_that_was_run_is_not_run_again(make):
    file = make({"prune.xi": [0.25, 0.75]}, **TPE)
    engine = Engine()
    engine.run(file)
    assert sorted(call[0]["prune.xi"] for call in engine.calls) == [0.25, 0.75]
    assert len(stored(file)) == 14
    assert standings.standing(file).trials_left == 0
    assert len(results.document(file)["points"]) == 2


def test_a_sampled_point_with_wrong_settings_fails_with_its_reason(make):
    late = [*range(1, 13), *range(21, 40)]  # more than are tried with each other beforehand
    parameters = {"search.epochs": [40, 20], "search.warmup_epochs": late}
    file = make(parameters, **(TPE | {"trials": 12}))
    summary = Engine().run(file)
    assert summary.failures
    assert all("leaves no epoch for α" in line for line in summary.failures)


def test_settings_that_optuna_cannot_hold_are_swept(make):
    values = [["nngp"], [{"name": "nngp"}]]
    file = make(
        {"prune.ranking": values, "evaluate.augment": [{"cutout": 2}, {"cutout": 4}]},
        trial={"prune": {"source": "zero_shot"}},
        **(TPE | {"trials": 6}),
    )
    engine = Engine()
    engine.run(file)
    assert {json.dumps(call[0]["evaluate.augment"]) for call in engine.calls} == {
        '{"cutout": 2}',
        '{"cutout": 4}',
    }
    assert standings.standing(file).trials_left == 0


def test_several_objectives_are_all_told(make):
    objectives = [
        {"metric": "validation_accuracy", "direction": "maximize"},
        {"metric": "search_peak_bytes", "direction": "minimize"},
    ]
    for settings in ({"objectives": objectives}, TPE | {"objectives": objectives, "trials": 4}):
        parameters = {"prune.xi": [0.25, 0.5]}
        name = {"study": "tpe" if "trials" in settings else "grid"}
        file = make(parameters, trial=name, **settings)
        Engine().run(file)
        values = {(t.params["prune.xi"], tuple(t.values)) for t in stored(file)}
        assert values <= {(0.25, (89.775, 250000.0)), (0.5, (89.9, 500000.0))}


def test_a_sampled_sweep_does_not_learn_from_other_settings(make):
    Engine().run(make(RANGE, **(TPE | {"trials": 2})))
    trial = {"evaluate": {"epochs": 7}}
    with pytest.raises(ConfigError, match=r"evaluate\.epochs: 7, but .* begun with 600"):
        Engine().run(make(RANGE, trial=trial, **TPE))
