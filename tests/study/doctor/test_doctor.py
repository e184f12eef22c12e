import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils as mlflow_utils
from typer.testing import CliRunner

from zostudy.cli import app
from zostudy.config.loading import from_document
from zostudy.study import doctor
from zostudy.study.delivery import background
from zostudy.study.points import Ended, to_json
from zostudy.study.report import results
from zostudy.study.sweep import worker
from zostudy.study.tracking.journal import known_runs
from zostudy.study.trial.trial import Trials

SMALL = {"cells": 1, "channels": 1}


#: A study that is run comes before the first of them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder():
    """A folder in memory where there is one: SQLite waits for the disk at every commit."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def studied(folder):
    """A study of one trial, run to its end in a folder."""
    made = from_document(
        {
            "study": "s",
            "storage": {"optuna": f"sqlite:///{folder}/optuna.db", "folder": f"{folder}/.zostudy"},
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
            "search_space": {"name": "nasbench201"},
            "supernet": SMALL,
            "prune": {"source": "random"},
            "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 512},
            "evaluate": SMALL | {"epochs": 1, "batch_size": 512, "auxiliary_weight": 0.0},
            "runtime": {"device": "cpu", "threads": 1},
            "sweep": {"parameters": {"prune.xi": [0.25]}},
        }
    )
    run(made)
    return made


@pytest.fixture(scope="module")
def file(folder):
    return studied(folder)


def run(file):
    with background.for_study(file.config):
        return worker.run(file, Trials(file, lambda _: None), lambda _: None)


@pytest.fixture
def client(file):
    return MlflowClient(file.config.tracking.uri)


def found(results):
    return [(result.finding.kind, result.finding.what) for result in results]


def healed(file, kind, *texts):
    """The doctor finds just these, repairs them, and then finds nothing."""
    findings = found(doctor.examine(file))
    assert [one for one, _ in findings] == [kind] * len(texts), findings
    for text in texts:
        assert any(text in what for _, what in findings), findings
    repaired = doctor.repair(file)
    assert found(repaired) == findings
    assert all(result.repaired for result in repaired), repaired
    assert found(doctor.examine(file)) == []
    return [result.left for result in repaired]


def runs(client):
    """The run of the trial, and its children by name."""
    experiment = client.get_experiment_by_name("s").experiment_id
    every = client.search_runs([experiment])
    top = {r.data.tags.get("zostudy.trial"): r for r in every}
    return top["0"], lambda parent, name: next(
        r
        for r in every
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id and r.info.run_name == name
    )


def artifact(client, run, path):
    return Path(client.get_run(run.info.run_id).info.artifact_uri.removeprefix("file://"), path)


def essence(client, run):
    run_id = run.info.run_id
    history = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    return run.data.params, {
        name: sorted((p.step, p.value) for p in points) for name, points in history.items()
    }


def test_of_a_study_that_was_run_nothing_is_wrong(file):
    assert doctor.examine(file) == doctor.repair(file) == []


def test_a_study_that_was_never_run_is_left_so(tmp_path):
    settings = {"optuna": f"sqlite:///{tmp_path}/optuna.db", "folder": f"{tmp_path}/.zostudy"}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    study = from_document({"study": "s", "storage": settings, "tracking": {"uri": uri}})
    assert doctor.examine(study) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_gone_is_logged_again_with_its_phases_and_their_course(file, client):
    first, child = runs(client)
    phases = ("prune", "search", "evaluate")
    before = [essence(client, r) for r in (first, *(child(first, name) for name in phases))]
    for name in phases:
        client.delete_run(child(first, name).info.run_id)
    client.delete_run(first.info.run_id)
    assert healed(file, "mlflow", "trial 0 (prune.xi=0.25, seed 0) is complete and has no run") == [
        ""
    ]
    again, child = runs(client)
    after = [essence(client, r) for r in (again, *(child(again, name) for name in phases))]
    assert before[1][1].pop("level")  # of a round's progress, which no record holds
    assert after == before
    assert again.data.tags["zostudy.logged_again"] == "from the cache"
    trial = results.document(file)["trials"][0]
    assert trial["mlflow_run_id"] == again.info.run_id != first.info.run_id


def test_a_run_left_running_is_ended(file, client):
    experiment = client.get_experiment_by_name("s").experiment_id
    tags = {"zostudy.study": "s", "zostudy.trial": "7"}
    parent = client.create_run(experiment, tags=tags, run_name="trial-7").info.run_id
    child = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    healed(file, "mlflow", "(trial-7) is RUNNING, and nobody runs it")
    assert {client.get_run(one).info.status for one in (parent, child)} == {"KILLED"}


def test_a_complete_trial_whose_run_did_not_end_is_finished(file, client):
    run_, _ = runs(client)
    client.update_run(run_.info.run_id, status="RUNNING")
    healed(file, "mlflow", "is complete, and its run is RUNNING")
    assert client.get_run(run_.info.run_id).info.status == "FINISHED"


def test_a_run_that_optuna_knows_nothing_of_is_marked(file, client):
    experiment = client.get_experiment_by_name("s").experiment_id
    tags = {"zostudy.study": "s", "zostudy.trial": "9"}
    stray = client.create_run(experiment, tags=tags, run_name="trial-9").info.run_id
    client.set_terminated(stray)
    healed(file, "mlflow", "(trial-9) is complete, and Optuna knows no trial of it")
    assert client.get_run(stray).data.tags["zostudy.orphaned"] == "True"


def test_the_run_of_a_trial_that_a_rule_ended_is_no_orphan(file, folder, client):
    experiment = client.get_experiment_by_name("s").experiment_id
    tags = {"zostudy.study": "s", "zostudy.trial": "11", "zostudy.state": "stopped"}
    stopped = client.create_run(experiment, tags=tags, run_name="trial-11").info.run_id
    client.set_terminated(stopped)
    ended = to_json(Ended("stopped", "poor", "{}", {}, stopped))
    with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as database:
        database.execute(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'seed:7', ?)",
            (json.dumps(ended),),
        )
        database.commit()
    assert doctor.examine(file) == []


def test_artifacts_that_are_missing_or_damaged_are_written_again(file, client):
    run_, child = runs(client)
    genotype = artifact(client, run_, "genotype.json")
    picture = artifact(client, child(run_, "search"), "alpha.png")
    content = genotype.read_bytes()
    genotype.write_bytes(b"{")
    picture.unlink()
    healed(file, "artifact", "genotype.json of run ", "(search) is missing")
    assert genotype.read_bytes() == content
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_artifact_that_cannot_be_written_again_is_said_to_be_lost(file, client, folder):
    run_, child = runs(client)
    artifact(client, child(run_, "search"), "alpha_history.json").unlink()
    shutil.move(folder / ".zostudy" / "cache", folder / "kept")
    (left,) = healed(file, "artifact", "(search) is missing")
    shutil.move(folder / "kept", folder / ".zostudy" / "cache")
    assert "not in the cache any more" in left
    assert client.get_run(child(run_, "search").info.run_id).data.tags["zostudy.lost"]


def test_damaged_files_and_what_dead_processes_left_are_taken_away(file, folder):
    own = folder / ".zostudy"
    record = next((own / "cache" / "search").iterdir())
    key = "ab" * 32
    unreadable = own / "checkpoints" / "search" / f"{key}.pt"
    finished = own / "checkpoints" / "search" / f"{record.name}.pt"
    lock = own / "locks" / "search" / f"{key}.lock"
    half, fresh = (own / "cache" / "search" / f".{key}.{n}" for n in ("0" * 32, "1" * 32))
    for path in (unreadable, lock, half, fresh):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no such thing")
    os.utime(half, (time.time() - 100,) * 2)
    shutil.copy(unreadable, finished)
    original = (record / "record.json").read_bytes()
    (record / "record.json").write_bytes(original.replace(b'"seconds"', b'"secunds"'))
    kinds = ["cache", "checkpoint", "checkpoint", "file", "lock"]
    assert [kind for kind, _ in found(doctor.examine(file))] == kinds
    assert all(result.repaired for result in doctor.repair(file))
    assert doctor.examine(file) == []
    assert not any(path.exists() for path in (record, unreadable, finished, lock, half))
    fresh.unlink()
    assert run(file).executed == 0
    record.mkdir()
    (record / "record.json").write_bytes(original)


def test_a_trial_that_nobody_runs_is_marked_and_run_again(file, folder):
    with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as database:
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 0")
        database.execute(
            "UPDATE trial_user_attributes SET value_json = "
            "replace(value_json, ?, '999999999 ') WHERE key = 'worker'",
            (f"{os.getpid()} ",),
        )
        database.commit()
    findings = found(doctor.examine(file))
    assert ("optuna", "trial 0 of Optuna is RUNNING, and nobody runs it") in findings
    assert all(result.repaired for result in doctor.repair(file))
    assert doctor.examine(file) == []
    with contextlib.closing(sqlite3.connect(folder / "optuna.db")) as database:
        database.execute("UPDATE trials SET state = 'COMPLETE' WHERE number = 0")
        database.commit()


def test_journals_are_delivered_those_that_were_refused_too(file, client):
    trials = Trials(file, lambda _: None)
    with trials.tracker.trial("genotype", "aa", {}, {}) as run_:
        run_.metrics({"loss": 1.0})
    with trials.tracker.trial("genotype 2", "ab", {}, {}) as other:
        background.for_study(file.config).once()
        client.delete_run(other.mlflow_id)
        other.metrics({"loss": 2.0})
    background.for_study(file.config).once()
    with trials.tracker.trial("genotype 3", "ac", {}, {}):
        ((kind, what),) = found(doctor.examine(file))  # what is being written is left alone
        assert kind == "journal"
        assert what.startswith("genotype 2 is not delivered to MLflow (")
    healed(file, "journal", "genotype 2 is not", "genotype 3 is not")
    again = client.get_run(known_runs(file.folder)[other.id])
    assert again.data.metrics == {"loss": 2.0}


def test_a_journal_for_another_store_is_named(file, folder):
    elsewhere = from_document(file.document | {"tracking": {"uri": "http://me:x@127.0.0.1:1"}})
    with Trials(elsewhere, lambda _: None).tracker.trial("genotype", "ba", {}, {}):
        pass
    (result,) = doctor.repair(file)
    assert not result.repaired
    assert result.finding.what.endswith("and meant for http://me:***@127.0.0.1:1")
    (journal,) = (folder / ".zostudy" / "journal" / "s").glob("[0-9]*")
    shutil.rmtree(journal)


def test_a_server_that_is_away_is_said_and_the_rest_is_looked_at(file, folder):
    elsewhere = from_document(file.document | {"tracking": {"uri": "http://127.0.0.1:1"}})
    lock = folder / ".zostudy" / "locks" / "search" / f"{'cd' * 32}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("")
    results_ = doctor.repair(elsewhere)
    assert [(r.finding.kind, r.repaired) for r in results_] == [("lock", True), ("mlflow", False)]
    assert "cannot be reached" in results_[1].finding.what
    assert json.dumps(found(results_))


def test_the_command_lists_repairs_and_says_by_its_exit_code_whether_all_is_well(
    file, folder, client
):
    (folder / "study.json.yaml").write_text(json.dumps(file.document))
    runner = CliRunner()

    def call(*arguments, code):
        done = runner.invoke(app, ["doctor", str(folder / "study.json.yaml"), *arguments])
        assert done.exit_code == code, done.output
        return done.output

    run_, _ = runs(client)
    client.update_run(run_.info.run_id, status="RUNNING")
    assert "; --repair logs it again from Optuna's record and the cache" in call(code=1)
    document = json.loads(call("--json", code=1))
    assert (document["study"], document["wrong"]) == ("s", 1)
    assert document["findings"][0]["kind"] == "mlflow"
    assert "1 of 1 repaired" in call("--repair", code=0)
    (note,) = (healthy := json.loads(call("--json", code=0))).pop("notes")
    assert note.startswith("trial 0 was run by a version of zostudy that did not record what it is")
    assert healthy == {"study": "s", "wrong": 0, "findings": []}
    assert call("--repair", code=0).endswith("study 's': nothing is wrong\n")


def test_a_run_that_is_gone_is_logged_from_its_outcome_where_the_cache_is(tmp_path):
    file = studied(tmp_path)  # of its own: the phases of the run are not recorded again
    client = MlflowClient(file.config.tracking.uri)
    run_, _ = runs(client)
    metrics = run_.data.metrics
    client.delete_run(run_.info.run_id)
    shutil.move(tmp_path / ".zostudy" / "cache", tmp_path / "kept")
    # its phases are those of a run that is not there, too
    repaired = doctor.repair(file)
    shutil.rmtree(tmp_path / ".zostudy" / "cache", ignore_errors=True)
    shutil.move(tmp_path / "kept", tmp_path / ".zostudy" / "cache")
    assert all(result.repaired for result in repaired)
    (left,) = [result.left for result in repaired if result.left]
    assert "not all of its phases are in the cache" in left
    assert [kind for kind, _ in found(repaired)] == ["mlflow"] * 4
    assert doctor.examine(file) == []
    again, _ = runs(client)
    assert again.data.metrics.items() >= metrics.items()


def test_of_a_study_whose_folder_was_moved_the_artifacts_are_recorded_anew(file, folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.copytree(folder, tmp_path / "moved")
    mlflow_utils._artifact_repos_cache.clear()  # as another process
    text = json.dumps(file.document).replace(str(folder), str(tmp_path / "moved"))
    moved = from_document(json.loads(text))
    healed(moved, "mlflow", f"has its artifacts in {folder}/mlruns, and its folder is {tmp_path}")
    client = MlflowClient(moved.config.tracking.uri)
    run_, child = runs(client)
    for one, path in ((run_, "genotype.png"), (child(run_, "search"), "alpha.png")):
        assert artifact(client, one, path).is_relative_to(tmp_path / "moved")
        assert artifact(client, one, path).is_file()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
