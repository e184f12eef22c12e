import pytest

from zostudy.config.loading import StudyFile, from_document
from zostudy.study import points
from zostudy.study.points import Failure, TrialOutcome
from zostudy.study.sweep import grid, work_units

DONE = points.to_json(TrialOutcome({}, {}, "run"))
NAN = points.to_json(Failure("NaN"))
XI = {"prune.xi": [0.25, 0.5]}


def study(parameters: dict = XI, **sweep) -> StudyFile:
    sweep = {"parameters": parameters, **sweep}
    return from_document({"study": "s", "prune": {"source": "random"}, "sweep": sweep})


class Held:
    """Optuna's trials, as plain values."""

    def __init__(self, file: StudyFile):
        self.file = file
        self.known = grid.of_study(file)
        self.keys = list(self.known)
        self.trials: list[list] = []

    def add(self, state="waiting", **record):
        self.trials.append([len(self.trials), state, record])

    def add_due(self):
        added = list(work_units.due(self.file, self.known, self.units))
        for record in added:
            self.add(**record)
        return added

    def change(self, number, state, **record):
        self.trials[number][1] = state
        self.trials[number][2] |= record

    @property
    def units(self):
        return work_units.read(self.file, [tuple(trial) for trial in self.trials])

    @property
    def standing(self):
        return work_units.standing(self.file, self.known, self.units)


def test_every_seed_of_every_point_of_a_grid_is_due_once():
    held = Held(study(seeds=[0, 5]))
    added = held.add_due()
    assert [(r["point"], r["seeds"], r["attempt"]) for r in added] == [
        (key, [seed], 0) for key in held.keys for seed in (0, 5)
    ]
    assert held.add_due() == []
    assert held.standing.trials_left == 4
    assert held.standing.attempts == {}


def test_a_standing_counts_what_is_missing():
    held = Held(study())
    held.add_due()
    held.change(0, "complete", **{"seed:0": DONE})
    one, two = held.known.values()
    assert held.standing.missing(one) == ()
    assert held.standing.missing(two) == (0,)
    assert held.standing.trials_left == 1


def test_what_failed_by_what_it_computes_is_due_only_if_it_is_asked_for():
    held = Held(study())
    held.add_due()
    held.change(0, "failed", reason="NaN", **{"seed:0": NAN})
    assert held.add_due() == []
    assert (held.standing.trials_left, held.standing.trials_failed) == (1, 1)
    assert list(work_units.revived(held.file, held.known, held.units, own=False)) == []
    (record,) = work_units.revived(held.file, held.known, held.units, own=True)
    assert (record["attempt"], record["losses"], record["again"]) == (1, 0, True)
    held.add(**record)
    assert (held.standing.trials_left, held.standing.trials_failed) == (2, 0)
    assert list(work_units.revived(held.file, held.known, held.units, own=True)) == []


def test_what_was_lost_is_due_again_as_often_as_retries_allow():
    held = Held(study(retries=2))
    held.add_due()
    for attempt in (1, 2):
        held.change(-1 if attempt > 1 else 0, "failed")
        (record,) = held.add_due()
        assert (record["point"], record["attempt"], record["losses"]) == (
            held.keys[0],
            attempt,
            attempt,
        )
    held.change(-1, "failed")
    assert held.add_due() == []
    failure = held.standing.attempts[held.keys[0]].outcomes[0]
    assert failure == Failure("its worker was lost 3 times", passing=True)
    (record,) = work_units.revived(held.file, held.known, held.units, own=False)
    assert (record["attempt"], record["losses"]) == (3, 0)


def test_what_was_given_back_is_due_again_and_not_counted_as_lost():
    held = Held(study(retries=0))
    held.add_due()
    held.change(0, "failed", given_back=True)
    (record,) = held.add_due()
    assert (record["attempt"], record["losses"]) == (1, 0)


def test_of_two_units_for_the_same_attempt_the_first_counts():
    held = Held(study())
    first = held.add_due()
    for record in first:  # as a process adds them that read before the other wrote
        held.add(**record)
    assert [unit.number for unit in work_units.superseded(held.units)] == [2, 3]
    held.change(0, "failed")
    held.change(2, "failed")
    assert [r["attempt"] for r in held.add_due()] == [1]
    held.change(4, "complete", **{"seed:0": DONE})
    assert held.add_due() == []
    assert held.standing.attempts[held.keys[0]].numbers == {0: 0}


def test_numbers_of_trials_stay_when_trials_are_tried_again_or_added():
    held = Held(study(seeds=[0, 1]))
    held.add_due()
    held.change(1, "failed")
    held.change(3, "complete", **{"seed:1": DONE})
    held.add_due()
    held.change(4, "complete", **{"seed:1": DONE})
    attempts = held.standing.attempts
    assert [attempts[key].numbers for key in held.keys] == [{0: 0, 1: 1}, {0: 2, 1: 3}]


def test_numbers_of_trials_are_the_same_whoever_adds_them():
    held = Held(study(seeds=[0, 1]))
    alone = held.add_due()
    held.trials.clear()
    for record in alone[:3]:  # two processes at once, each in the same order
        held.add(**record)
        held.add(**record)
    held.add(**alone[3])
    for number in range(7):
        seed = held.trials[number][2]["seeds"][0]
        held.change(number, "complete", **{f"seed:{seed}": DONE})
    attempts = held.standing.attempts
    assert [attempts[key].numbers for key in held.keys] == [{0: 0, 1: 1}, {0: 2, 1: 3}]


SAMPLED = {"sampler": {"name": "tpe"}, "trials": 3, "seeds": [0, 1]}


def test_one_draw_waits_at_a_time_and_has_all_seeds():
    held = Held(study(**SAMPLED))
    assert held.add_due() == [{"draw": 0, "seeds": [0, 1], "attempt": 0, "losses": 0}]
    assert held.add_due() == []
    held.change(0, "running")
    assert [record["draw"] for record in held.add_due()] == [1]
    assert held.standing.to_sample == 3


def point_of(held: Held, xi: float) -> dict:
    return {
        "point": points.point(held.file, {"prune.xi": xi}).key,
        "values": f'{{"prune.xi": {xi}}}',
    }


def test_a_draw_that_was_lost_keeps_its_point():
    held = Held(study(**SAMPLED))
    held.add_due()
    held.change(0, "failed", **point_of(held, 0.5), **{"seed:0": DONE})
    assert held.standing.to_sample == 2
    assert held.standing.trials_left == 1 + 2 * 2
    again, new = held.add_due()
    assert (again["draw"], again["attempt"], again["point"]) == (0, 1, point_of(held, 0.5)["point"])
    assert (new["draw"], "point" in new) == (1, False)


def test_a_draw_that_proposes_what_cannot_be_run_is_spent():
    held = Held(study(**SAMPLED))
    held.add_due()
    held.change(0, "failed", reason="wrong")
    assert [record["draw"] for record in held.add_due()] == [1]
    assert held.standing.to_sample == 2


# -- what zostudy 0.1 left ------------------------------------------------------------------------


def test_a_grid_of_the_old_form_is_read():
    held = Held(study(seeds=[0, 1]))
    one, two = ({"point": key, "values": "{}"} for key in held.keys)
    held.add("complete", **one, **{"seed:0": DONE, "seed:1": DONE})
    held.add("failed", **two, **{"seed:0": DONE, "seed:1": NAN}, reason="NaN")
    held.add("failed", **two, **{"seed:0": DONE})
    standing = held.standing
    assert [standing.attempts[key].numbers for key in held.keys] == [{0: 0, 1: 1}, {0: 2, 1: 3}]
    assert standing.trials_left == 1
    (record,) = held.add_due()
    assert (record["point"], record["seeds"], record["attempt"]) == (held.keys[1], [1], 2)
    held.change(-1, "complete", **{"seed:1": DONE})
    assert held.standing.trials_left == 0
    assert held.standing.attempts[held.keys[1]].numbers == {0: 2, 1: 3}


def test_a_unit_of_the_old_form_that_waits_has_all_its_seeds():
    held = Held(study(seeds=[0, 1]))
    held.add(point=held.keys[0], values="{}")
    assert [record["point"] for record in held.add_due()] == [held.keys[1]] * 2


def test_a_sampled_sweep_of_the_old_form_is_read():
    held = Held(study(**(SAMPLED | {"trials": 4})))
    half, quarter = point_of(held, 0.5), point_of(held, 0.25)
    done = {"seed:0": DONE, "seed:1": DONE}
    held.add("complete", **half, **done)
    held.add("failed", **quarter, **{"seed:0": DONE})  # interrupted
    held.add("complete", **quarter, **done)
    held.add("complete", **half, **done)  # proposed once more
    held.add("failed")  # stopped before there was a point
    assert [unit.draw for unit in held.units] == [0, 1, 1, 2, -1]
    assert held.standing.to_sample == 1
    assert [record["draw"] for record in held.add_due()] == [3]


@pytest.mark.parametrize("passing", [True, False])
def test_whether_a_failure_is_passing_survives_its_json(passing):
    failure = Failure("killed", passing)
    assert points.from_json(points.to_json(failure)) == failure
    assert points.from_json('{"state": "failed", "reason": "x"}') == Failure("x")
