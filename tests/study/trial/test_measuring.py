"""Latencies that are measured at the same time on one machine."""

import queue
import threading

import pytest
import torch

from tests.patience import PATIENCE
from tests.tables import SPACE, made_up, settings, write
from zostudy.config.latency import LatencySettings
from zostudy.config.settings import SpaceSettings, TrialConfig
from zostudy.runtime import Runtime
from zostudy.space.genotype import parse
from zostudy.stage import StageContext
from zostudy.study.disk import locks
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.trial import phases
from zostudy.study.trial.phases import TrialPhases

RUNTIME = Runtime(torch.device("cpu"))
GENOTYPE = parse(made_up()[-1][0], SPACE)


@pytest.fixture
def phase(tmp_path, small_dataset):
    config = TrialConfig(
        evaluate=settings(write(tmp_path / "table.csv", made_up()), cells=1, channels=2),
        search_space=SpaceSettings(name="tiny"),
        latency=LatencySettings(by="measured", batch_sizes=(1,), warmup=0, runs=2),
    )
    return TrialPhases(config, 0, small_dataset, Predictions(RUNTIME)).latency(GENOTYPE)


def test_a_measurement_waits_for_another_one_of_the_machine_and_says_so(
    phase, tmp_path, monkeypatch
):
    lock = tmp_path / "measuring.lock"
    monkeypatch.setattr(phases, "_MEASURING", lock)
    told: queue.Queue = queue.Queue()
    stage = StageContext(RUNTIME, seed=0, report=told.put)
    measuring = threading.Thread(target=phase.compute, args=(stage,), daemon=True)
    with locks.held(lock, pytest.fail):
        measuring.start()
        begun, waits = (told.get(timeout=PATIENCE) for _ in range(2))
        assert (begun.phase, begun.done, begun.note) == ("latency", 0, "")
        assert (waits.phase, waits.done) == ("latency", 0)
        assert waits.note.endswith("which measures too")
    measuring.join(PATIENCE)
    assert not measuring.is_alive()
    *_, last = [told.get() for _ in range(told.qsize())]
    assert last.done == last.total == 1
    assert not lock.exists()
