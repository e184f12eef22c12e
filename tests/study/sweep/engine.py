"""Trials that take no time, and what a sweep of them has stored."""

import json
from collections.abc import Callable

import optuna

from zostudy.config.loading import StudyFile
from zostudy.study.points import Ended, Notice, Point, TrialOutcome
from zostudy.study.report import results
from zostudy.study.sweep import worker

XI = {"prune.source": ["none", "random"], "prune.xi": [0.25, 0.5, 0.75]}
RANGE = {"prune.xi": {"low": 0.05, "high": 0.95}}
TPE = {"sampler": {"name": "tpe", "seed": 3}, "trials": 14}


class Engine:
    """Trials whose outcome follows from their settings and seed.

    Args:
        wrong: What a trial raises, or nothing.

    Attributes:
        calls: Swept settings, seed and number of every trial.
        notices: What the sweep has said.
        file: The study that is run.
    """

    def __init__(self, wrong: Callable[[Point, int], BaseException | None] = lambda *_: None):
        self.calls: list[tuple[dict, int, int]] = []
        self.notices: list[Notice] = []
        self.wrong = wrong

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome | Ended:
        self.calls.append((dict(point.values), seed, number))
        error = self.wrong(point, seed)
        if error is not None:
            raise error
        return self.outcome(point, seed, number)

    def outcome(self, point: Point, seed: int, _number: int) -> TrialOutcome | Ended:
        xi = point.config.prune.options.get("xi", 1.0)
        metrics = {
            "validation_accuracy": 90.0 - 10 * (xi - 0.4) ** 2 + seed,
            "search_peak_bytes": 1e6 * xi,
            "test_accuracy": 80.0 + seed,
        }
        return TrialOutcome(metrics, {"of": [point.key[:4], seed]}, f"run-{point.key[:4]}-{seed}")

    def run(self, file: StudyFile) -> worker.SweepSummary:
        self.file = file
        return worker.run(file, self, self.notices.append)


def stored(file: StudyFile) -> list[optuna.trial.FrozenTrial]:
    """The trials that Optuna holds, as another program reads them."""
    storage = optuna.storages.RDBStorage(file.config.storage.optuna)
    trials = optuna.load_study(study_name=file.config.study, storage=storage).get_trials()
    storage.remove_session()
    storage.engine.dispose()
    return trials


def document_without_numbers(file: StudyFile) -> dict:
    """The results, whatever the order in which the trials were run."""
    found = results.document(file)
    for trial in [*found["trials"], found["best"]]:
        del trial["number"]
    found["trials"].sort(key=json.dumps)
    return found


def uninterrupted(make: Callable[..., StudyFile], parameters: dict, **settings) -> dict:
    """The results of the same study, run in one go."""
    trial = settings.pop("trial", {}) | {"study": "other"}
    file = make(parameters, trial=trial, **settings)
    Engine().run(file)
    return document_without_numbers(file) | {"study": "s"}
