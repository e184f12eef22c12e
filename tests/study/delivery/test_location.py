import contextlib
import hashlib
import shutil
import sqlite3
import urllib.request
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils as mlflow_utils

from benchmarks.servers import free_port, mlflow_server
from tests.tracked import Tracked
from zostudy.errors import ConfigError
from zostudy.study.delivery import location
from zostudy.study.delivery.mlflow_store import MlflowStore
from zostudy.study.tracking.runs import Tracker

URI = "sqlite:///mlflow.db"


@pytest.fixture(autouse=True)
def _as_another_process():
    """MLflow remembers for a whole process where it has found the artifacts of a run."""
    mlflow_utils._artifact_repos_cache.clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a store, a run that has ended, one that was stopped, and one that waits."""
    folder = tmp_path_factory.mktemp("made") / "study"
    folder.mkdir()
    with contextlib.chdir(folder):
        tracked = Tracked(folder / ".zostudy", URI, "s.1")
        with tracked.trial("trial-0", "a0") as run:
            run.text("first", "pictures/x.txt")
        with contextlib.suppress(KeyboardInterrupt), tracked.trial("trial-1", "a1") as run:
            run.text("half", "x.txt")
            raise KeyboardInterrupt
        with tracked.tracker.trial("trial-2", "a2", {}, {}) as run:
            run.text("waiting", "x.txt")
    return folder


@pytest.fixture
def moved(made, tmp_path, monkeypatch):
    """The folder after `mv`, and the working directory in it; where it was is nothing."""
    old, new = tmp_path / "old", tmp_path / "né w 50%?"
    shutil.copytree(made, old)
    with_old_paths(made, old)
    old.rename(new)
    monkeypatch.chdir(new)
    return new


def with_old_paths(made, folder):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (str(made), str(folder)),
            )
        database.commit()


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def go_on(folder):
    """What a study does that goes on: takes up a run, begins one, delivers what waits."""
    tracked = Tracked(folder / ".zostudy", URI, "s.1")
    with tracked.trial("trial-1", "a1") as again:
        again.text("whole", "x.txt")
    with tracked.trial("trial-3", "a3") as run:
        run.text("new", "x.txt")
    assert tracked.tracker.journals.pending() == []
    return tracked, again, run


def recorded(folder):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs"
        return {text for (text,) in database.execute(query)}


def test_after_a_move_everything_goes_on_in_the_new_place(moved):
    old = moved.parent / "old"
    tracked, again, new = go_on(moved)
    assert not old.exists()
    texts = {path.read_text() for path in moved.glob("mlruns/s_1/*/artifacts/**/*.txt")}
    assert texts == {"first", "whole", "waiting", "new"}
    assert tracked.artifacts(again) == tracked.artifacts(new) == ["x.txt"]
    first = tracked.store.newest("a0")
    fetched = tracked.client.download_artifacts(first.info.run_id, "pictures/x.txt")
    assert Path(fetched).read_text() == "first"
    here = str(moved / "mlruns").replace("%", "%25")
    assert all(text.startswith(f"{here}/") for text in recorded(moved)), recorded(moved)
    assert tracked.store.move is None


def test_a_copy_never_touches_its_original(made, tmp_path, monkeypatch):
    before, times = contents(made), {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    go_on(copy)
    assert contents(made) == before
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == times
    texts = {path.read_text() for path in copy.glob("mlruns/s_1/*/artifacts/**/*.txt")}
    assert texts == {"first", "whole", "waiting", "new"}


def test_a_folder_that_is_reached_by_a_link_has_not_moved(made, tmp_path, monkeypatch):
    before = recorded(made)
    (tmp_path / "link").symlink_to(made)
    monkeypatch.chdir(tmp_path / "link")
    assert MlflowStore(f"sqlite:///{tmp_path}/link/mlflow.db", "s.1").move is None
    assert recorded(made) == before


def test_an_old_place_that_links_to_the_new_one_is_right(moved):
    (moved.parent / "old").symlink_to(moved)
    assert location.move(URI, "s.1") is None


def test_artifacts_that_were_written_into_the_old_place_are_fetched_and_left_there(moved):
    old = moved.parent / "old"
    run = MlflowStore(URI, "s.1").newest("a0")
    (old / "mlruns" / "s_1").mkdir(parents=True)
    place = Path("mlruns", "s_1", run.info.run_id)
    shutil.move(moved / place, old / place)
    before = contents(old)
    MlflowStore(URI, "s.1").settle()
    assert (moved / place / "artifacts" / "pictures" / "x.txt").read_text() == "first"
    assert contents(old) == before


def test_an_experiment_whose_artifacts_somebody_placed_elsewhere_is_left_so(made, tmp_path):
    shutil.copy(made / "mlflow.db", tmp_path / "mlflow.db")
    store = MlflowStore(f"sqlite:///{tmp_path}/mlflow.db", "other")
    places = {f"{tmp_path}/elsewhere/mine", "s3://bucket/mlruns/s", f"{tmp_path}/x/mlruns/7"}
    for number, place in enumerate(sorted(places)):
        store.client.create_experiment(f"experiment {number}", place)
        mine = MlflowStore(store.uri, f"experiment {number}")
        assert mine.move is None
        mine.settle()
    assert places <= recorded(tmp_path)


def test_the_experiments_of_another_folder_in_the_same_store_stay_there(moved):
    other = "/somewhere/mlruns/4"
    MlflowStore(URI, "s.1").client.create_experiment("other", other)
    MlflowStore(URI, "s.1").settle()
    assert other in recorded(moved)
    assert len([text for text in recorded(moved) if "/old/" in text]) == 0


def test_a_database_that_cannot_be_written_is_one_line(moved):
    store = MlflowStore(URI, "s.1")
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE UPDATE ON runs BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
        database.commit()
    before = recorded(moved)
    with pytest.raises(ConfigError, match=r"^tracking\.uri: .*cannot be read or corrected \(no\)$"):
        store.settle()
    assert recorded(moved) == before


@pytest.mark.parametrize(
    "uri", ["http://host", "postgresql://host/x", "sqlite://", "sqlite:///:memory:"]
)
def test_only_a_store_in_a_file_has_a_folder(uri):
    assert location.database(uri) is None
    assert location.absolute(uri) == uri
    assert location.artifact_location(uri, "s") is None
    assert location.move(uri, "s") is None


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b", "ξ#", "é+&'"])
def test_any_name_of_a_folder_will_do(made, tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(made / "mlflow.db", folder)
    monkeypatch.chdir(folder)
    tracked = Tracked(folder / ".zostudy", URI, "named")
    with tracked.trial("t", "b1") as run:
        run.text("here", "x.txt")
    assert tracked.artifacts(run) == ["x.txt"]
    assert [p.read_text() for p in folder.glob("mlruns/named/*/artifacts/x.txt")] == ["here"]
    assert not [path for path in tmp_path.rglob("*.txt") if folder not in path.parents]
    assert not [path for path in tmp_path.rglob("*.db") if folder not in path.parents]


def test_journals_for_a_store_named_by_its_full_path_are_delivered_after_a_move(made, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(made / "mlflow.db", old)
    with Tracker(old / ".zostudy", f"sqlite:///{old}/mlflow.db", "full").trial(
        "t", "c1", {}, {}
    ) as run:
        run.text("waiting", "x.txt")
    old.rename(new)
    tracked = Tracked(new / ".zostudy", f"sqlite:///{new}/mlflow.db", "full")
    tracked.delivery.once()
    assert tracked.tracker.journals.pending() == tracked.tracker.journals.elsewhere() == []
    assert [p.read_text() for p in new.glob("mlruns/full/*/artifacts/x.txt")] == ["waiting"]
    assert not old.exists()


@pytest.mark.slow
def test_mlflow_s_own_server_in_the_new_place_serves_what_was_logged_before(moved, monkeypatch):
    tracked, _, _ = go_on(moved)
    run_id = tracked.store.newest("a0").info.run_id
    again = moved.rename(moved.parent / "again")
    monkeypatch.chdir(again)
    MlflowStore(URI, "s.1").settle()
    (again / "server.db").symlink_to(again / "mlflow.db")
    port = free_port()
    address = f"http://127.0.0.1:{port}/get-artifact?path=pictures/x.txt&run_uuid={run_id}"
    with mlflow_server(again, port), urllib.request.urlopen(address, timeout=60) as answer:
        assert answer.read() == b"first"
