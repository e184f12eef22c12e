"""Phases through the store: who computes, who finds, who goes on."""

import contextlib
import itertools
import multiprocessing
import queue
from dataclasses import dataclass, field, replace

import pytest

from zostudy.config.loading import from_document
from zostudy.data.dataset import load
from zostudy.errors import NumericalError
from zostudy.runtime import prepare
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.points import alternatives, grid
from zostudy.study.store.records import Store
from zostudy.study.trial.computing import Computing
from zostudy.study.trial.phases import Computed, Phase, TrialPhases

KEYS = ("a" * 64, "b" * 64, "c" * 64)


@dataclass
class Figures:
    """Stands for a run in MLflow."""

    id: str = "run"
    steps: list = field(default_factory=list)

    def metrics(self, _, step=0):
        self.steps.append(step)

    def tags(self, _):
        pass


@pytest.fixture
def computing(tmp_path):
    runtime = prepare(from_document({"study": "s", "runtime": {"device": "cpu"}}).config.runtime)
    return Computing(Store(tmp_path), runtime, 2**40, lambda _: None)


def reaching(far, key, log, wrong=None):
    """A phase that counts to a number, and goes on from where another on its way has come."""

    def compute(stage):
        state = stage.checkpoint.load() or {"done": 0}
        for step in range(state["done"], far):
            log.append(step)
            stage.checkpoint.save({"done": step + 1})
            if step == wrong:
                raise NumericalError(f"wrong at {step}")
        return Computed({"far": far, "peak_bytes": 0})

    return Phase("prune", key, KEYS[2], True, {}, compute, lambda: 0, dict, lambda *_: None)


def origin(run):
    return {"study": "s", "trial": "t", "mlflow_run_id": run}


def test_what_is_in_a_lasting_checkpoint_is_found_and_not_computed(computing):
    log = []
    far, near = reaching(5, KEYS[0], log), reaching(3, KEYS[1], log)
    computing.record(far, 0, Figures(), origin("first"))
    found = computing.record(near, 0, Figures(), origin("second"))
    assert log == [0, 1, 2, 3, 4]
    assert found.values["far"] == 3
    assert found.origin["mlflow_run_id"] == "first"


def test_who_goes_further_than_the_checkpoint_has_computed_it(computing):
    log = []
    computing.record(reaching(3, KEYS[0], log), 0, Figures(), origin("first"))
    found = computing.record(reaching(5, KEYS[1], log), 0, Figures(), origin("second"))
    assert log == [0, 1, 2, 3, 4]
    assert found.origin["mlflow_run_id"] == "second"


def test_who_computes_a_phase_computes_its_relatives_too(computing):
    log = []
    near, far = reaching(3, KEYS[0], log), reaching(5, KEYS[1], log)
    own = computing.record(near, 0, Figures(), origin("first"), lambda: [far])
    assert own.values["far"] == 3
    assert log == [0, 1, 2, 3, 4]
    found = computing.record(far, 0, Figures(), origin("second"), pytest.fail)
    assert found.origin["mlflow_run_id"] == "first"


def test_a_relative_that_fails_leaves_the_phase_alone(computing):
    log = []
    near, far = reaching(3, KEYS[0], log), reaching(5, KEYS[1], log, wrong=3)
    own = computing.record(near, 0, Figures(), origin("first"), lambda: [far])
    assert own.values["far"] == 3
    assert computing.store.record("prune", KEYS[1]) is None


STUDY = {
    "study": "s",
    "supernet": {"cells": 1, "channels": 1},
    "prune": {
        "source": "zero_shot",
        "images": 4,
        "batch_size": 4,
        "repeats": 1,
        "operations_per_round": 3,
    },
    "runtime": {"threads": 1, "device": "cpu"},
    "sweep": {
        "parameters": {
            "prune.xi": [0.7, 0.2, 0.4, 1.0],
            "search.regularizer.name": ["none", "beta_decay"],
        },
        "seeds": [0, 1],
    },
}


def prune(folder, results, order):
    """What a worker does of a study up to the search."""
    file = from_document(STUDY)
    runtime = prepare(file.config.runtime)
    notes = []
    computing = Computing(Store(folder), runtime, 2**40, lambda p: notes.append(p.note))
    dataset, predictions = load(file.config.dataset), Predictions(runtime)
    points = list(itertools.product(grid(file), (0, 1)))
    for point, seed in points[::order]:
        phases = TrialPhases(point.config, seed, dataset, predictions)
        own = phases.prune()

        def relatives(phases=phases, own=own, point=point):
            configs = alternatives(file, point.values, ("technique", "prune"))
            return [
                p for p in (replace(phases, config=c).prune() for c in configs) if p.key != own.key
            ]

        run = f"{order} {point} {seed}"
        found = computing.record(own, seed, Figures(), origin(run), relatives)
        results.put((seed, found.values["mask"], found.origin["mlflow_run_id"], run))
    assert all(not note or note.startswith("waits for process") for note in notes)


@pytest.mark.parametrize("orders", [(1,), (-1,), (1, -1)])
def test_a_sweep_over_levels_computes_one_trajectory_a_seed(tmp_path, orders):
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    results = context.Queue()
    workers = [context.Process(target=prune, args=(tmp_path, results, o)) for o in orders]
    for worker in workers:
        worker.start()
    found: list = []
    while len(found) < 16 * len(orders):
        assert all(worker.exitcode in (None, 0) for worker in workers)
        with contextlib.suppress(queue.Empty):
            found.append(results.get(timeout=1))
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len({source for _, _, source, _ in found}) == 2
    assert sum(source == run for _, _, source, run in found) == 2
    assert len({(seed, str(mask)) for seed, mask, _, _ in found}) == 8
