import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.patience import PATIENCE
from tests.tracked import Tracked
from zostudy import __version__
from zostudy.errors import TrialError
from zostudy.study.tracking.runs import Tracker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def tracked(folder):
    return Tracked(folder / ".zostudy", f"sqlite:///{folder}/mlflow.db", "ablation")


def read(tracked, run, path, folder):
    return Path(tracked.client.download_artifacts(run.mlflow_id, path, folder)).read_bytes()


def test_a_trial_is_a_finished_run_with_params_metrics_and_tags(tracked):
    with tracked.trial("trial 1", "a1", {"prune.level": 0.5, "seed": 0}, {"digest": "d"}) as run:
        tracked.delivery.once()
        assert tracked.status(run) == "RUNNING"
        run.metrics({"validation_accuracy": 97.5})
        run.metrics({"loss": 1.0}, step=1)
        run.metrics({"loss": 0.5}, step=2)
        run.note("A trial.")
    kept = tracked.get(run)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "trial 1"
    assert kept.data.params == {"prune.level": "0.5", "seed": "0"}
    assert kept.data.metrics == {"validation_accuracy": 97.5, "loss": 0.5}
    assert kept.data.tags["digest"] == "d"
    assert kept.data.tags["zostudy.version"] == __version__
    assert kept.data.tags["mlflow.note.content"] == "A trial."
    assert tracked.histories(kept)["loss"] == [(1, 1.0), (2, 0.5)]


def test_a_run_has_an_id_before_mlflow_gives_it_one_and_is_found_by_it(tracked):
    with tracked.trial("t", "id") as run:
        own = run.mlflow_id
    assert own == run.id != run.mlflow_id
    assert [r.info.run_id for r in tracked.runs(f"tags.`zostudy.run` = '{own}'")] == [run.mlflow_id]
    assert Tracker(tracked.tracker.journals.root, "sqlite://", "x").known(own) == run.mlflow_id


def test_a_key_that_could_change_a_query_is_refused(tracked):
    with pytest.raises(ValueError, match="is not of letters"), tracked.trial("t", "a' or 'b"):
        pass


def test_a_finished_trial_of_the_same_key_is_taken_up_and_its_finished_child_is_not(tracked):
    with tracked.trial("one", "a2") as first, first.child("prune", "a2c", {}, {}) as phase:
        pass
    with tracked.trial("two", "a2") as second, second.child("prune", "a2c", {}, {}) as other:
        pass
    assert second.mlflow_id == first.mlflow_id
    assert other.mlflow_id != phase.mlflow_id
    assert tracked.status(first) == "FINISHED"


def test_an_exception_fails_the_run_with_its_reason_in_one_line(tracked):
    with pytest.raises(TrialError), tracked.trial("t", "a3") as run:
        raise TrialError("search: the loss is nan\nat epoch 3")
    kept = tracked.get(run)
    assert kept.info.status == "FAILED"
    assert kept.data.tags["zostudy.reason"] == "search: the loss is nan at epoch 3"


def test_the_reason_of_a_foreign_exception_names_its_type_and_no_password(tracked):
    with pytest.raises(OSError, match="full"), tracked.trial("t", "a4") as run:
        raise OSError("disk full at http://me:secret@host/x")
    reason = tracked.get(run).data.tags["zostudy.reason"]
    assert reason == "OSError: disk full at http://me:***@host/x"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_a_killed_run(tracked, interrupt):
    with pytest.raises(interrupt), tracked.trial("t", f"a5{interrupt.__name__}") as run:
        raise interrupt
    assert tracked.status(run) == "KILLED"


def test_a_failed_run_is_gone_on_with(tracked):
    tags = {"zostudy.state": "stopped", "zostudy.orphaned": "True"}
    with pytest.raises(TrialError), tracked.trial("t", "a6", {"seed": 1}, tags) as run:
        raise TrialError("no")
    with tracked.trial("t again", "a6", {"seed": 2, "new": "x"}) as again:
        tracked.delivery.once()
        assert again.mlflow_id == run.mlflow_id
        assert tracked.status(run) == "RUNNING"
        again.metrics({"loss": 0.5}, step=2)
    kept = tracked.get(run)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "t again"
    assert kept.data.params == {"seed": "1", "new": "x"}
    assert kept.data.metrics == {"loss": 0.5}
    assert not {"zostudy.reason", "zostudy.state", "zostudy.orphaned"} & kept.data.tags.keys()


KILLED = """
import os, signal, sys
from pathlib import Path
from zostudy.study.tracking.runs import Tracker
tracker = Tracker(Path(sys.argv[1]), sys.argv[2], "ablation")
with tracker.trial("t", "a7", {}, {}) as run:
    with run.child("prune", "a7p", {}, {}):
        pass
    with run.child("search", "a7s", {}, {}) as search:
        search.metrics({"loss": 1.0}, step=1)
        if len(sys.argv) == 4:
            run._writer._stream.write(b'{"event": "log", "run": "')
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("torn", [False, True])
def test_runs_of_a_killed_process_end_as_killed_and_are_gone_on_with(tracked, torn):
    root = tracked.tracker.journals.root
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, root, tracked.store.uri, *(["torn"] if torn else [])],
        check=False,
        timeout=PATIENCE,
    )
    assert killed.returncode == -signal.SIGKILL
    tracked.delivery.once()
    assert tracked.tracker.journals.pending() == []
    left, pruned, searched = (tracked.store.newest(key) for key in ("a7", "a7p", "a7s"))
    assert left.info.status == searched.info.status == "KILLED"
    assert pruned.info.status == "FINISHED"
    assert searched.data.metrics == {"loss": 1.0}
    with tracked.trial("t", "a7") as run, run.child("search", "a7s", {}, {}) as search:
        search.metrics({"loss": 1.0}, step=1)
        search.metrics({"loss": 0.5}, step=2)
    assert (run.mlflow_id, search.mlflow_id) == (left.info.run_id, searched.info.run_id)
    assert tracked.status(run) == tracked.status(search) == "FINISHED"
    assert tracked.histories(tracked.get(search)) == {"loss": [(1, 1.0), (2, 0.5)]}
    with tracked.trial("t", "a7"):
        pass  # the second case kills it anew
    tracked.client.delete_run(search.mlflow_id)
    tracked.client.delete_run(run.mlflow_id)


def test_a_child_belongs_to_its_parent_alone(tracked):
    children = []
    for key in ("a8", "a9"):
        with (
            tracked.trial(key, key) as run,
            run.child("prune", "shared", {"level": 1}, {"kind": "prune"}) as child,
        ):
            pass
        children.append((child.mlflow_id, run.mlflow_id))
    assert children[0][0] != children[1][0]
    for child, parent in children:
        kept = tracked.client.get_run(child)
        assert kept.data.tags["mlflow.parentRunId"] == parent
        assert kept.data.tags["kind"] == "prune"
        assert kept.data.params == {"level": "1"}


def test_a_cached_phase_leaves_its_finished_run_alone_and_is_told_where_there_is_none(tracked):
    for key in ("aa", "ab"):
        with tracked.trial("t", key) as run:
            with run.child("prune", "aap", {}, {"cached": "no"}) as first:
                first.metrics({"loss": 1.0})
            tracked.delivery.once()
            with run.child("prune", "aap", {}, {"cached": "yes"}, cached=True) as second:
                second.metrics({"loss": 1.0})
                second.text("x", "x.txt")
        condition = f"tags.`mlflow.parentRunId` = '{run.mlflow_id}'"
        assert [child.data.tags["cached"] for child in tracked.runs(condition)] == ["no"]
        assert tracked.artifacts(first) == []
    with tracked.trial("t", "ac") as run, run.child("prune", "aap", {}, {}, cached=True) as child:
        pass
    assert tracked.status(child) == "FINISHED"


def test_the_run_that_a_cached_phase_came_from_is_named_by_mlflow_s_id(tracked):
    with tracked.trial("t", "ad") as first:
        pass
    with tracked.trial("t", "ae") as second:
        second.tags({"zostudy.cache_from": first.id})
    with tracked.trial("t", "ad") as again:
        again.tags({"zostudy.cache_hit": "True", "zostudy.cache_from": first.id})
    tags = [tracked.get(run).data.tags for run in (first, second)]
    assert [t.get("zostudy.cache_from") for t in tags] == [None, first.mlflow_id]
    assert tags[0]["zostudy.cache_hit"] == "False"


def test_a_failing_child_fails_its_parent_too(tracked):
    with (
        pytest.raises(TrialError),
        tracked.trial("t", "b1") as run,
        run.child("search", "b1s", {}, {}) as child,
    ):
        raise TrialError("no")
    assert tracked.status(run) == tracked.status(child) == "FAILED"


def test_long_params_and_tags_are_cut_with_an_ellipsis(tracked):
    with tracked.trial("t", "b2", {"long": "x" * 7000}, {"long": "y" * 9000}) as run:
        pass
    data = tracked.get(run).data
    assert data.params["long"] == "x" * 5999 + "…"
    assert data.tags["long"] == "y" * 7999 + "…"


def test_a_param_logged_again_with_another_value_keeps_the_first(tracked):
    with tracked.trial("t", "b3", {"seed": 1}) as run:
        run.params({"seed": 2, "other": None})
    assert tracked.get(run).data.params == {"seed": "1", "other": "None"}


def test_a_figure_told_twice_is_kept_once_and_one_that_changes_twice(tracked):
    with tracked.trial("t", "b8") as run:
        for value in (1.0, 1.0, float("nan"), float("nan"), 2.0):
            run.metrics({"loss": value})
    points = tracked.histories(tracked.get(run))["loss"]
    assert sorted(repr(value) for _, value in points) == ["1.0", "2.0", "nan"]


def test_more_values_than_one_request_may_hold_are_all_kept(tracked):
    with tracked.trial("t", "b4", {f"p{i}": i for i in range(150)}) as run:
        run.metrics({f"m{i}": i for i in range(1001)})
        run.tags({f"t{i}": str(i) for i in range(150)})
    data = tracked.get(run).data
    assert len(data.params) == 150
    assert len(data.metrics) == 1001
    assert data.tags["t149"] == "149"


def test_figures_that_are_not_finite_are_kept(tracked):
    with tracked.trial("t", "b5") as run:
        run.metrics({"loss": float("nan"), "norm": float("inf")})
    metrics = tracked.get(run).data.metrics
    assert metrics["loss"] != metrics["loss"]  # true of NaN alone
    assert metrics["norm"] > 1e300


def test_artifacts_are_kept_beside_the_store(tracked, folder, tmp_path):
    picture = Figure(figsize=(1, 1))
    local = tmp_path / "study.yaml"
    local.write_text("study: ablation\n")
    with tracked.trial("t", "b6") as run:
        run.json({"cells": ["α"]}, "genotype.json")
        run.text("hello", "notes/hello.txt")
        run.figure(picture, "genotype.png")
        run.file(local, "settings")
        run.file(local)
    top = ["genotype.json", "genotype.png", "notes", "settings", "study.yaml"]
    assert tracked.artifacts(run) == top
    assert tracked.artifacts(run, "settings") == ["settings/study.yaml"]
    assert json.loads(read(tracked, run, "genotype.json", tmp_path)) == {"cells": ["α"]}
    assert read(tracked, run, "genotype.png", tmp_path).startswith(b"\x89PNG")
    assert (folder / "mlruns" / "ablation" / run.mlflow_id / "artifacts" / "genotype.png").is_file()


def test_the_data_that_a_run_reads_is_recorded_with_its_digest(tracked):
    with tracked.trial("t", "b7") as run:
        run.dataset("digits", "0123456789abcdef" * 4, "training", {"name": "digits"})
    (entry,) = tracked.get(run).inputs.dataset_inputs
    assert entry.dataset.name == "digits"
    assert entry.dataset.digest == ("0123456789abcdef" * 4)[:36]
    assert json.loads(entry.dataset.source) == {"name": "digits"}
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_no_password_gets_into_a_journal(tmp_path):
    url = "postgresql://me:hunter2@host/db"
    local = tmp_path / "notes.txt"
    local.write_text("nothing of the kind")
    tracker = Tracker(tmp_path, "http://me:hunter2@127.0.0.1:1", "secret")
    with contextlib.suppress(OSError), tracker.trial("t", "k", {"u": url}, {"t": url}) as run:
        run.params({"more": [url]})
        run.note(url)
        run.json({"a": [{"b": url}]}, "a.json")
        run.text(url, "a.txt")
        run.file(local)
        run.dataset("d", "0", "training", {"url": url})
        with run.child("prune", "p", {"u": url}, {"t": url}):
            raise OSError(f"lost {url}")
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert written.count(b"postgresql://me:***@host/db") == 11
    assert b"hunter2" not in written


def test_a_trial_carries_the_commit_of_the_working_directory(tracked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "x")
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert commit(tracked.tracker.journals.root, "d2") == head.stdout.strip()


def test_outside_a_repository_there_is_no_commit(tracked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tracked.tracker.journals.root, "d3") == ""


def test_the_git_program_is_not_needed(tracked, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit(tracked.tracker.journals.root, "f1") == ""


def commit(root, experiment):
    """The commit that a new tracker's trial carries."""
    tracker = Tracker(root, "sqlite://", experiment)
    with tracker.trial("t", "k", {}, {}):
        pass
    (journal,) = tracker.journals.pending()
    events, _ = journal.events(0, 1)
    return events[0]["tags"].get("mlflow.source.git.commit", "")


def test_a_disk_that_cannot_be_written_fails_the_trial(tmp_path):
    (tmp_path / "journal").write_text("no folder")
    tracker = Tracker(tmp_path, "sqlite://", "x")
    with (
        pytest.raises(TrialError, match=r"journal/x/.* cannot be written"),
        tracker.trial("t", "k", {}, {}),
    ):
        pass


@pytest.mark.slow
def test_a_trial_does_not_import_mlflow():
    code = "import sys, zostudy.study.trial.trial; sys.exit('mlflow' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=PATIENCE)
