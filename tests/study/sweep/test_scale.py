"""What a trial costs its study, in statements, in a small study and in one ten times as large."""

import itertools
from datetime import datetime

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine as Database

from benchmarks import scale
from tests.study.sweep.engine import Engine
from zostudy.config.loading import from_document
from zostudy.study.sweep import grid, optuna_storage, queue, rows, standings, work_units, worker


@pytest.fixture
def statements():
    """The statements that have been sent to databases, as they come."""
    found = []

    def sent(_connection, _cursor, statement, *_):
        found.append(statement)

    event.listen(Database, "before_cursor_execute", sent)
    yield found
    event.remove(Database, "before_cursor_execute", sent)


def statements_a_trial(file, statements) -> list[int]:
    """How many statements there are from each trial to the next: its end and a claim."""
    counted = []

    def execute(*trial, **_):
        counted.append(len(statements))
        return Engine().outcome(*trial)

    worker.run(file, execute, lambda _notice: None)
    return [after - before for before, after in itertools.pairwise(counted[1:])]


def test_a_trial_costs_as_many_statements_in_a_large_study(folder, statements):
    (folder / "new").mkdir()
    ended = {}
    for trials in (30, 300):
        file = scale.study(f"sqlite:///{folder}/new/{trials}.db", trials)
        scale.fill(file, trials - 28)  # so many are left, of which 16 wait at first
        ended[trials] = statements_a_trial(file, statements)
        assert standings.standing(file).trials_left == 0
    assert len(ended[30]) == 26
    assert ended[300] == ended[30]
    assert sum(ended[30]) / 26 < 25  # 19 and, where the last one added trials, what that takes
    begun = scale.study(f"sqlite:///{folder}/new/begun.db", 60)
    assert set(statements_a_trial(begun, statements)) == set(ended[30])


def test_a_heartbeat_costs_as_many_statements_in_a_large_study(folder, statements):
    (folder / "new").mkdir()
    counted = []
    for trials in (30, 300):
        file = scale.study(f"sqlite:///{folder}/new/{trials}.db", trials)
        scale.fill(file, trials - 1)
        with optuna_storage.created(file) as found:
            there = queue.Queue(file, found, grid.of_study(file))
            there.look()
            (unit,) = (u for u in there.add_due(16) if u.state == "waiting")
            assert there.claim(unit)
            before = len(statements)
            found.storage.record_heartbeat(there.id(unit))
            counted.append(len(statements) - before)
    assert counted[0] == counted[1]


def test_a_look_at_a_study_with_a_budget_and_seeds_leaves_out_what_has_ended(folder):
    (folder / "new").mkdir()
    file = scale.study(f"sqlite:///{folder}/new/s.db", 40)
    sweep = file.document["sweep"] | {"seeds": [0, 1], "budget": {"gpu_hours": 1000}}
    file = from_document(file.document | {"sweep": sweep})
    scale.fill(file, 60)  # all with one seed, and 20 with the other
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        assert len(there.look()) == 60
        assert len(there.look()) == 1  # the latest complete one
        added = [unit for unit in there.add_due(16) if unit.state == "waiting"]
        assert [unit.seeds for unit in added] == [(1,)] * 16
        assert [there.known[unit.key].values["prune.number"] for unit in added] == [*range(20, 36)]
        assert len(there.look()) == 17


def test_a_budget_is_watched_by_what_is_new(folder, statements):
    (folder / "new").mkdir()
    file = scale.study(f"sqlite:///{folder}/new/s.db", 40)
    scale.fill(file, 30)
    worker.prepare(file)
    with optuna_storage.created(file) as found:
        busy = rows.BusyTime(found.storage, found.number)
        busy.until(datetime.now().astimezone())
        before = len(statements)
        assert busy.until(datetime.now().astimezone())[1] == 0
        assert len(statements) - before <= 3
        assert busy._followed.last == 40
        assert len(busy._followed.unfinished) == 10


def test_trials_are_added_as_workers_come_to_them(make):
    file = make({"prune.xi": [i / 100 for i in range(1, 61)]})
    worker.prepare(file)
    with optuna_storage.stored(file.config) as found:
        assert len(found.study.get_trials()) < 20
    assert Engine().run(file).executed == 60


def test_nothing_is_added_where_another_process_was_faster(make):
    file = make({"prune.xi": [0.25, 0.5]})
    with optuna_storage.created(file) as found:
        one, other = (queue.Queue(file, found, grid.of_study(file)) for _ in range(2))
        records = [list(work_units.due(file, q.known, q.look())) for q in (one, other)]
        assert one.add(records[0])
        assert not other.add(records[1])
        assert [unit.state for unit in other.read()] == ["waiting", "waiting"]
