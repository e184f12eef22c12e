from zostudy.config.loading import from_document
from zostudy.config.sweep import SweepSettings
from zostudy.errors import CrashError, NumericalError
from zostudy.study.points import Attempt, Ended, Failure, Standing, TrialOutcome, grid
from zostudy.study.sweep import worker
from zostudy.study.sweep.crashes import hopeless

XI = {"prune.xi": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}
ABORTED = Failure("its process crashed (SIGABRT: Aborted)", crash="SIGABRT", phase="search")
OWN = Failure("search: the loss is nan")


def standing(*outcomes) -> Standing:
    sweep = {"parameters": XI}
    points = grid(from_document({"study": "s", "prune": {"source": "random"}, "sweep": sweep}))
    attempts = {
        point.key: Attempt(point, {0: number}, {0: outcome})
        for number, (point, outcome) in enumerate(zip(points, outcomes, strict=False))
        if outcome is not None
    }
    return Standing(tuple(points), attempts, (0,))


def told(*outcomes, **settings) -> str:
    return hopeless(standing(*outcomes), SweepSettings(**settings))


def test_three_equal_crashes_in_the_same_phase_end_a_study_with_what_they_share():
    assert told(ABORTED, ABORTED) == ""
    text = told(ABORTED, ABORTED, ABORTED)
    assert text.startswith(
        "no trial has come to an end, and 3 have crashed alike in phase 'search': its process "
        "crashed (SIGABRT: Aborted); "
    )
    assert "doctor --machine" in text
    assert "all have" not in text


def test_a_failure_of_a_trials_own_does_not_count():
    assert told(OWN, OWN, OWN, OWN) == ""
    assert told(ABORTED, OWN, ABORTED, OWN) == ""
    assert told(ABORTED, OWN, ABORTED, None, ABORTED)


def test_other_crashes_and_other_phases_are_not_the_same_crash():
    segfault = Failure("r", crash="SIGSEGV", phase="search")
    pruning = Failure("r", crash="SIGABRT", phase="prune")
    assert told(ABORTED, segfault, pruning, ABORTED, segfault, pruning) == ""


def test_a_trial_that_came_to_an_end_shows_that_the_study_can_be_computed():
    complete = TrialOutcome({}, {}, "run")
    stopped = Ended("stopped", "poor", "rule", {})
    excluded = Ended("excluded", "too large", "rule", {})
    assert told(ABORTED, ABORTED, complete, ABORTED) == ""
    assert told(ABORTED, ABORTED, stopped, ABORTED) == ""
    assert told(ABORTED, ABORTED, excluded, ABORTED)


def test_how_many_crashes_it_takes_is_a_setting():
    assert told(ABORTED, stop_after_crashes=1)
    assert told(*[ABORTED] * 4, stop_after_crashes=5) == ""
    assert told(*[ABORTED] * 6, stop_after_crashes=0) == ""


def crash(*_):
    raise CrashError(ABORTED.reason, "SIGABRT", "search")


def run(file, execute):
    return worker.run(file, execute, lambda _notice: None)


def test_a_study_that_can_only_crash_stops_after_three_and_says_so_again(make):
    file = make(XI)
    summary = run(file, crash)
    assert summary.executed == 3
    assert "3 have crashed alike" in summary.hopeless
    again = run(file, crash)
    assert (again.executed, again.hopeless) == (0, summary.hopeless)


def test_what_crashed_is_tried_again_when_it_is_asked_for(make):
    file = make(XI)
    run(file, crash)
    worker.prepare(file, again=True)

    def works(point, seed, number):
        del point, seed
        return TrialOutcome({"validation_accuracy": 1.0}, {"of": number}, f"run-{number}")

    summary = run(file, works)
    assert (summary.executed, summary.failures, summary.hopeless) == (6, (), "")


def test_a_study_whose_trials_fail_for_reasons_of_their_own_is_run_to_its_end(make):
    def fails(*_):
        raise NumericalError("the loss is nan")

    summary = run(make(XI), fails)
    assert (summary.executed, summary.hopeless) == (6, "")
