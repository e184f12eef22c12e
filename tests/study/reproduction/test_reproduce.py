"""Trials run again from their records, through the command line: nothing is faked."""

import hashlib
import json
import shutil
import sqlite3

import pytest

from tests.study.trial import tiny
from tests.study.trial.tiny import zostudy
from zostudy.config.loading import canonical, from_document, to_document
from zostudy.config.techniques import TECHNIQUES
from zostudy.study.reproduction.comparison import Course, first_difference
from zostudy.study.reproduction.recorded import alone

NETWORK = {"cells": 1, "channels": 2}
SMALL = {
    "supernet": NETWORK,
    "search": {"epochs": 2, "warmup_epochs": 0, "batch_size": 256},
    "evaluate": NETWORK | {"epochs": 2, "batch_size": 256, "auxiliary_weight": 0.0},
    "latency": {"by": "measured", "batch_sizes": [1], "warmup": 0, "runs": 2},
    "sweep": {"seeds": [1]},
}


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of one trial that has been run."""
    folder = tmp_path_factory.mktemp("done")
    tiny.write(folder, **SMALL)
    tiny.run(folder)
    return folder


def other_seed(folder, seed):
    """Say in the study's record that its trial had another seed."""
    tiny.write(folder, **SMALL | {"sweep": {"seeds": [seed]}})
    change = "update trial_user_attributes set {} where key = ?"
    with sqlite3.connect(folder / "optuna.db") as storage:
        storage.execute(change.format(f"key = 'seed:{seed}'"), ("seed:1",))
        storage.execute(change.format(f"value_json = '[{seed}]'"), ("seeds",))
    storage.close()


def reproduced(folder, *arguments, code):
    return json.loads(zostudy(folder, "reproduce", *arguments, "--json", code=code).out)


@pytest.mark.slow
def test_a_trial_is_the_same_again_and_its_study_is_not_touched(done):
    before = contents(done)
    found = reproduced(done, "study.yaml", "--trial", "0", code=0)
    assert found["identical"]
    assert (found["difference"], found["reasons"], found["notes"]) == (None, [], [])
    assert found["course_of"] == "MLflow"
    assert found["epochs"] == {"prune": 0, "search": 2, "evaluate": 2}
    assert contents(done) == before


@pytest.mark.slow
def test_a_run_in_mlflow_is_enough_and_the_new_run_is_kept(done, tmp_path):
    (trial,) = tiny.results(done)["trials"]
    store = f"sqlite:///{done}/mlflow.db"
    given = (trial["mlflow_run_id"], "--tracking-uri", store)
    printed = zostudy(tmp_path, "reproduce", *given, "--output", "new")
    assert printed.out.startswith(f"identical: run {trial['mlflow_run_id']} of study 'tiny'")
    kept = json.loads((tmp_path / "new" / "reproduction.json").read_text())
    assert kept["identical"]
    assert (tmp_path / "new" / "cache" / "search").is_dir()
    assert not (tmp_path / "new" / "cache" / "latency").exists()  # nothing of it is compared
    refused = zostudy(tmp_path, "reproduce", *given, "--output", "new", code=2)
    assert refused.err.startswith("error: --output: 'new' exists already")
    (child, *_) = tiny.runs_of(done, "tags.`zostudy.phase` = 'search'")
    refused = zostudy(tmp_path, "reproduce", child.info.run_id, "--tracking-uri", store, code=2)
    assert f"is of a phase; the run of its trial is {trial['mlflow_run_id']}" in refused.err


@pytest.mark.slow
def test_the_first_difference_is_named_where_the_record_has_another_seed(done, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(done, folder)
    other_seed(folder, 2)
    printed = zostudy(folder, "reproduce", "study.yaml", "--trial", "0", code=1)
    first, *reasons = printed.out.splitlines()
    assert first.startswith("different: trial 0 of study 'tiny', seed 2: prune, at its end, mask.")
    assert reasons == ["likely reason: seed is 2 in the study's record and 1 in its run"]


@pytest.mark.slow
def test_the_cache_has_the_course_of_the_epochs_where_mlflow_is_gone(done, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(done, folder)
    (folder / "mlflow.db").unlink()
    found = reproduced(folder, "study.yaml", code=0)
    assert (found["identical"], found["course_of"]) == (True, "cache")
    assert found["notes"] == [
        "its run in MLflow was not compared: tracking.uri: 'sqlite:///mlflow.db' is not there"
    ]
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow
def test_what_is_not_here_is_named_with_both_digests_before_anything_is_run(done, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(done, folder)
    with sqlite3.connect(folder / "optuna.db") as storage:
        (text,) = storage.execute(
            "select value_json from trial_user_attributes where key = 'made_of'"
        ).fetchone()
        held = json.loads(text)
        changed = json.dumps(held | {"engine": "e" * 64})
        where = "where key = 'made_of'"
        storage.execute(f"update trial_user_attributes set value_json = ? {where}", (changed,))
    storage.close()
    refused = zostudy(folder, "reproduce", "study.yaml", code=2)
    assert refused.out == ""
    assert refused.err.startswith("error: trial 0: cannot be reproduced with what is here: ")
    assert f"was eeeeeeeeee then and is {held['engine'][:10]} now" in refused.err
    refused = zostudy(folder, "reproduce", "study.yaml", "--trial", "7", code=2)
    assert refused.err == "error: --trial: 7 is no complete trial; complete: 0\n"
    refused = zostudy(folder, "reproduce", "x", "--tracking-uri", "sqlite:///no.db", code=2)
    assert refused.err == "error: tracking.uri: 'sqlite:///no.db' is not there\n"
    assert not (folder / "no.db").exists()


@pytest.mark.parametrize("technique", sorted(TECHNIQUES))
def test_the_settings_that_a_run_keeps_are_settings_again(technique):
    config = from_document({"study": "s", "technique": technique}).trial({})
    assert canonical(alone("s", to_document(config)).config) == canonical(config)


def course(loss, seconds=1.0):
    history = [{"train_loss": 2.0, "epoch_seconds": seconds}, {"train_loss": loss}]
    return Course(history, {"alpha_history": [{"normal": [[0.5, loss]]}] * 2}, {}, {"a": loss})


def test_the_first_difference_is_that_of_the_earliest_epoch_and_durations_do_not_count():
    assert first_difference("search", course(1.0), course(1.0, seconds=2.0), "cpu") is None
    found = first_difference("search", course(1.0), course(1.5), "cpu")
    assert (found.epoch, found.metric) == (1, "alpha_history.normal[0][1]")
    found = first_difference("search", Course(course(1.0).history), course(1.5), "cpu")
    assert str(found) == "search, epoch 2, train_loss: 1.0 then, 1.5 now"
    shorter = Course(course(1.0).history[:1])
    found = first_difference("search", shorter, course(1.0), "cpu")
    assert (found.epoch, found.then) == (2, None)


def test_peaks_of_memory_count_on_the_cpu_alone():
    one, other = (Course(metrics={"search_peak_bytes": value}) for value in (1, 2))
    assert first_difference("search", one, other, "cuda") is None
    assert first_difference("search", one, other, "cpu").metric == "search_peak_bytes"
