"""Sweeps whose rules end trials or keep them from being run."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from zostudy.config.loading import StudyFile, from_document
from zostudy.study import console, results, sweep
from zostudy.study.points import Ended, Notice, Point, TrialOutcome


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: SQLite waits for the disk at every commit."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def make(folder) -> Callable[..., StudyFile]:
    def study(**settings) -> StudyFile:
        return from_document(
            {
                "study": "s",
                "prune": {"source": "random"},
                "storage": {"optuna": f"sqlite:///{folder}/optuna.db"},
                "sweep": settings,
            }
        )

    return study


class Engine:
    """Trials that take no time; the memory of a point is its ξ in MB."""

    def __init__(self, file: StudyFile) -> None:
        self.file = file
        self.ran: list[float] = []
        self.notices: list[Notice] = []

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome | Ended:
        xi = point.values["prune.xi"]
        metrics = {"search_peak_bytes": 2.0**20 * xi}
        limit = self.file.config.sweep.constraints.get("search_peak_bytes")
        if limit is not None and metrics["search_peak_bytes"] > limit.most:
            return Ended.by(self.file.config.sweep, "excluded", "too large", metrics)
        self.ran.append(xi)
        metrics |= {"validation_accuracy": 90 + xi, "macs": 1.0 - xi}
        return TrialOutcome(metrics, {"of": [xi, seed]}, f"run-{number}")

    def run(self) -> sweep.SweepSummary:
        return sweep.run(self.file, self, self.notices.append)


def trials(file: StudyFile) -> list[optuna.trial.FrozenTrial]:
    url = file.config.storage.optuna
    return optuna.load_study(study_name=file.config.study, storage=url).trials


XI = {"prune.xi": [0.25, 0.5, 0.75]}
HALF = {"search_peak_bytes": {"at_most": "512KiB"}}


def test_an_excluded_point_is_no_failure_and_is_not_tried_again(make):
    file = make(parameters=XI, constraints=HALF, seeds=[0, 1])
    engine = Engine(file)
    assert engine.run().failures == ()
    assert engine.ran == [0.25, 0.25, 0.5, 0.5]
    assert Engine(file).run().executed == 0
    standing = sweep.standing(file)
    assert (standing.trials_left, standing.trials_failed, standing.trials_ended) == (0, 0, 2)
    assert "4 complete, 2 ended by a rule, 0 to run" in console.planned(standing)
    found = results.document(file)
    assert [t["state"] for t in found["trials"]] == ["complete"] * 4 + ["excluded"] * 2
    assert found["trials"][-1]["reason"] == "too large"
    assert found["best"]["params"] == {"prune.xi": 0.5}


def test_a_point_that_another_limit_allows_is_run_after_all(make):
    Engine(make(parameters=XI, constraints=HALF)).run()
    wider = Engine(make(parameters=XI, constraints={"search_peak_bytes": {"at_most": "1MiB"}}))
    assert sweep.standing(wider.file).trials_left == 1
    wider.run()
    assert wider.ran == [0.75]
    assert sweep.standing(wider.file).trials_ended == 0


def test_optuna_is_told_by_how_much_every_point_is_above_or_below(make):
    file = make(parameters=XI, constraints=HALF)
    Engine(file).run()
    found = trials(file)
    assert [t.constraints["search_peak_bytes"] for t in found] == [-0.5, 0.0, 0.5]
    assert [t.state for t in found] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED]


SAMPLED = {
    "parameters": {"prune.xi": {"low": 0.05, "high": 0.95}},
    "objectives": [{"metric": "validation_accuracy"}],
}


def test_tpe_learns_to_keep_to_a_constraint(make):
    """The objective alone draws it beyond the limit."""
    within = {}
    for name, constraints in (("free", {}), ("constrained", HALF)):
        file = make(
            **SAMPLED,
            sampler={"name": "tpe", "seed": 1},
            trials=24,
            constraints=constraints,
        )
        file = replace(file, config=file.config.model_copy(update={"study": name}))
        Engine(file).run()
        late = [t.params["prune.xi"] for t in trials(file)][12:]
        within[name] = sum(xi <= 0.5 for xi in late)
    assert within["constrained"] > within["free"] + 2


TWO = [
    {"metric": "validation_accuracy", "direction": "maximize"},
    {"metric": "search_peak_bytes", "direction": "minimize"},
]


def nsga2(make, trials=14, **settings) -> StudyFile:
    sampler = {"name": "nsga2", "seed": 2, "population": 4}
    return make(**SAMPLED | {"objectives": TWO}, sampler=sampler, trials=trials, **settings)


def test_nsga2_goes_on_after_a_stop_as_if_it_had_not_been_stopped(make, folder):
    whole = nsga2(make)
    Engine(whole).run()
    expected = [t.params for t in trials(whole)]
    (folder / "optuna.db").unlink()
    for count in (3, 9, 14):
        Engine(nsga2(make, trials=count)).run()
    assert [t.params for t in trials(whole)] == expected
    assert len({t.params["prune.xi"] for t in trials(whole)}) > 8


def test_the_front_of_several_objectives_has_no_best(make):
    file = nsga2(make, trials=6)
    Engine(file).run()
    found = results.document(file)
    assert len(found["pareto"]) == 6
    assert found["best"] is None
