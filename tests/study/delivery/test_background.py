import logging
import threading
import time

import pytest

from benchmarks.servers import free_port
from tests.patience import wait_for
from tests.servers import Proxy
from tests.tracked import Tracked
from zostudy.errors import ConfigError
from zostudy.study.delivery import background
from zostudy.study.delivery.background import Delivery
from zostudy.study.delivery.mlflow_store import MlflowStore, children_of
from zostudy.study.tracking.runs import Tracker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(folder):
    return MlflowStore(f"sqlite:///{folder}/mlflow.db", "ablation")


@pytest.fixture
def tracked(store, tmp_path):
    return Tracked(tmp_path, store.uri, "ablation")


def write(tracker, key, epochs=5):
    """A trial of two phases with everything that a run can carry."""
    with tracker.trial(f"trial {key}", key, {"xi": 0.5, "seed": 1}, {"zostudy.study": "s"}) as run:
        run.note("A trial.")
        run.json({"a": 1}, "settings.json")
        run.dataset("digits", "0" * 64, "study", {"name": "digits"})
        for phase in ("search", "evaluate"):
            with run.child(phase, f"{key}{phase}", {"epochs": epochs}, {"p": phase}) as child:
                for epoch in range(1, epochs + 1):
                    child.metrics({"loss": 1 / epoch, "accuracy": 10.0 * epoch}, step=epoch)
                child.text("alpha", "alpha.txt")
        run.metrics({"test_accuracy": 80.0})


def check(store, key, epochs=5):
    """MLflow has what was written, once."""
    tracked = store.search(f"tags.`zostudy.key` = '{key}'")
    (run,) = tracked
    children = store.search(children_of(run.info.run_id))
    assert sorted(child.info.run_name for child in children) == ["evaluate", "search"]
    assert {one.info.status for one in (run, *children)} == {"FINISHED"}
    assert run.data.params == {"xi": "0.5", "seed": "1"}
    assert run.data.metrics == {"test_accuracy": 80.0}
    assert [a.path for a in store.client.list_artifacts(run.info.run_id)] == ["settings.json"]
    assert len(run.inputs.dataset_inputs) == 1
    for child in children:
        for name, value in (("loss", lambda e: 1 / e), ("accuracy", lambda e: 10.0 * e)):
            history = store.client.get_metric_history(child.info.run_id, name)
            steps = [(point.step, point.value) for point in history]
            assert sorted(steps) == [(e, value(e)) for e in range(1, epochs + 1)]
        names = [a.path for a in store.client.list_artifacts(child.info.run_id)]
        assert names == ["alpha.txt"]


def test_journals_are_delivered_while_they_are_written_and_deleted_at_their_end(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(background, "_POLL", 0.05)
    tracker = Tracker(tmp_path, store.uri, "ablation")
    with Delivery(tmp_path, store.uri, "ablation"):
        with tracker.trial("t", "a1", {}, {}) as run:
            run.metrics({"loss": 1.0}, step=1)
            wait_for(lambda: (found := store.newest("a1")) and found.data.metrics)
            found = store.newest("a1")
            assert found.info.status == "RUNNING"
            assert run.mlflow_id == found.info.run_id
        write(tracker, "a2")
    check(store, "a2")
    assert tracker.journals.pending() == []
    assert [path.name for path in tracker.journals.folder.iterdir()] == ["runs.jsonl"]


def test_what_was_sent_already_changes_nothing_when_it_is_sent_again(tracked, store):
    tracker = tracked.tracker
    with tracker.trial("t", "b0", {}, {}):
        write(tracker, "b1")
        with tracker.trial("trial b2", "b2", {"xi": 0.5, "seed": 1}, {}):
            for _ in range(3):
                tracked.delivery.once()
                for journal in tracker.journals.pending():
                    (journal.folder / "delivered.json").unlink()
    tracked.delivery.once()
    check(store, "b1")
    assert tracked.tracker.journals.pending() == []


def test_a_damaged_journal_is_delivered_but_for_the_lines_that_cannot_be_read(tracked, store):
    write(tracked.tracker, "h1")
    (journal,) = tracked.tracker.journals.pending()
    path = journal.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"search"' in lines[5]
    lines[5] = b"\x00\xff" + lines[5][2:]  # the beginning of a phase
    damaged = [b'{"event": "log"}\n', b"[1]\n", b'"text"\n', b'{"event": "other", "run": "x"}\n']
    path.write_bytes(b"".join([*lines[:3], *damaged, *lines[3:]]))
    (journal.folder / "delivered.json").write_text("[1]")
    (journal.folder.parent / "runs.jsonl").write_text("5\n[]\n{\n")
    tracked.delivery.once()
    (run,) = store.search("tags.`zostudy.key` = 'h1'")
    assert run.data.metrics == {"test_accuracy": 80.0}
    assert [r.info.run_name for r in store.search(children_of(run.info.run_id))] == ["evaluate"]
    assert tracked.tracker.journals.pending() == []


def test_an_attempt_that_arrives_after_a_later_one_adds_what_was_missing_and_no_more(
    store, tmp_path
):
    first, second = (Tracked(tmp_path / name, store.uri, "ablation") for name in ("one", "two"))
    with first.tracker.trial("early", "c1", {"a": 1}, {"t": "early"}) as run:
        run.metrics({"loss": 1.0, "old": 1.0}, step=1)
        run.metrics({"sum": 1.0})
        run.text("early", "x.txt")
        time.sleep(0.002)
        with second.trial("late", "c1", {"a": 1}, {"t": "late"}) as other:
            other.metrics({"loss": 1.0}, step=1)
            other.metrics({"loss": 0.5}, step=2)
            other.metrics({"sum": 2.0})
            other.text("late", "x.txt")
    first.delivery.once()
    (kept,) = store.search("tags.`zostudy.key` = 'c1'")
    assert (kept.info.status, kept.info.run_name, kept.data.tags["t"]) == (
        "FINISHED",
        "late",
        "late",
    )
    assert first.histories(kept) == {
        "loss": [(1, 1.0), (2, 0.5)],
        "old": [(1, 1.0)],
        "sum": [(0, 2.0)],
    }


def test_a_run_that_mlflow_refuses_is_named_and_the_others_are_delivered(tracked, store, caplog):
    tracker = tracked.tracker
    with tracker.trial("deleted", "d1", {}, {}) as run:
        tracked.delivery.once()
        store.client.delete_run(run.mlflow_id)
        run.metrics({"loss": 1.0})
    write(tracker, "d2")
    tracked.delivery.once()
    check(store, "d2")
    (line,) = tracked.delivery.undelivered()
    assert "deleted (" in line
    assert "must be in the 'active' state" in line
    assert "--repair" in line
    assert len([r for r in caplog.records if "does not take a run" in r.message]) == 1
    write(tracker, "d1")  # another attempt is not held up
    tracked.delivery.once()
    check(store, "d1")


def test_two_deliverers_do_not_get_into_each_other_s_way(store, tmp_path):
    tracker = Tracker(tmp_path, store.uri, "ablation")
    keys = [f"e{i}" for i in range(6)]
    for key in keys:
        write(tracker, key)
    deliveries = [Delivery(tmp_path, store.uri, "ablation") for _ in range(3)]
    threads = [threading.Thread(target=one.once) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in keys:
        check(store, key)


def test_an_address_that_can_never_work_is_an_error_at_once(tmp_path):
    for uri in ("unknown://x", "http://127.0.0.1:99999", f"file:{tmp_path}/mlruns"):
        with pytest.raises(ConfigError, match=r"^tracking\.uri: "), Delivery(tmp_path, uri, "x"):
            pass


def test_without_a_server_all_is_kept_said_once_and_named_at_the_end(tmp_path, caplog):
    uri = f"http://me:hunter2@127.0.0.1:{free_port()}"
    tracker = Tracker(tmp_path, uri, "x")
    with Delivery(tmp_path, uri, "x") as waiting:
        for key in ("f1", "f2"):
            write(tracker, key)
            waiting.once()
    said, named = (record.message for record in caplog.records)
    assert "cannot be reached" in said
    assert "the study goes on" in said
    assert "trial f1, trial f2 (" in named
    assert "zostudy doctor STUDY --repair" in named
    assert len(tracker.journals.pending()) == 2
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"hunter2" not in written + caplog.text.encode()


@pytest.fixture
def proxy(server):
    made = Proxy(server[0])
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["error", "drop", "lose"])
def test_a_server_that_fails_for_a_while_gets_everything_once(
    server, proxy, tmp_path, mode, caplog, monkeypatch
):
    monkeypatch.setattr(background, "_POLL", 0.02)
    monkeypatch.setattr(background, "_LONGEST", 0.05)
    caplog.set_level(logging.WARNING, "zostudy")
    tracker = Tracker(tmp_path, proxy.url, "served")
    keys = [f"{mode}{i}" for i in range(3)]
    with Delivery(tmp_path, proxy.url, "served"):
        write(tracker, keys[0])
        for misbehaving, key in ((mode, keys[1]), ("pass", keys[2])):
            proxy.mode, seen = misbehaving, proxy.requests
            write(tracker, key)
            while proxy.requests < seen + 40:
                time.sleep(0.01)
                if misbehaving == "pass" and not tracker.journals.pending():
                    break
    store = MlflowStore(f"http://127.0.0.1:{server[0]}", "served")
    for key in keys:
        check(store, key)
    assert tracker.journals.pending() == []
    assert len([r for r in caplog.records if "the study goes on" in r.message]) == 1


@pytest.mark.slow
def test_a_server_that_fails_at_the_start_is_used_when_it_works(server, proxy, tmp_path, caplog):
    proxy.mode = "error"
    tracker = Tracker(tmp_path, proxy.url, "served")
    with Delivery(tmp_path, proxy.url, "served"):
        write(tracker, "g1")
        proxy.mode = "pass"
    check(MlflowStore(f"http://127.0.0.1:{server[0]}", "served"), "g1")
    (record,) = caplog.records
    assert "does not answer" in record.message
