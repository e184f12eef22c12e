"""Studies whose time runs out, by clocks that the tests turn."""

import threading
from datetime import UTC, datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState

from tests.patience import PATIENCE
from tests.study.sweep.engine import Engine, document_without_numbers, stored, uninterrupted
from zostudy.config.limits import BudgetSettings
from zostudy.errors import ConfigError
from zostudy.study.sweep import budget, optuna_storage, rows, standings, worker

THREE = {"prune.xi": [0.25, 0.5, 0.75]}
LONG = {"gpu_hours": 1000}
START = datetime(2026, 12, 1, 8).astimezone()


def hour(number):
    """A time as Optuna takes it: naive and local."""
    return (START + timedelta(hours=number)).replace(tzinfo=None)


def trial(start=None, end=None):
    state = TrialState.WAITING if start is None else TrialState.RUNNING
    return optuna.trial.FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state if end is None else TrialState.COMPLETE,
        value=None if end is None else 1.0,
        datetime_start=start,
        datetime_complete=end,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


@pytest.fixture
def busy(make):
    with optuna_storage.created(make(THREE)) as found:
        yield rows.BusyTime(found.storage, found.number)


def add(busy, *trials):
    for one in trials:
        busy.storage.create_new_trial(busy.study, template_trial=one)


def test_busy_hours_are_those_of_all_trials_together(busy, monkeypatch):
    add(busy, trial(hour(0), hour(2)), trial(hour(1)), trial(), trial(hour(2), hour(1)))
    now = START + timedelta(hours=3)
    five = budget.Budget(BudgetSettings(gpu_hours=5.0), lambda: now)
    for _ in range(2):
        assert busy.until(now) == (4 * 3600, 1)
        assert five.left(busy) == 3600
    assert budget.Budget(BudgetSettings(gpu_hours=4.0), lambda: now).left(busy) == 0
    # Three more that have just begun use it up four times as fast.
    add(busy, *[trial(hour(3))] * 3)
    assert five.left(busy) == 900
    # One that has ended is followed no more.
    monkeypatch.setattr(rows, "_now", lambda: now.astimezone(UTC).replace(tzinfo=None))
    assert rows.end(busy.storage, 2, TrialState.COMPLETE, [1.0])
    assert busy.until(now + timedelta(hours=1)) == ((4 + 3) * 3600, 3)


def test_the_end_that_comes_first_counts(busy):
    settings = BudgetSettings(gpu_hours=5.0, until="2026-12-01T10:00")
    assert budget.Budget(settings, lambda: START).left(busy) == 2 * 3600
    assert budget.Budget(settings, lambda: START + timedelta(hours=2)).left(busy) == 0
    assert "5 GPU-hours, until 2026-12-01T10:00" in budget.Budget(settings).told


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gpu_hours": 0}, "gpu_hours: 0 is not allowed: needs a number above 0"),
        ({"gpu_hours": -4}, "gpu_hours: -4"),
        ({"until": "tomorrow"}, "until: 'tomorrow' is no time; allowed: one such as 2026-"),
        ({}, "says nothing; needs gpu_hours"),
        ({"hours": 4}, "hours"),
    ],
)
def test_a_budget_that_is_none_is_refused_in_one_line(make, wrong, message):
    with pytest.raises(ConfigError) as refused:
        make(THREE, budget=wrong)
    assert "sweep.budget" in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_end_in_the_past_is_refused_before_a_run_and_nowhere_else(make):
    file = make(THREE, budget={"until": "2026-12-01T08:00"})
    budget.check(file, lambda: START - timedelta(minutes=1))
    with pytest.raises(ConfigError, match=r"until: '2026-12-01T08:00' is past, it is 2026-12-01"):
        budget.check(file, lambda: START)
    assert standings.standing(file).trials_left == 3


def test_every_point_has_a_seed_before_any_has_two(make):
    engine = Engine()
    engine.run(make(THREE, seeds=[4, 2], budget=LONG))
    assert [seed for _, seed, _ in engine.calls] == [4, 4, 4, 2, 2, 2]
    assert [point["prune.xi"] for point, _, _ in engine.calls] == [0.25, 0.5, 0.75] * 2
    assert document_without_numbers(engine.file) == uninterrupted(make, THREE, seeds=[4, 2])


def test_units_that_wait_from_before_the_budget_have_to_wait_for_their_turn(make):
    parameters = {"prune.xi": [0.05 * step for step in range(1, 13)]}
    worker.prepare(make(parameters, seeds=[0, 1, 2]))
    assert len(stored(make(parameters, seeds=[0, 1, 2]))) == 16
    engine = Engine()
    engine.run(make(parameters, seeds=[0, 1, 2], budget=LONG))
    assert [seed for _, seed, _ in engine.calls] == [0] * 12 + [1] * 12 + [2] * 12


def test_a_run_ends_when_the_time_is_over_and_goes_on_with_more(make):
    file = make(THREE, seeds=[0, 1], budget={"gpu_hours": 1})

    def run(engine, most):
        """Run with a clock by which the time is over once so many trials were run."""
        tally, stop = worker.Tally(), threading.Event()

        def execute(point, seed, number):
            if len(engine.calls) == most:  # as a trial's process, which is stopped
                assert stop.wait(PATIENCE)
                raise KeyboardInterrupt
            return engine(point, seed, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(budget, "_RARELY", 0.05)
            patch.setattr(budget.Budget, "left", lambda *_: float(len(engine.calls) < most))
            return worker.run(file, execute, lambda _: None, tally, stop)

    first = Engine()
    done = run(first, 4)
    assert "the time of sweep.budget is over (1 GPU-hours)" in done.over
    assert done.failures == ()
    standing = standings.standing(file)
    assert budget.left_out(standing) == (
        "left out: 2 trials (every point has seed 0; seed 1 lacks 2 of 3 points)"
    )
    again = Engine()
    assert not run(again, 99).over
    assert [seed for _, seed, _ in again.calls] == [1, 1]
    assert standings.standing(file).trials_failed == 0
    assert document_without_numbers(file) == uninterrupted(make, THREE, seeds=[0, 1])


def test_a_study_whose_time_is_over_begins_nothing(make):
    file = make(THREE, budget={"until": "2020-01-01"})
    engine = Engine()
    assert engine.run(file).over
    assert engine.calls == []


def test_an_interrupt_stays_one(make):
    engine = Engine(lambda *_: KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        engine.run(make(THREE, budget=LONG))


def test_what_is_left_out_is_told_shortly(make):
    file = make({"prune.xi": {"low": 0.05, "high": 0.95}}, sampler={"name": "tpe"}, trials=4)
    assert budget.left_out(standings.standing(file)) == "left out: 4 trials (4 points not sampled)"
    many = standings.standing(make(THREE, seeds=list(range(100))))
    assert budget.left_out(many).endswith("seed 4 lacks 3 of 3 points; and 95 seeds more)")
    ending = budget.ending("the time is over", many)
    assert ending.startswith("stopped: the time is over; left out: 300 trials (")
