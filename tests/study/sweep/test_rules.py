"""Sweeps whose rules end trials or keep them from being run."""

from dataclasses import replace

import pytest
from optuna.trial import TrialState

from tests.study.sweep import engine
from tests.study.sweep.engine import RANGE, stored
from zostudy.config.loading import StudyFile
from zostudy.stage import Progress
from zostudy.study.points import Ended, Point, TrialOutcome
from zostudy.study.report import console, results
from zostudy.study.sweep import standings, worker


class Engine(engine.Engine):
    """Trials that a limit may end; the memory of a point is its ξ in MB.

    Attributes:
        ran: ξ of every trial that was not ended.
    """

    def __init__(self, file: StudyFile) -> None:
        super().__init__()
        self.file = file
        self.ran: list[float] = []

    def outcome(self, point: Point, seed: int, number: int) -> TrialOutcome | Ended:
        xi = point.values["prune.xi"]
        metrics = {"search_peak_bytes": 2.0**20 * xi}
        limit = self.file.config.sweep.constraints.get("search_peak_bytes")
        if limit is not None and metrics["search_peak_bytes"] > limit.most:
            return Ended.by(self.file.config.sweep, "excluded", "too large", metrics)
        self.ran.append(xi)
        metrics |= {"validation_accuracy": 90 + xi, "macs": 1.0 - xi}
        return TrialOutcome(metrics, {"of": [xi, seed]}, f"run-{number}")

    def run(self) -> worker.SweepSummary:
        return super().run(self.file)


XI = {"prune.xi": [0.25, 0.5, 0.75]}
HALF = {"search_peak_bytes": {"at_most": "512KiB"}}


def test_an_excluded_point_is_no_failure_and_is_not_tried_again(make):
    file = make(parameters=XI, constraints=HALF, seeds=[0, 1])
    engine = Engine(file)
    assert engine.run().failures == ()
    assert engine.ran == [0.25, 0.25, 0.5, 0.5]
    assert Engine(file).run().executed == 0
    standing = standings.standing(file)
    assert (standing.trials_left, standing.trials_failed, standing.trials_ended) == (0, 0, 2)
    assert "4 complete, 2 ended by a rule, 0 to run" in console.planned(standing)
    found = results.document(file)
    assert [t["state"] for t in found["trials"]] == ["complete"] * 4 + ["excluded"] * 2
    assert found["trials"][-1]["reason"] == "too large"
    assert found["best"]["params"] == {"prune.xi": 0.5}


def test_a_point_that_another_limit_allows_is_run_after_all(make):
    Engine(make(parameters=XI, constraints=HALF)).run()
    wider = Engine(make(parameters=XI, constraints={"search_peak_bytes": {"at_most": "1MiB"}}))
    assert standings.standing(wider.file).trials_left == 1
    wider.run()
    assert wider.ran == [0.75]
    assert standings.standing(wider.file).trials_ended == 0


def test_optuna_is_told_by_how_much_every_point_is_above_or_below(make):
    file = make(parameters=XI, constraints=HALF)
    Engine(file).run()
    found = stored(file)
    assert [t.constraints["search_peak_bytes"] for t in found] == [-0.5, 0.0, 0.5]
    assert [t.state for t in found] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED]


SAMPLED = {
    "parameters": RANGE,
    "objectives": [{"metric": "validation_accuracy"}],
}


@pytest.mark.slow
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
        late = [t.params["prune.xi"] for t in stored(file)][12:]
        within[name] = sum(xi <= 0.5 for xi in late)
    assert within["constrained"] > within["free"] + 2


TWO = [
    {"metric": "validation_accuracy", "direction": "maximize"},
    {"metric": "search_peak_bytes", "direction": "minimize"},
]


def nsga2(make, trials=14, **settings) -> StudyFile:
    sampler = {"name": "nsga2", "seed": 2, "population": 4}
    return make(**SAMPLED | {"objectives": TWO}, sampler=sampler, trials=trials, **settings)


@pytest.mark.slow
def test_nsga2_goes_on_after_a_stop_as_if_it_had_not_been_stopped(make, folder):
    whole = nsga2(make)
    Engine(whole).run()
    expected = [t.params for t in stored(whole)]
    (folder / "new" / "optuna.db").unlink()
    for count in (3, 9, 14):
        Engine(nsga2(make, trials=count)).run()
    assert [t.params for t in stored(whole)] == expected
    assert len({t.params["prune.xi"] for t in stored(whole)}) > 8


def test_the_front_of_several_objectives_has_no_best(make):
    file = nsga2(make, trials=6)
    Engine(file).run()
    found = results.document(file)
    assert len(found["pareto"]) == 6
    assert found["best"] is None


class Learner(Engine):
    """Trials of four epochs whose accuracy follows from ξ, and who ask after each of them."""

    def __call__(self, point: Point, _: int, number: int, judge=None) -> TrialOutcome | Ended:
        xi = point.values["prune.xi"]
        for epoch in range(1, 5):
            accuracy = 10 * epoch + 10 * xi
            reason = judge(Progress("evaluate", epoch, 4, {"validation_accuracy": accuracy}))
            if reason:
                self.ran.append(epoch)
                metrics = {"evaluate_seconds": 1.0}
                return Ended.by(self.file.config.sweep, "stopped", reason, metrics, "run")
        self.ran.append(4)
        return TrialOutcome({"validation_accuracy": accuracy}, {"of": xi}, f"run-{number}")


MEDIAN = {"name": "median", "startup_trials": 2}
FALLING = {"prune.xi": [0.9, 0.8, 0.3, 0.95, 0.1]}


def test_a_poor_trial_is_stopped_neither_complete_nor_failed_and_never_run_again(make):
    file = make(parameters=FALLING, early_stopping=MEDIAN)
    engine = Learner(file)
    assert engine.run().failures == ()
    assert engine.ran == [4, 4, 1, 4, 1]
    found = results.document(file)
    states = [trial["state"] for trial in found["trials"]]
    assert states == ["complete", "complete", "stopped", "complete", "stopped"]
    assert found["trials"][2]["reason"] == (
        "sweep.early_stopping (median): validation accuracy 13.00 % after 1 of 4 epochs"
    )
    assert found["best"]["params"] == {"prune.xi": 0.95}
    assert Learner(file).run().executed == 0
    assert [t.state for t in stored(file)].count(TrialState.PRUNED) == 2


def test_stopped_trials_are_run_to_their_end_once_nothing_stops_them(make):
    Learner(make(parameters=FALLING, early_stopping=MEDIAN)).run()
    later = {**MEDIAN, "warmup_epochs": 3}
    again = Learner(make(parameters=FALLING, early_stopping=later))
    assert standings.standing(again.file).trials_left == 2
    again.run()
    assert again.ran == [4, 4]


def test_a_trial_in_its_last_epoch_is_not_stopped(make):
    file = make(parameters=FALLING, early_stopping=MEDIAN | {"warmup_epochs": 3})
    Learner(file).run()
    assert {t["state"] for t in results.document(file)["trials"]} == {"complete"}


def test_successive_halving_goes_on_with_the_best(make):
    halving = {"name": "successive_halving", "reduction": 2}
    file = make(parameters={"prune.xi": [0.9, 0.1, 0.2, 0.95]}, early_stopping=halving)
    engine = Learner(file)
    engine.run()
    assert engine.ran == [4, 1, 1, 4]


def test_tpe_goes_on_beside_early_stopping(make):
    file = make(**SAMPLED, sampler={"name": "tpe", "seed": 1}, trials=12, early_stopping=MEDIAN)
    engine = Learner(file)
    engine.run()
    assert len(engine.ran) == 12
    assert 0 < sum(epochs < 4 for epochs in engine.ran) < 12
    assert standings.standing(file).trials_left == 0
