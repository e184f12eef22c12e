"""Workers that share a study: killed, silent, stopped, or several at a time."""

import json
import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from tests.commands import environment
from tests.patience import PATIENCE, wait_for
from tests.study.sweep.engine import XI, Engine, document_without_numbers, stored, uninterrupted
from zostudy.errors import LostError
from zostudy.study.points import Failure
from zostudy.study.report import results
from zostudy.study.sweep import grid, optuna_storage, queue, standings, work_units, worker

KILLED = """
import json, os, signal
from tests.study.sweep.engine import Engine
from zostudy.config.loading import from_document

def wrong(point, seed):
    if point.values["prune.xi"] == 0.5 and seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)

Engine(wrong).run(from_document(json.loads({document!r})))
"""


def test_a_killed_run_continues_where_it_was(make):
    file = make(XI, seeds=[0, 1])
    code = KILLED.format(document=json.dumps(file.document))
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=environment())
    assert killed.returncode == -signal.SIGKILL
    states = [t.state.name for t in stored(file)]
    assert states == ["COMPLETE"] * 5 + ["RUNNING"] + ["WAITING"] * 2
    again = Engine()
    again.run(file)
    assert len(again.calls) == 3
    assert document_without_numbers(file) == uninterrupted(make, XI, seeds=[0, 1])
    assert {t.state.name for t in stored(file)} == {"COMPLETE", "FAIL"}


SHARED = """
import json, time
from tests.study.sweep.engine import Engine
from zostudy.config.loading import from_document

class Slow(Engine):
    def __call__(self, point, seed, number):
        time.sleep(0.02)
        return super().__call__(point, seed, number)

engine = Slow()
engine.run(from_document(json.loads({document!r})))
print(json.dumps([[call[0]["prune.xi"], call[1]] for call in engine.calls]))
"""


def test_processes_that_start_at_once_share_the_work_and_compute_nothing_twice(make):
    file = make({"prune.xi": [0.25, 0.5, 0.75]}, seeds=[0, 1, 2, 3])
    code = SHARED.format(document=json.dumps(file.document))
    command, env = [sys.executable, "-c", code], environment()
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(3)
    ]
    calls = [
        call for worker in workers for call in json.loads(worker.communicate(timeout=PATIENCE)[0])
    ]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(calls) == [[xi, seed] for xi in (0.25, 0.5, 0.75) for seed in range(4)]
    parameters = {"prune.xi": [0.25, 0.5, 0.75]}
    alone = uninterrupted(make, parameters, seeds=[0, 1, 2, 3])
    assert document_without_numbers(file) == alone


def lost(times: int):
    """An engine whose trial at ξ = 0.5 is lost with its process so many times."""
    left = [times]

    def wrong(point, _):
        if point.values["prune.xi"] == 0.5 and left[0]:
            left[0] -= 1
            return LostError("its process was killed from outside (SIGKILL)")
        return None

    return Engine(wrong)


def test_a_trial_that_is_lost_with_its_process_is_tried_again_by_the_same_call(make):
    file, engine = make(XI, retries=2), lost(2)
    assert engine.run(file) == worker.SweepSummary(executed=6, failures=())
    again = [n.outcome.reason for n in engine.notices if isinstance(n.outcome, Failure)]
    assert again == ["its process was killed from outside (SIGKILL); it is tried again"] * 2
    assert [t["number"] for t in results.document(file)["trials"]] == [0, 1, 2, 3]


def test_a_trial_that_is_lost_too_often_has_failed_until_the_study_is_run_again(make):
    file, engine = make(XI, retries=1), lost(2)
    assert len(engine.run(file).failures) == 1
    (failed,) = (t for t in results.document(file)["trials"] if t["state"] == "failed")
    assert failed["reason"] == "its process was killed from outside (SIGKILL)"
    assert Engine().run(file).executed == 0
    worker.prepare(file)
    assert Engine().run(file).executed == 1


def fall_silent(found: optuna_storage.Stored) -> None:
    """Let the last heartbeats have come long ago."""
    with found.storage.engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'"))


def test_a_worker_that_falls_silent_loses_its_trial_to_another(make):
    file = make({"prune.xi": [0.5]})
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        there.add(list(work_units.due(file, there.known, [])))
        assert there.claim(there.read()[0])
        there.note(there.read()[0], {"worker": "elsewhere boot pid:[1] 7 12345"})
        fall_silent(found)
        engine = Engine()
        engine.run(file)
        assert len(engine.calls) == 1
        with pytest.raises(queue.TakenAwayError):  # it wakes up
            there.end(there.read()[0], [1.0])
    assert [t.state.name for t in stored(file)] == ["FAIL", "COMPLETE"]


def test_a_worker_that_beats_keeps_its_trial(make, monkeypatch):
    file = make({"prune.xi": [0.5]}, heartbeat_interval=2)
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        there.add(list(work_units.due(file, there.known, [])))
        there.claim(there.read()[0])
        there.note(there.read()[0], {"worker": "elsewhere boot pid:[1] 7 12345"})
        fall_silent(found)
        beats, beat = [], found.storage.record_heartbeat
        monkeypatch.setattr(
            found.storage, "record_heartbeat", lambda trial: beats.append(beat(trial))
        )
        with there.alive(there.read()[0]):
            wait_for(lambda: beats)
            there.end_lost(there.read())
            assert [unit.state for unit in there.read()] == ["running"]


def test_a_worker_that_is_told_to_stop_gives_its_trial_back(make):
    file, stop = make(XI), threading.Event()

    def wrong(point, _):
        if point.values["prune.xi"] != 0.5:
            return None
        stop.set()
        return KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        worker.run(file, Engine(wrong), lambda _: None, stop=stop)
    (trial,) = (t for t in stored(file) if t.state.name == "FAIL")
    assert trial.user_attrs["given_back"]
    assert standings.standing(file).trials_left == 2
