"""Rows of Optuna's tables, written and read here, as Optuna reads and writes them."""

from datetime import datetime, timedelta

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from tests.study.sweep.engine import stored
from zostudy.study.points import TrialOutcome, to_json
from zostudy.study.sweep import grid, optuna_storage, queue, rows, work_units


@pytest.fixture
def three(make):
    """A study of three units that wait, and its storage."""
    file = make({"prune.xi": [0.25, 0.5, 0.75]})
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, grid.of_study(file))
        there.add(list(work_units.due(file, there.known, [])))
        yield file, found


def test_a_trial_that_is_claimed_and_ended_is_one_that_optuna_might_have_written(three):
    file, found = three
    before = datetime.now() - timedelta(seconds=1)
    assert rows.claim(found.storage, 1, {"worker": "w"})
    assert not rows.claim(found.storage, 1, {"worker": "x"})
    assert rows.silence(found.storage, [1, 2]).keys() == {1}
    found.storage.set_trial_user_attr(1, "seed:0", "old")
    assert rows.end(found.storage, 1, TrialState.COMPLETE, [1.5], {"seed:0": {"a": [1]}})
    assert not rows.end(found.storage, 1, TrialState.FAIL, [], {"seed:0": "late"})
    assert rows.end(found.storage, 2, TrialState.FAIL)  # which had not been claimed
    assert not rows.claim(found.storage, 2, {})
    complete, failed, waiting = stored(file)
    assert (complete.state, complete.values) == (TrialState.COMPLETE, [1.5])
    assert complete.user_attrs["worker"] == "w"
    assert complete.user_attrs["seed:0"] == {"a": [1]}
    assert before < complete.datetime_start <= complete.datetime_complete < datetime.now()
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)


def test_only_what_is_new_or_has_moved_on_is_read(three):
    _, found = three
    follower = rows.Rows(found.storage, found.number)
    states = [(number, state.name) for number, state, _ in follower.changed()]
    assert states == [(0, "WAITING"), (1, "WAITING"), (2, "WAITING")]
    assert follower.changed() == []
    found.storage.set_trial_state_values(2, TrialState.RUNNING)
    found.storage.create_new_trial(found.number)
    found.study.set_user_attr("renewed", {"cpu": {}})
    states = [(number, state.name) for number, state, _ in follower.changed()]
    assert states == [(1, "RUNNING"), (3, "RUNNING")]
    assert (follower.count, follower.noted["renewed"]) == (4, {"cpu": {}})
    found.storage.set_trial_user_attr(2, "seed:0", "x")
    found.storage.set_trial_state_values(2, TrialState.COMPLETE, [1.0])
    ((number, state, noted),) = follower.changed()
    assert (number, state, noted["seed:0"]) == (1, TrialState.COMPLETE, "x")
    assert follower.changed() == []
    assert [number for number, _, _ in follower.all()] == [0, 1, 2, 3]


def test_trials_of_other_studies_are_not_read(make):
    file, other = make({"prune.xi": [0.5]}), make({"prune.xi": [0.25]}, trial={"study": "other"})
    for one in (file, other):
        with optuna_storage.created(one) as found:
            there = queue.Queue(one, found, grid.of_study(one))
            assert there.add(list(work_units.due(one, there.known, there.look())))
            follower = rows.Rows(found.storage, found.number)
            assert [number for number, _, _ in follower.changed()] == [0]
            assert there.claim(there.read()[0])


def test_a_full_read_that_fails_is_begun_again(three, monkeypatch):
    """While the database is away for a moment."""
    file, found = three
    there = queue.Queue(file, found, grid.of_study(file))
    for _ in range(2):
        unit = next(unit for unit in there.look() if unit.state == "waiting")
        assert there.claim(unit)
        there.look()
        outcome = to_json(TrialOutcome({}, {}, ""))
        there.end(unit, [0.0], {f"seed:{unit.seeds[0]}": outcome})
    there.look()
    again = {name: unit.record[name] for name in ("point", "values", "seeds")}
    other = queue.Queue(file, found, grid.of_study(file))
    other.read()
    assert other.add([again | {"attempt": 1, "losses": 0, "again": True}])
    real = rows.Rows.changed
    calls = iter([real, None])

    def changed(self):
        function = next(calls, real)
        if function is None:
            raise OperationalError("select", {}, Exception("server closed the connection"))
        return function(self)

    monkeypatch.setattr(rows.Rows, "changed", changed)
    with pytest.raises(OperationalError):
        there.look()
    assert [unit.number for unit in there.look()][-1] == 3
