"""Which workers are seen, by the records that they write."""

import os
import socket

from tests.study.sweep.engine import Engine
from tests.study.sweep.test_queue import fall_silent
from zostudy.study.sweep import grid, optuna_storage, presence, queue, work_units


def test_workers_are_seen_while_they_run_something(make):
    file = make({"prune.xi": [0.25, 0.5, 0.75]})
    assert presence.workers(file) == []
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        there.add(list(work_units.due(file, there.known, [])))
        one, other, _ = there.read()
        assert there.claim(one)
        assert there.claim(other)
        there.note(other, {"worker": "elsewhere boot pid:[1] 7 12345"})
        here, away = presence.workers(file)
        assert (here.host, here.process) == (socket.gethostname(), os.getpid())
        assert (here.trial, here.seeds, here.point) == (0, (0,), "prune.xi=0.25")
        assert 0 <= here.silent < 3600
        assert (away.host, away.process, away.trial) == ("elsewhere", 7, 1)
        assert not here.gone
        assert not away.gone
        fall_silent(found)
        assert [worker.gone for worker in presence.workers(file)] == [True, True]
    Engine().run(file)
    assert presence.workers(file) == []
