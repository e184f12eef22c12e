import pytest

from tests.study.sweep.engine import XI, Engine, document_without_numbers, stored, uninterrupted
from zostudy.errors import ConfigError, NumericalError
from zostudy.study.points import Failure
from zostudy.study.report import results
from zostudy.study.sweep import standings, worker


def test_a_grid_runs_every_distinct_point_once_and_then_nothing(make):
    file, engine = make(XI), Engine()
    summary = engine.run(file)
    assert summary == worker.SweepSummary(executed=4, failures=())
    assert [call[0]["prune.source"] for call in engine.calls] == ["none"] + ["random"] * 3
    assert [call[2] for call in engine.calls] == [0, 1, 2, 3]
    before = results.document(file)
    again = Engine()
    assert again.run(file).executed == 0
    assert again.calls == []
    assert results.document(file) == before


def test_a_standing_of_a_study_that_was_never_run_writes_nothing(make, folder):
    standing = standings.standing(make(XI))
    assert standing.trials_left == 4
    assert list(folder.iterdir()) == []


def test_every_seed_of_a_point_of_a_grid_is_a_unit_of_its_own(make):
    file = make({"prune.xi": [0.5]}, seeds=[1, 3])
    engine = Engine()
    engine.run(file)
    assert [(seed, number) for _, seed, number in engine.calls] == [(1, 0), (3, 1)]
    trials = stored(file)
    assert [trial.value for trial in trials] == pytest.approx([90.0 - 0.1 + 1, 90.0 - 0.1 + 3])
    assert [trial.params for trial in trials] == [{"prune.xi": 0.5}] * 2


def test_a_notice_comes_before_and_after_every_trial(make):
    engine = Engine()
    engine.run(make(XI))
    assert [(n.position, n.total, n.outcome is None) for n in engine.notices] == [
        (i, 4, begun) for i in (1, 2, 3, 4) for begun in (True, False)
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NumericalError("search: loss is nan"), "search: loss is nan"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_an_error_fails_its_trial_only_which_is_tried_again_when_it_is_asked_for(
    make, error, reason
):
    file = make({"prune.xi": [0.25, 0.5]}, seeds=[0, 1])

    def wrong(point, seed):
        return error if point.values["prune.xi"] == 0.5 and seed == 0 else None

    engine = Engine(wrong)
    summary = engine.run(file)
    assert summary.executed == 4
    (line,) = summary.failures
    assert line.endswith(f"prune.xi=0.5, seed 0): {reason}")
    failed = [t for t in results.document(file)["trials"] if t["state"] == "failed"]
    assert [(t["seed"], t["reason"]) for t in failed] == [(0, reason)]
    assert [n.outcome for n in engine.notices if isinstance(n.outcome, Failure)] == [
        Failure(reason)
    ]
    states = [t.state.name for t in stored(file)]
    assert states == ["COMPLETE"] * 2 + ["FAIL", "COMPLETE"]

    before = results.document(file)
    worker.prepare(file)
    assert Engine().run(file).executed == 0
    assert results.document(file) == before
    standing = standings.standing(file)
    assert (standing.trials_left, standing.trials_failed) == (0, 1)

    again = Engine()
    worker.prepare(file, again=True)
    assert standings.standing(file).trials_left == 1
    assert again.run(file) == worker.SweepSummary(executed=1, failures=())
    assert again.calls[0][2] == failed[0]["number"]
    assert again.calls[0][:2] == ({"prune.xi": 0.5}, 0)
    assert standings.standing(file).trials_left == 0
    assert [point["n"] for point in results.document(file)["points"]] == [2, 2]


def test_a_trial_without_a_finite_objective_fails(make):
    file = make({}, objectives=[{"metric": "macs", "direction": "minimize"}])
    assert "objective macs is nan" in Engine().run(file).failures[0]


def test_an_interrupt_ends_the_run_and_the_next_run_continues(make):
    file = make(XI, seeds=[0, 1])

    def wrong(point, seed):
        stop = point.values["prune.xi"] == 0.5 and seed == 1
        return KeyboardInterrupt() if stop else None

    with pytest.raises(KeyboardInterrupt):
        Engine(wrong).run(file)
    assert standings.standing(file).trials_left == 3
    assert [t["state"] for t in results.document(file)["trials"]] == ["complete"] * 5
    again = Engine()
    again.run(file)
    assert [(v["prune.xi"], seed) for v, seed, _ in again.calls] == [(0.75, 0), (0.75, 1), (0.5, 1)]
    assert document_without_numbers(file) == uninterrupted(make, XI, seeds=[0, 1])


def test_a_study_without_objectives_selects_nothing(make):
    file = make(XI, objectives=[])
    Engine().run(file)
    assert {t.value for t in stored(file)} == {0.0}
    assert results.document(file)["best"] is None


def test_changed_settings_are_new_points(make):
    Engine().run(make(XI))
    changed = make(XI, trial={"evaluate": {"epochs": 7}})
    assert results.document(changed)["trials"] == []
    engine = Engine()
    engine.run(changed)
    assert len(engine.calls) == 4
    assert Engine().run(make(XI)).executed == 0


def test_a_grid_of_numbers_and_the_seeds_may_grow(make):
    Engine().run(make(XI))
    engine = Engine()
    engine.run(make(XI | {"prune.xi": [0.25, 0.5, 0.9]}, seeds=[0, 7]))
    assert [(v["prune.source"], v["prune.xi"], s) for v, s, _ in engine.calls] == [
        ("none", 0.25, 7),
        ("random", 0.25, 7),
        ("random", 0.5, 7),
        ("random", 0.9, 0),
        ("random", 0.9, 7),
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parameters": {"prune.xi": [0.25]}}, r"sweep\.parameters\.prune\.source: none, but"),
        (
            {"parameters": XI | {"prune.source": ["random"]}},
            r'prune\.source: \["random"\], but .* was begun with \["none", "random"\]; give',
        ),
        ({"objectives": []}, r"sweep\.objectives: \[\], but"),
        (
            {"sampler": {"name": "tpe"}, "trials": 3},
            r"the study \'s\' in sqlite:.* was begun with .*another name \(study: …\)",
        ),
    ],
)
def test_another_sweep_under_the_same_name_is_an_error_that_says_how_to_go_on(
    make, changed, message
):
    Engine().run(make(XI))
    settings = {"parameters": XI} | changed
    file = make(settings.pop("parameters"), **settings)
    for call in (lambda: Engine().run(file), lambda: standings.standing(file)):
        with pytest.raises(ConfigError, match=message):
            call()
