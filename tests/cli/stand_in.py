"""What stands for the engine where the command line is tested: trials that take no time."""

import json
import sys
import types
from pathlib import Path

from zostudy.errors import ZostudyError
from zostudy.study.planning.plan import Plan, Planner
from zostudy.study.points import Point, TrialOutcome

STUDY = """
study: small
supernet: {cells: 1, channels: 2}
search: {epochs: 2, warmup_epochs: 1}
evaluate: {cells: 1, channels: 2, epochs: 2, auxiliary_weight: 0.0}
prune: {source: random}
sweep:
  parameters:
    prune.xi: [0.25, 0.5]
  seeds: [0, 1]
"""
#: The same on a search space of fewer operations, of which memory is predicted sooner.
SMALLER = STUDY.replace("supernet:", "search_space: {name: nasbench201}\nsupernet:")
CELL = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
GENOTYPE = {"search_space": "darts", "cells": {"normal": CELL, "reduction": CELL}}


class Trials:
    """Stands for the engine: trials that take no time."""

    error: BaseException | None = None
    bad_data: ZostudyError | None = None
    planned = False

    def __init__(self, file, report, device="study"):
        self.file = file
        self.report = report
        self.device = device
        self.known = {}

    def open_tracker(self) -> None:
        pass

    def check(self, points: list[Point]) -> None:
        assert points
        if self.bad_data:
            raise self.bad_data

    def plan(self, points: list[Point]) -> Plan:
        return Planner.of(self.file).plan(points) if self.planned else Plan()

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        xi = point.config.prune.options["xi"]
        if self.error is not None and xi == 0.5 and seed == 1:
            raise self.error
        return TrialOutcome({"validation_accuracy": 90 + xi + seed}, GENOTYPE, f"run-{number}")


class TrialProcesses:
    """Runs them where it is called."""

    def __init__(self, file, report, device, _stop, _known, _machine):
        self.trials = Trials(file, report, device)

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        return self.trials(point, seed, number)


def export_trial(_file, trial, destination, _report) -> list[Path]:
    output = destination.output
    output.mkdir()
    (output / "genotype.json").write_text(json.dumps(trial))
    return [output / "genotype.json"]


def put(monkeypatch) -> None:
    """Put it in the place of the engine until the test ends."""
    engine = types.SimpleNamespace(Trials=Trials)
    monkeypatch.setitem(sys.modules, "zostudy.study.trial.trial", engine)
    exporting = types.SimpleNamespace(export_trial=export_trial)
    monkeypatch.setitem(sys.modules, "zostudy.study.bundle.trial_export", exporting)
    monkeypatch.setattr("zostudy.study.workers.pool.TrialProcesses", TrialProcesses)
    monkeypatch.setattr("zostudy.study.workers.trial_process.start_server", lambda: None)
    monkeypatch.setattr("zostudy.study.machine.gate.require", lambda *_: "passed")
    monkeypatch.setattr(Trials, "error", None)
    monkeypatch.setattr(Trials, "bad_data", None)
