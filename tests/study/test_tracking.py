import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from zostudy import __version__
from zostudy.errors import ConfigError, TrialError
from zostudy.study.tracking import Tracker, run_ui, without_password


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def tracker(folder):
    return Tracker(f"sqlite:///{folder}/mlflow.db", "ablation")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def status(tracker, run_id):
    return tracker.client.get_run(run_id).info.status


def artifacts(tracker, run_id, path=None):
    return sorted(entry.path for entry in tracker.client.list_artifacts(run_id, path))


def read(tracker, run_id, path, folder):
    return Path(tracker.client.download_artifacts(run_id, path, folder)).read_bytes()


def test_a_trial_is_a_finished_run_with_params_metrics_and_tags(tracker):
    with tracker.trial("trial 1", "a1", {"prune.level": 0.5, "seed": 0}, {"digest": "d"}) as run:
        assert status(tracker, run.id) == "RUNNING"
        run.metrics({"validation_accuracy": 97.5})
        run.metrics({"loss": 1.0}, step=1)
        run.metrics({"loss": 0.5}, step=2)
        run.note("A trial.")
    kept = tracker.client.get_run(run.id)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "trial 1"
    assert kept.data.params == {"prune.level": "0.5", "seed": "0"}
    assert kept.data.metrics == {"validation_accuracy": 97.5, "loss": 0.5}
    assert kept.data.tags["digest"] == "d"
    assert kept.data.tags["zostudy.version"] == __version__
    assert kept.data.tags["mlflow.note.content"] == "A trial."
    history = tracker.client.get_metric_history(run.id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert tracker.find("a1") == run.id


def test_no_run_is_found_for_an_unknown_key(tracker):
    assert tracker.find("unknown") is None


def test_a_key_that_could_change_the_query_is_refused(tracker):
    with pytest.raises(ValueError, match="is not of letters"):
        tracker.find("a' or 'b")


def test_a_finished_trial_of_the_same_key_is_taken_up_and_its_finished_child_is_not(tracker):
    with tracker.trial("one", "a2", {}, {}) as first, first.child("prune", "a2c", {}, {}) as phase:
        pass
    with tracker.trial("two", "a2", {}, {}) as second:
        assert second.id == first.id
        with second.child("prune", "a2c", {}, {}) as other:
            assert other.id != phase.id
    assert status(tracker, first.id) == "FINISHED"


def test_an_exception_fails_the_run_with_its_reason_in_one_line(tracker):
    with pytest.raises(TrialError), tracker.trial("t", "a3", {}, {}) as run:
        raise TrialError("search: the loss is nan\nat epoch 3")
    kept = tracker.client.get_run(run.id)
    assert kept.info.status == "FAILED"
    assert kept.data.tags["zostudy.reason"] == "search: the loss is nan at epoch 3"


def test_the_reason_of_a_foreign_exception_names_its_type_and_no_password(tracker):
    with pytest.raises(OSError, match="full"), tracker.trial("t", "a4", {}, {}) as run:
        raise OSError("disk full at http://me:secret@host/x")
    reason = tracker.client.get_run(run.id).data.tags["zostudy.reason"]
    assert reason == "OSError: disk full at http://me:***@host/x"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_a_killed_run(tracker, interrupt):
    key = f"a5{interrupt.__name__}"
    with pytest.raises(interrupt), tracker.trial("t", key, {}, {}) as run:
        raise interrupt
    assert status(tracker, run.id) == "KILLED"


def test_a_failed_run_is_gone_on_with(tracker):
    with pytest.raises(TrialError), tracker.trial("t", "a6", {"seed": 1}, {}) as run:
        raise TrialError("no")
    with tracker.trial("t again", "a6", {"seed": 2, "new": "x"}, {}) as again:
        assert again.id == run.id
        assert status(tracker, run.id) == "RUNNING"
        again.metrics({"loss": 0.5}, step=2)
    kept = tracker.client.get_run(run.id)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "t again"
    assert kept.data.params == {"seed": "1", "new": "x"}
    assert kept.data.metrics == {"loss": 0.5}
    assert "zostudy.reason" not in kept.data.tags


def test_a_run_left_by_a_killed_process_is_gone_on_with_and_its_children_closed(tracker):
    code = (
        "import os, signal, sys\n"
        "from zostudy.study.tracking import Tracker\n"
        "with Tracker(sys.argv[1], 'ablation').trial('t', 'a7', {}, {}) as run:\n"
        "    with run.child('prune', 'a7p', {}, {}): pass\n"
        "    with run.child('search', 'a7s', {}, {}):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tracker.uri], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left, pruned, searched = tracker.find("a7"), tracker.find("a7p"), tracker.find("a7s")
    assert status(tracker, left) == status(tracker, searched) == "RUNNING"
    with tracker.trial("t", "a7", {}, {}) as run:
        assert run.id == left
        assert status(tracker, searched) == "KILLED"
        assert status(tracker, pruned) == "FINISHED"
        with run.child("search", "a7s", {}, {}) as search:
            assert search.id == searched
    assert status(tracker, left) == status(tracker, searched) == "FINISHED"


def test_a_child_belongs_to_its_parent_alone(tracker):
    children = []
    for key in ("a8", "a9"):
        with (
            tracker.trial(key, key, {}, {}) as run,
            run.child("prune", "shared", {"level": 1}, {"kind": "prune"}) as child,
        ):
            children.append((child.id, run.id))
    assert children[0][0] != children[1][0]
    for child, parent in children:
        kept = tracker.client.get_run(child)
        assert kept.data.tags["mlflow.parentRunId"] == parent
        assert kept.data.tags["kind"] == "prune"
        assert kept.data.params == {"level": "1"}


def test_a_run_knows_which_of_its_children_are_finished(tracker):
    with tracker.trial("other", "aa", {}, {}) as other, other.child("prune", "aap", {}, {}):
        pass
    with tracker.trial("t", "ab", {}, {}) as run:
        assert not run.has_finished_child("aap")
        with run.child("prune", "aap", {}, {}):
            assert not run.has_finished_child("aap")
        assert run.has_finished_child("aap")


def test_a_failing_child_fails_its_parent_too(tracker):
    with (
        pytest.raises(TrialError),
        tracker.trial("t", "b1", {}, {}) as run,
        run.child("search", "b1s", {}, {}) as child,
    ):
        raise TrialError("no")
    assert status(tracker, run.id) == status(tracker, child.id) == "FAILED"


def test_long_params_and_tags_are_cut_with_an_ellipsis(tracker):
    with tracker.trial("t", "b2", {"long": "x" * 7000}, {"long": "y" * 9000}) as run:
        pass
    data = tracker.client.get_run(run.id).data
    assert data.params["long"] == "x" * 5999 + "…"
    assert data.tags["long"] == "y" * 7999 + "…"


def test_a_param_logged_again_with_another_value_keeps_the_first(tracker):
    with tracker.trial("t", "b3", {"seed": 1}, {}) as run:
        run.params({"seed": 2, "other": None})
    assert tracker.client.get_run(run.id).data.params == {"seed": "1", "other": "None"}


def test_more_values_than_one_request_may_hold_are_all_kept(tracker):
    with tracker.trial("t", "b4", {f"p{i}": i for i in range(150)}, {}) as run:
        run.metrics({f"m{i}": i for i in range(1001)})
        run.tags({f"t{i}": str(i) for i in range(150)})
    data = tracker.client.get_run(run.id).data
    assert len(data.params) == 150
    assert len(data.metrics) == 1001
    assert data.tags["t149"] == "149"


def test_figures_that_are_not_finite_are_kept(tracker):
    with tracker.trial("t", "b5", {}, {}) as run:
        run.metrics({"loss": float("nan"), "norm": float("inf")})
    metrics = tracker.client.get_run(run.id).data.metrics
    assert metrics["loss"] != metrics["loss"]  # true of NaN alone
    assert metrics["norm"] > 1e300


def test_artifacts_are_kept_beside_the_store(tracker, folder, tmp_path):
    picture = Figure(figsize=(1, 1))
    local = tmp_path / "study.yaml"
    local.write_text("study: ablation\n")
    with tracker.trial("t", "b6", {}, {}) as run:
        run.json({"cells": ["α"]}, "genotype.json")
        run.text("hello", "notes/hello.txt")
        run.figure(picture, "genotype.png")
        run.file(local, "settings")
        run.file(local)
    top = ["genotype.json", "genotype.png", "notes", "settings", "study.yaml"]
    assert artifacts(tracker, run.id) == top
    assert artifacts(tracker, run.id, "settings") == ["settings/study.yaml"]
    assert json.loads(read(tracker, run.id, "genotype.json", tmp_path)) == {"cells": ["α"]}
    assert read(tracker, run.id, "genotype.png", tmp_path).startswith(b"\x89PNG")
    assert (folder / "mlruns" / "ablation" / run.id / "artifacts" / "genotype.png").is_file()


def test_the_data_that_a_run_reads_is_recorded_with_its_digest(tracker):
    with tracker.trial("t", "b7", {}, {}) as run:
        run.dataset("digits", "0123456789abcdef" * 4, "training", {"name": "digits"})
    (entry,) = tracker.client.get_run(run.id).inputs.dataset_inputs
    assert entry.dataset.name == "digits"
    assert entry.dataset.digest == ("0123456789abcdef" * 4)[:36]
    assert json.loads(entry.dataset.source) == {"name": "digits"}
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_an_experiment_has_a_description_and_a_view_with_the_columns_to_compare(tracker):
    other = Tracker(tracker.uri, "viewed")
    plain = f"http://host/#/experiments/{other.experiment_id}/runs?workflowType=machine_learning"
    assert other.page("http://host/") == plain
    other.present("Which mask?", ["prune.level"], ["test_accuracy"])
    tags = other.client.get_experiment(other.experiment_id).tags
    assert tags["mlflow.note.content"] == "Which mask?"
    view = json.loads(tags["mlflow.sharedViewState.zostudy"])
    assert view == {"selectedColumns": ["params.`prune.level`", "metrics.`test_accuracy`"]}
    assert other.page("http://host") == f"{plain}&viewStateShareKey=zostudy"


def test_a_second_tracker_uses_the_same_experiment(tracker):
    assert Tracker(tracker.uri, "ablation").experiment_id == tracker.experiment_id


def test_an_experiment_s_name_cannot_lead_out_of_the_folder(tracker, folder):
    other = Tracker(tracker.uri, "../../out")
    with other.trial("t", "c1", {}, {}) as run:
        run.text("x", "x.txt")
    assert (folder / "mlruns" / "______out" / run.id / "artifacts" / "x.txt").is_file()


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(tracker):
    other = Tracker(tracker.uri, "deleted")
    other.client.delete_experiment(other.experiment_id)
    message = f"tracking.experiment: 'deleted' was deleted .*--experiment-id {other.experiment_id}"
    with pytest.raises(ConfigError, match=message):
        Tracker(tracker.uri, "deleted")


def test_the_default_is_mlflow_s_own_store_in_the_working_directory(
    tmp_path, monkeypatch, folder, tracker
):
    del tracker  # its store is copied: making one takes seconds
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_bytes((folder / "mlflow.db").read_bytes())
    here = Tracker("default", "fresh")
    with here.trial("t", "d1", {}, {}) as run:
        run.text("x", "x.txt")
    assert here.uri == MlflowClient().tracking_uri.replace(f"{tmp_path}/", "")
    assert Path("mlruns", "fresh", run.id, "artifacts", "x.txt").is_file()


def test_the_default_store_follows_the_working_directory(tmp_path, monkeypatch, folder, tracker):
    del tracker  # its store is copied: making one takes seconds
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        monkeypatch.chdir(place)
        Path("mlflow.db").write_bytes((folder / "mlflow.db").read_bytes())
        Tracker("default", place.name)
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
    assert "two" in names
    assert "one" not in names


def test_the_environment_s_tracking_uri_is_honoured(monkeypatch, tracker):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    assert Tracker("default", "ablation").uri == tracker.uri


def test_a_trial_carries_the_commit_of_the_working_directory(tracker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "x")
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    with Tracker(tracker.uri, "ablation").trial("t", "d2", {}, {}) as run:
        pass
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    commit = tracker.client.get_run(run.id).data.tags["mlflow.source.git.commit"]
    assert commit == head.stdout.strip()


def test_outside_a_repository_there_is_no_commit(tracker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with Tracker(tracker.uri, "ablation").trial("t", "d3", {}, {}) as run:
        pass
    assert "mlflow.source.git.commit" not in tracker.client.get_run(run.id).data.tags


def test_a_fresh_store_is_made_without_a_word(tmp_path):
    code = "from zostudy.study.tracking import Tracker\nTracker('default', 'x')\n"
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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
        f"sqlite:///{folder}/garbage.db": "file is not a database",
        f"sqlite:///{folder}/other.db": "Can't locate revision",
        f"sqlite:///{folder}/garbage.db/x.db": "File exists",
        f"file:{folder}/mlruns": "maintenance mode",
        "unknown://x": "Supported URI schemes",
        f"postgresql://me:secret@127.0.0.1:{free_port()}/x": "refused",
        f"http://me:secret@127.0.0.1:{free_port()}": "refused",
        "http://127.0.0.1:99999": "Port out of range",
    }


def test_a_store_that_cannot_be_used_is_one_line_at_once_and_without_password(tmp_path):
    for uri, reason in broken_stores(tmp_path).items():
        began = time.monotonic()
        with pytest.raises(ConfigError, match=f"^tracking.uri: .*{reason}") as caught:
            Tracker(uri, "x")
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:s/e@cr@host:1/db", "postgresql+psycopg://me:***@host:1/db"),
        (
            "postgresql://host/db?user=me&password=x&y=1",
            "postgresql://host/db?user=me&password=***&y=1",
        ),
        ("cannot open http://me:secret@host: no", "cannot open http://me:***@host: no"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://127.0.0.1:5000/path", "http://127.0.0.1:5000/path"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    assert without_password(text) == shown


@pytest.fixture
def server(folder, tracker):
    """`zostudy ui`'s server in a process of its own, on the module's store."""
    port = free_port()
    code = "import sys\nfrom zostudy.study.tracking import run_ui\n"
    code += "sys.exit(run_ui(sys.argv[1], int(sys.argv[2])))"
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", code, tracker.uri, str(port)],
        cwd=folder,  # where MLflow keeps the artifacts that it is sent
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.1)
    else:
        process.kill()
        pytest.fail((folder / "server.log").read_text())
    yield process, url
    process.send_signal(signal.SIGINT)
    process.wait(30)
    log.close()


@pytest.mark.slow
def test_runs_are_kept_over_http_and_the_page_ends_on_an_interrupt(
    server, tracker, tmp_path, capfd
):
    process, url = server
    assert Tracker(url, "ablation").experiment_id == tracker.experiment_id
    other = Tracker(url, "made over http")
    with pytest.raises(TrialError), other.trial("t", "e1", {"p": "", "q": 1}, {"t": "u"}) as run:
        raise TrialError("no")
    with other.trial("t", "e1", {"q": 2}, {}) as again, again.child("c", "e1c", {}, {}) as child:
        assert again.id == run.id
        again.metrics({"a": float("nan"), "b": 2.0}, step=3)
        again.json([1], "x.json")
        again.figure(Figure(figsize=(1, 1)), "x.png")
        again.dataset("digits", "d", "training", {})
    kept = other.client.get_run(run.id)
    assert kept.info.status == status(other, child.id) == "FINISHED"
    assert kept.data.params == {"p": "", "q": "1"}
    assert kept.data.metrics["b"] == 2.0
    assert artifacts(other, run.id) == ["x.json", "x.png"]
    assert capfd.readouterr() == ("", "")
    assert json.loads(read(other, run.id, "x.json", tmp_path)) == [1]

    with pytest.raises(ConfigError, match=r"port: \d+ is not free"):
        run_ui(tracker.uri, int(url.rsplit(":", 1)[1]))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    with pytest.raises(ConfigError, match="cannot be reached"):
        Tracker(url, "ablation")


def test_a_server_needs_no_page_of_its_own():
    with pytest.raises(ConfigError, match=r"'http://a:\*\*\*@host' is a server already"):
        run_ui("http://a:b@host", 1)


def test_the_git_program_is_not_needed(tracker, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with Tracker(tracker.uri, "ablation").trial("t", "f1", {}, {}) as run:
        pass
    assert "mlflow.source.git.commit" not in tracker.client.get_run(run.id).data.tags
