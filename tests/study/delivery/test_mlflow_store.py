import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from benchmarks.servers import free_port
from tests.patience import PATIENCE
from tests.tracked import Tracked
from zostudy.errors import ConfigError
from zostudy.study.delivery.mlflow_store import MlflowStore, StoreAwayError, refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(folder):
    return MlflowStore(f"sqlite:///{folder}/mlflow.db", "ablation")


def test_an_experiment_has_a_description_and_a_view_with_the_columns_to_compare(store):
    other = MlflowStore(store.uri, "viewed")
    plain = f"http://host/#/experiments/{other.experiment_id}/runs?workflowType=machine_learning"
    assert other.page("http://host/") == plain
    other.present("Which mask?", ["prune.level"], ["test_accuracy"])
    tags = other.client.get_experiment(other.experiment_id).tags
    assert tags["mlflow.note.content"] == "Which mask?"
    view = json.loads(tags["mlflow.sharedViewState.zostudy"])
    assert view == {"selectedColumns": ["params.`prune.level`", "metrics.`test_accuracy`"]}
    assert other.page("http://host") == f"{plain}&viewStateShareKey=zostudy"


def test_a_second_store_uses_the_same_experiment(store):
    assert MlflowStore(store.uri, "ablation").experiment_id == store.experiment_id


def test_an_experiment_s_name_cannot_lead_out_of_the_folder(store, folder):
    other = Tracked(folder, store.uri, "../../out")
    with other.trial("t", "c1") as run:
        run.text("x", "x.txt")
    assert (folder / "mlruns" / "______out" / run.mlflow_id / "artifacts" / "x.txt").is_file()


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(store):
    other = MlflowStore(store.uri, "deleted")
    other.client.delete_experiment(other.experiment_id)
    message = f"tracking.experiment: 'deleted' was deleted .*--experiment-id {other.experiment_id}"
    with pytest.raises(ConfigError, match=message):
        MlflowStore(store.uri, "deleted")


def test_the_default_is_mlflow_s_own_store_in_the_working_directory(
    tmp_path, monkeypatch, folder, store
):
    del store  # its store is copied: making one takes seconds
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_bytes((folder / "mlflow.db").read_bytes())
    here = Tracked(tmp_path, "default", "fresh")
    with here.trial("t", "d1") as run:
        run.text("x", "x.txt")
    assert here.store.uri == MlflowClient().tracking_uri.replace(f"{tmp_path}/", "")
    assert Path("mlruns", "fresh", run.mlflow_id, "artifacts", "x.txt").is_file()


def test_the_default_store_follows_the_working_directory(tmp_path, monkeypatch, folder, store):
    del store  # its store is copied: making one takes seconds
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        monkeypatch.chdir(place)
        Path("mlflow.db").write_bytes((folder / "mlflow.db").read_bytes())
        MlflowStore("default", place.name)
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
    assert "two" in names
    assert "one" not in names


def test_the_environment_s_tracking_uri_is_honoured(monkeypatch, store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert MlflowStore("default", "ablation").uri == store.uri


@pytest.mark.slow
def test_a_fresh_store_is_made_without_a_word(tmp_path):
    code = (
        "from zostudy.study.delivery.mlflow_store import MlflowStore\nMlflowStore('default', 'x')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert (tmp_path / "mlflow.db").is_file()


def broken_stores(folder):
    (folder / "garbage.db").write_text("no database at all " * 100)
    with sqlite3.connect(folder / "other.db") as database:
        database.execute("create table alembic_version (version_num varchar)")
        database.execute("insert into alembic_version values ('someone')")
    database.close()
    return {
        f"sqlite:///{folder}/garbage.db": "it is no SQLite file; choose another",
        f"sqlite:///{folder}/other.db": "Can't locate revision",
        f"sqlite:///{folder}/garbage.db/x.db": "File exists",
        f"file:{folder}/mlruns": "maintenance mode",
        "unknown://x": "Supported URI schemes",
        f"postgresql://me:secret@127.0.0.1:{free_port()}/x": "refused",
        f"http://me:secret@127.0.0.1:{free_port()}": "refused",
        "http://127.0.0.1:99999": "Port out of range",
    }


def test_a_store_that_cannot_be_used_is_one_line_at_once_and_without_password(
    tmp_path, monkeypatch
):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    for uri, reason in broken_stores(tmp_path).items():
        waits.clear()
        with pytest.raises(ConfigError, match=f"^tracking.uri: .*{reason}") as caught:
            MlflowStore(uri, "x")
        assert isinstance(caught.value, StoreAwayError) == (reason == "refused")
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
        assert sum(waits) < 5  # whatever is tried again; how fast the machine is does not count


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}), True),
        (RestException({"error_code": "INTERNAL_ERROR", "message": "no"}), False),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), False),
        (MlflowException("failed with exception", error_code=404), False),
        (ConnectionRefusedError("no"), False),
    ],
)
def test_only_what_mlflow_itself_says_against_a_request_is_final(error, final):
    assert (refusal(error, "http://host") is not None) == final


def test_runs_of_trials_that_nobody_runs_are_ended_with_their_children(folder, store):
    tracked = Tracked(folder, store.uri, "orphans")
    root, client = tracked.store.experiment_id, tracked.client

    def run(study, trial, **tags):
        numbered = {"zostudy.study": study, **({"zostudy.trial": trial} if trial else {})}
        return client.create_run(root, tags=numbered | tags, run_name=f"trial-{trial}").info.run_id

    dead, alive, other, given = run("s", "3"), run("s", "4"), run("t", "3"), run("s", "")
    children = [
        client.create_run(root, tags={"mlflow.parentRunId": parent}).info.run_id
        for parent in (dead, alive)
    ]
    ended = run("s", "5")
    client.set_terminated(ended, "FAILED")
    assert tracked.store.end_orphans("s", lambda: [4]) == ["trial-3"]
    states = {one: client.get_run(one).info.status for one in (dead, children[0], ended)}
    assert states == {dead: "KILLED", children[0]: "KILLED", ended: "FAILED"}
    for one in (alive, other, given, children[1]):
        assert client.get_run(one).info.status == "RUNNING"
    assert tracked.store.end_orphans("s", lambda: [4]) == []
