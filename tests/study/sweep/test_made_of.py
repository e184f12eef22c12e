"""Studies whose data, files, code or machine change between two runs; the engine takes no time."""

import functools
from dataclasses import replace

import pytest

from tests.study.sweep import engine
from tests.study.sweep.engine import RANGE, stored
from zostudy.config.loading import StudyFile
from zostudy.errors import ConfigError
from zostudy.stage import Progress
from zostudy.study.points import Ended, TrialOutcome
from zostudy.study.report import results
from zostudy.study.sweep import beginning, standings, worker

TODAY = {"data": "d1", "engine": "e1", "device": "cpu", "hardware": "a processor"}
XI = {"prune.xi": [0.25, 0.5]}
MEASURED = {"latency": {"by": "measured"}}


@pytest.fixture
def make(make):
    """A study that is made of certain ingredients; of none where the versions before are meant."""

    def study(made_of=TODAY, parameters=XI, **sweep) -> StudyFile:
        given = made_of if callable(made_of) else lambda _: made_of
        return replace(make(parameters, **sweep), made_of=given)

    return study


class Engine(engine.Engine):
    """Trials of one accuracy, but for their ξ, on a machine that is checked before they run.

    Attributes:
        made_of: The ingredients of every trial.
    """

    def __init__(self, accuracy=90.0):
        super().__init__()
        self.accuracy = accuracy
        self.made_of: list[dict] = []

    def outcome(self, point, _seed, number):
        self.made_of.append(dict(point.made_of))
        xi = point.config.prune.options["xi"]
        metrics = {"validation_accuracy": self.accuracy + xi, "parameters": 1000 * xi}
        return TrialOutcome(metrics, {}, f"run-{number}")

    def run(self, file):
        beginning.check_same_engine(file)
        worker.prepare(file)
        return super().run(file)


def means(file):
    points = results.document(file)["points"]
    return [(p["n"], p["metrics"]["validation_accuracy"]["mean"]) for p in points if p["n"]]


CHANGES = {
    "data changed": ({}, {"data": "d2"}),
    "file changed": ({"prune.path": "f1"}, {"prune.path": "f2"}),
    "file added": ({}, {"prune.path": "f1"}),
    "file removed": ({"prune.path": "f1"}, {}),
    "table changed": ({"evaluate.path": "t1"}, {"evaluate.path": "t2"}),
    "extension changed": ({"extensions": "x1"}, {"extensions": "x2"}),
    "extension added": ({}, {"extensions": "x1"}),
    "extension removed": ({"extensions": "x1"}, {}),
}


@pytest.mark.parametrize(
    "change",
    ["file added", "extension changed"]
    + [
        pytest.param(change, marks=pytest.mark.slow)
        for change in CHANGES
        if change not in ("file added", "extension changed")
    ],
)
def test_trials_of_other_inputs_are_kept_apart_and_run_anew(make, change):
    then, now = (TODAY | ingredients for ingredients in CHANGES[change])
    half = {"prune.xi": [0.5]}
    Engine(90.0).run(make(then, half, seeds=[0]))
    changed = make(now, half, seeds=[0, 1])
    standing = standings.standing(changed)
    assert standing.trials_left == 2
    assert [apart.trials for apart in standing.apart] == [(0,)]
    assert results.document(changed)["points"] == []

    engine = Engine(50.0)
    engine.run(changed)
    assert sorted((seed, number) for _, seed, number in engine.calls) == [(0, 1), (1, 2)]
    assert engine.made_of == [now] * 2
    assert means(changed) == [(2, 50.5)]
    document = results.document(changed)
    assert [apart["trials"] for apart in document["apart"]] == [[0]]
    assert document["notes"][0].startswith("trial 0 is kept apart")
    assert [trial["made_of"] for trial in document["trials"]] == [now] * 2

    back = make(then, half, seeds=[0])
    assert means(back) == [(1, 90.5)]
    assert standings.standing(back).trials_left == 0


def test_nothing_is_run_again_where_nothing_has_changed(make):
    Engine().run(make())
    assert Engine().run(make()).executed == 0
    assert "notes" not in results.document(make())


def test_points_of_which_one_alone_reads_a_changed_file_stay_apart_from_each_other(make):
    def made_of(content):
        return lambda c: TODAY | ({"prune.path": content} if c.prune.options["xi"] > 0.3 else {})

    Engine().run(make(made_of("f1")))
    engine = Engine()
    engine.run(make(made_of("f2")))
    assert [values for values, _, _ in engine.calls] == [{"prune.xi": 0.5}]


def test_units_that_wait_for_other_data_are_not_waited_for(make):
    worker.prepare(make())  # adds units and runs none
    engine = Engine()
    engine.run(make(TODAY | {"data": "d2"}))
    assert len(engine.calls) == 2


def test_where_the_data_is_not_here_the_latest_trials_count_and_it_is_said(make):
    Engine(90.0).run(make())
    Engine(50.0).run(make(TODAY | {"data": "d2"}))
    away = make({"data": "", "engine": "e1", "device": "", "hardware": ""})
    assert means(away) == [(1, 50.25), (1, 50.5)]
    first, second = results.document(away)["notes"]
    assert first.startswith("trials 0, 1 are kept apart")
    assert "cannot be read here: whether the trials are made of it could not be compared" in second


# -- the machine ---------------------------------------------------------------------------------

MACHINES = {
    "engine": ("engine: ", "e2"),
    "device": ("runtime.device: ", "cuda"),
    "hardware": ("latency: ", "another processor"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_another_machine_is_refused_until_a_renewal_is_asked_for(make, name):
    start, value = MACHINES[name]
    make = functools.partial(make, trial=MEASURED)
    Engine(90.0).run(make(seeds=[0]))
    other = make(TODAY | {name: value}, seeds=[0, 1])
    with pytest.raises(ConfigError, match=f"^{start}.*{TODAY[name]}.*{value}.*--renew"):
        beginning.check_same_engine(other)
    assert means(other) == [(1, 90.25), (1, 90.5)]  # a month of results is not thrown away

    beginning.check_same_engine(other, renew=True)
    engine = Engine(50.0)
    engine.run(other)
    assert len(engine.calls) == 4
    assert means(other) == [(2, 50.25), (2, 50.5)]
    assert results.document(other)["apart"] == [
        {
            "trials": [0, 1],
            "differences": [{"ingredient": name, "then": TODAY[name], "now": value}],
        }
    ]
    beginning.check_same_engine(make(), renew=True)
    assert means(make()) == [(1, 90.25), (1, 90.5)]


def test_another_engine_is_said_and_refused_only_where_something_is_left(make):
    Engine().run(make())
    other = make(TODAY | {"engine": "e2"})
    beginning.check_same_engine(other)
    assert Engine().run(other).executed == 0
    (note,) = results.document(other)["notes"]
    assert "were run by the engine e1, and the one here is e2" in note


def test_a_machine_that_completed_nothing_binds_nobody(make):
    worker.prepare(make())
    engine = Engine()
    engine.run(make(TODAY | {"engine": "e2"}))
    assert [made_of["engine"] for made_of in engine.made_of] == ["e2", "e2"]


def test_a_renewal_where_nothing_has_changed_changes_nothing(make):
    Engine().run(make())
    beginning.check_same_engine(make(), renew=True)
    assert standings.standing(make()).trials_left == 0


def test_the_settings_of_a_device_have_a_machine_each(make):
    parameters = {"runtime.device": ["cpu", "cuda"]}

    def made_of(config):
        return TODAY | {"device": config.runtime.device}

    file = make(made_of, parameters)
    Engine().run(file)
    assert standings.standing(file).trials_left == 0
    beginning.check_same_engine(file)


def test_a_worker_needs_what_the_study_is_run_on(make):
    Engine().run(make())
    beginning.check_worker(make())
    with pytest.raises(ConfigError, match=r"^worker: .*was d1 then and is d2 now"):
        beginning.check_worker(make(TODAY | {"data": "d2"}))
    with pytest.raises(ConfigError, match=r"^engine: "):
        beginning.check_worker(make(TODAY | {"engine": "e2"}, seeds=[0, 1]))


LATENCIES = {
    "none": {},
    "torch": MEASURED,
    "onnxruntime": {"latency": {**MEASURED["latency"], "runtime": "onnxruntime"}},
}


def with_hardware(config, processor="a processor"):
    measured = config.latency.by == "measured"
    own = {"hardware": f"{processor}, {config.latency.runtime} 2"} if measured else {}
    return {"data": "d1", "engine": "e1", "device": "cpu"} | own


@pytest.mark.parametrize(
    ("then", "now"), [("none", "torch"), ("torch", "none"), ("torch", "onnxruntime")]
)
@pytest.mark.parametrize("renew", [False, True])
def test_another_way_to_a_latency_makes_other_points_and_is_not_refused(make, then, now, renew):
    before = make(with_hardware, trial=LATENCIES[then])
    Engine(90.0).run(before)
    if renew:
        other = replace(before, made_of=lambda c: with_hardware(c) | {"engine": "e0"})
        beginning.check_same_engine(other, renew=True)
        beginning.check_same_engine(before, renew=True)
    changed = make(with_hardware, trial=LATENCIES[now])
    beginning.check_same_engine(changed)
    assert Engine(50.0).run(changed).executed == 2
    assert means(changed) == [(1, 50.25), (1, 50.5)]
    assert "apart" not in results.document(changed)
    assert means(before) == [(1, 90.25), (1, 90.5)]


def test_latencies_of_points_that_are_not_in_the_file_any_more_bind_no_hardware(make):
    Engine().run(make(with_hardware, {"prune.xi": [0.3]}, trial=MEASURED))
    elsewhere = make(lambda c: with_hardware(c, "another"), {"prune.xi": [0.6]}, trial=MEASURED)
    beginning.check_same_engine(elsewhere)
    assert Engine().run(elsewhere).executed == 1
    both = make(with_hardware, {"prune.xi": [0.6, 0.9]}, trial=MEASURED)
    with pytest.raises(ConfigError, match=r"^latency: the hardware .* was another, torch 2 then"):
        beginning.check_same_engine(both)


class Overtaken(Engine):
    """Trials on a machine that another one overtakes, which completes one and is stopped."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def outcome(self, point, seed, number):
        first = engine.Engine(lambda *_: KeyboardInterrupt() if first.calls[1:] else None)
        with pytest.raises(KeyboardInterrupt):
            first.run(self.other)
        return super().outcome(point, seed, number)


def test_a_worker_ends_where_a_trial_of_another_machine_was_complete_first(make):
    one, other = (
        make(TODAY | {"hardware": hardware}, XI, seeds=[0, 1], trial=MEASURED)
        for hardware in ("one", "another")
    )
    worker.prepare(one)
    overtaken = Overtaken(one)
    with pytest.raises(ConfigError, match=r"^latency: the hardware .* was one then and is another"):
        worker.run(other, overtaken, overtaken.notices.append)
    assert len(overtaken.calls) == 1
    assert Engine(50.0).run(one).executed == 3
    assert [n for n, _ in means(one)] == [2, 2]


# -- studies of versions that recorded nothing ---------------------------------------------------


def test_trials_that_record_nothing_count_and_are_taken_as_made_of_what_is_there(make):
    Engine(90.0).run(make({}, seeds=[0]))
    file = make(seeds=[0, 1])
    assert means(file) == [(1, 90.25), (1, 90.5)]
    (note,) = results.document(file)["notes"]
    assert note.startswith("trials 0, 1 were run by a version of zostudy that did not record")
    assert Engine(92.0).run(file).executed == 2
    assert means(file) == [(2, 91.25), (2, 91.5)]

    changed = make(TODAY | {"data": "d2"}, seeds=[0, 1])
    assert results.document(changed)["points"] == []
    assert [apart.trials for apart in standings.standing(changed).apart] == [(0, 1, 2, 3)]


# -- samplers and early stopping -----------------------------------------------------------------


def sampled(name, trials):
    settings = {"parameters": RANGE, "sampler": {"name": name, "seed": 3}, "trials": trials}
    if name == "nsga2":
        settings["sampler"]["population"] = 4
        settings["objectives"] = [
            {"metric": "validation_accuracy", "direction": "maximize"},
            {"metric": "parameters", "direction": "minimize"},
        ]
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_sampler_learns_nothing_from_points_of_other_data(make, folder, name):
    Engine(10.0).run(make(TODAY | {"data": "d0"}, **sampled(name, 13)))
    after = Engine()
    after.run(make(**sampled(name, 13)))
    (folder / "new" / "optuna.db").unlink()
    alone = Engine()
    alone.run(make(**sampled(name, 13)))
    assert [values for values, _, _ in after.calls] == [values for values, _, _ in alone.calls]


def test_a_sampled_study_of_other_data_has_its_total_to_run(make):
    Engine().run(make(**sampled("tpe", 3)))
    other = make(TODAY | {"data": "d2"}, **sampled("tpe", 3))
    assert standings.standing(other).trials_left == 3
    assert results.document(other)["points"] == []
    Engine().run(other)
    assert len(results.document(other)["points"]) == 3
    assert standings.standing(make(**sampled("tpe", 3))).trials_left == 0


class Judged:
    """Trials of three epochs, stopped if they are told to."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def __call__(self, _point, _seed, number, judge):
        for epoch in (1, 2, 3):
            figures = {"validation_accuracy": self.accuracy}
            reason = judge(Progress("evaluate", epoch, 3, figures))
            if reason:
                return Ended.by(self.file.config.sweep, "stopped", reason, figures)
        return TrialOutcome({"validation_accuracy": self.accuracy}, {}, f"run-{number}")

    def run(self, file):
        self.file = file
        return worker.run(file, self, lambda _: None)


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_early_stopping_compares_with_nothing_of_other_data(make, name):
    rule = {"early_stopping": {"name": name}, "seeds": [0, 1, 2, 3, 4, 5]}
    if name == "median":
        rule["early_stopping"] |= {"startup_trials": 1, "warmup_epochs": 0}
    else:
        rule["early_stopping"] |= {"first_epochs": 1, "reduction": 2}
    one = {"prune.xi": [0.5]}
    Judged(95.0).run(make(TODAY | {"data": "d0"}, one, **rule))
    file = make(TODAY, one, **rule)
    Judged(60.0).run(file)
    states = {trial["state"] for trial in results.document(file)["trials"]}
    assert states == {"complete"}
    assert len(stored(file)) == 12
