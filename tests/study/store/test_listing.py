import json
import os
import time

import pytest
import torch
from typer.testing import CliRunner

from zostudy.cli import app
from zostudy.errors import ConfigError
from zostudy.study.store import listing
from zostudy.study.store.listing import Selection
from zostudy.study.store.records import Store

PRUNE, SEARCH, EVALUATE, OPEN = ("0123456789abcde" + last for last in "0123")


@pytest.fixture
def store(tmp_path) -> Store:
    """Three results of two studies and one checkpoint."""
    store = Store(tmp_path / "own")
    for phase, key, study in (
        ("prune", PRUNE, "a"),
        ("search", SEARCH, "a"),
        ("evaluate", EVALUATE, "b"),
    ):
        origin = {"study": study, "trial": "trial-1", "mlflow_run_id": f"run-{phase}"}
        store.save(phase, key, {"x": 1}, {"w": torch.ones(250)}, origin)
    store.checkpoint("search", OPEN, {"study": "b", "trial": "trial-2"}).save({"epoch": 1})
    return store


def aged(store: Store, phase: str, key: str, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(store.folder / "cache" / phase / key, (then, then))


def keys(entries) -> set[str]:
    return {entry.key for entry in entries}


def test_every_entry_is_listed_with_where_it_came_from_its_size_and_times(store):
    found = {entry.key: entry.to_dict() for entry in listing.entries(store)}
    assert keys(listing.entries(store)) == {PRUNE, SEARCH, EVALUATE, OPEN}
    assert found[PRUNE] | {"bytes": 0, "made": "", "used": ""} == {
        "kind": "result", "phase": "prune", "key": PRUNE, "study": "a", "trial": "trial-1",
        "mlflow_run_id": "run-prune", "bytes": 0, "made": "", "used": "",
    }  # fmt: skip
    assert found[PRUNE]["bytes"] > 1000
    assert (found[OPEN]["kind"], found[OPEN]["study"]) == ("checkpoint", "b")


def test_the_last_use_of_a_result_is_noted(store):
    aged(store, "search", SEARCH, 3)
    assert keys(Selection(unused_seconds=86400).of(listing.entries(store))) == {SEARCH}
    assert listing.entries(store)[0].key == SEARCH
    with store.using(store.record("search", SEARCH)):
        pass
    assert Selection(unused_seconds=86400).of(listing.entries(store)) == []


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), set()),
        (Selection(phase="search"), {PRUNE, EVALUATE}),
        (Selection(study="b"), {PRUNE, SEARCH}),
        (Selection(study="a", phase="search"), {PRUNE, EVALUATE, OPEN}),
    ],
)
def test_what_is_selected_is_cleared(store, selection, left):
    chosen = selection.of(listing.entries(store))
    would, _ = listing.clear(store, chosen, dry_run=True)
    assert len(listing.entries(store)) == 4
    gone, used = listing.clear(store, chosen)
    assert (gone, used) == (would, [])
    assert keys(listing.entries(store)) == left
    assert [p for p in store.folder.rglob("*") if p.name.startswith(".")] == []


def test_what_is_in_use_is_left(store):
    with (
        store.using(store.record("prune", PRUNE)),
        store.computing("search", OPEN, pytest.fail),
    ):
        gone, used = listing.clear(store, listing.entries(store))
        assert keys(used) == {PRUNE, OPEN}
        assert keys(gone) == {SEARCH, EVALUATE}
        assert store.record("prune", PRUNE) is not None
        assert store.checkpoint("search", OPEN).load() == {"epoch": 1}
    listing.clear(store, listing.entries(store))
    assert listing.entries(store) == []


def test_a_damaged_result_is_listed_and_cleared(store):
    (store.folder / "cache" / "prune" / PRUNE / "record.json").write_text("{")
    (store.folder / "cache" / "search" / SEARCH / "record.json").unlink()
    damaged = [e for e in listing.entries(store) if not e.origin]
    assert keys(damaged) == {PRUNE, SEARCH}
    assert keys(listing.clear(store, damaged)[0]) == {PRUNE, SEARCH}


def test_what_a_killed_writer_left_is_cleared_once_it_is_old(store):
    left = store.folder / "cache" / "search" / f".{SEARCH}.123"
    left.mkdir()
    (left / "record.json").write_text("half")
    assert len(listing.entries(store)) == 4
    os.utime(left, (0, 0))
    (entry,) = [e for e in listing.entries(store) if e.kind == "leftover"]
    assert (entry.key, entry.bytes) == (SEARCH, 4)
    listing.clear(store, [entry])
    assert not left.exists()
    assert store.record("search", SEARCH) is not None


def test_the_command_lists_and_clears(store):
    run, folder = CliRunner().invoke, ["--folder", str(store.folder)]
    listed = run(app, ["cache", "list", *folder])
    assert listed.exit_code == 0
    assert "trial-1" in listed.stdout
    assert "4 entries" in listed.stdout
    document = json.loads(run(app, ["cache", "list", "--json", *folder]).stdout)
    assert document["bytes"] == sum(entry["bytes"] for entry in document["entries"])
    dry = run(app, ["cache", "clear", "--dry-run", "--phase", "search", *folder])
    assert "would be taken away: 2 entries" in dry.stdout
    assert len(listing.entries(store)) == 4
    cleared = run(app, ["cache", "clear", "--study", "a", "--json", *folder])
    assert keys(listing.entries(store)) == {EVALUATE, OPEN}
    document = json.loads(cleared.stdout)
    assert {entry["key"] for entry in document["removed"]} == {PRUNE, SEARCH}
    assert document["in_use"] == []


def test_a_folder_that_is_not_there_has_no_entries(tmp_path):
    done = CliRunner().invoke(app, ["cache", "list", "--folder", str(tmp_path / "no")])
    assert "0 entries" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--phase", "serach"],
            "--phase: 'serach' is no phase; allowed: prune, search, latency, evaluate",
        ),
        (["--older-than", "3 weeks"], "--older-than: '3 weeks' is no length of time; allowed: "),
    ],
)
def test_a_wrong_selection_is_an_error(store, arguments, message):
    done = CliRunner().invoke(app, ["cache", "clear", *arguments, "--folder", str(store.folder)])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(message)
    assert len(listing.entries(store)) == 4
