"""Whole studies through the command line, small: the engine, the stores and MLflow, all real."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.commands import environment, line
from tests.patience import PATIENCE, wait_for
from tests.study.trial.tiny import SWEEP, client_of, results, run, runs_of, write, zostudy

#: What must be the same however often a study was stopped; times are not.
SAME = ("validation_accuracy", "test_accuracy", "search_peak_bytes", "parameters", "macs")


def essence(document):
    return [
        (trial["params"], trial["seed"], trial["genotype"], [trial["metrics"][m] for m in SAME])
        for trial in document["trials"]
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A study of two points, run once."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder, sweep=SWEEP)
    zostudy(folder, "run", "study.yaml")  # the machine is checked too
    return folder


@pytest.mark.slow
def test_a_study_ends_with_every_metric_of_every_trial(undisturbed):
    document = results(undisturbed)
    assert [trial["state"] for trial in document["trials"]] == ["complete"] * 2
    for trial in document["trials"]:
        assert trial["metrics"].keys() >= {
            "validation_accuracy", "test_accuracy", "parameters", "macs",
            "prune_seconds", "search_seconds", "evaluate_seconds",
            "prune_peak_bytes", "search_peak_bytes", "evaluate_peak_bytes",
        }  # fmt: skip
        assert trial["metrics"]["search_peak_bytes"] > 0
    assert [point["n"] for point in document["points"]] == [1, 1]
    best = max(p["metrics"]["validation_accuracy"]["mean"] for p in document["points"])
    assert document["best"]["metrics"]["validation_accuracy"]["mean"] == best


@pytest.mark.slow
def test_mlflow_holds_a_run_a_trial_with_its_phases_as_children(undisturbed):
    client, runs = client_of(undisturbed), runs_of(undisturbed)
    trials = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(trials) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    for trial in trials:
        assert {"prune.xi", "prune.source", "seed", "search.regularizer.name"} <= set(
            trial.data.params
        )
        assert {"validation_accuracy", "search_peak_bytes", "macs"} <= set(trial.data.metrics)
        assert trial.data.tags["zostudy.data"]
        names = {artifact.path for artifact in client.list_artifacts(trial.info.run_id)}
        assert names >= {
            "genotype.json", "genotype.png", "mask.json", "settings.json", "environment.json",
            "splits.json",
        }  # fmt: skip
        children = [
            run for run in runs if run.data.tags.get("mlflow.parentRunId") == trial.info.run_id
        ]
        assert sorted(child.info.run_name for child in children) == ["evaluate", "prune", "search"]
        search = next(child for child in children if child.info.run_name == "search")
        steps = [m.step for m in client.get_metric_history(search.info.run_id, "train_loss")]
        assert steps == [1, 2, 3, 4]
        artifacts = {artifact.path for artifact in client.list_artifacts(search.info.run_id)}
        assert artifacts >= {"genotype.json", "alpha_history.json", "alpha.png"}


@pytest.mark.slow
def test_run_again_when_complete_says_so_and_changes_nothing(undisturbed):
    before = results(undisturbed)
    again = zostudy(undisturbed, "run", "study.yaml")
    assert "is complete; nothing to run" in again.err
    assert results(undisturbed) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_killed_in_the_middle_of_a_search_ends_bit_for_bit_the_same(
    undisturbed, tmp_path, number
):
    write(tmp_path, sweep=SWEEP)
    process = subprocess.Popen(
        line("run", "study.yaml", "--skip-check"),
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoints = tmp_path / ".zostudy" / "checkpoints" / "search"
    wait_for(lambda: process.poll() is not None or list(checkpoints.glob("*.pt")))
    assert process.poll() is None
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert "run the same command to continue" in errors
    run(tmp_path)
    assert essence(results(tmp_path)) == essence(results(undisturbed))
    runs = runs_of(tmp_path)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 8


@pytest.mark.slow
def test_a_finished_phase_is_not_computed_again_for_another_study(undisturbed, tmp_path):
    write(
        tmp_path,
        study="other",
        storage={"folder": str(undisturbed / ".zostudy")},
        sweep={"seeds": [1]},
    )
    assert "search 1/4" not in run(tmp_path).err
    hits = [
        one.data.tags["zostudy.cache_from"]
        for one in runs_of(tmp_path, experiment="other")
        if one.data.tags.get("zostudy.cache_hit") == "True"
    ]
    assert len(hits) == 3


HALVING = """
from zostudy.registry import regularizer

@regularizer("halving")
def halving(alpha, mask, epoch, epochs):
    return (alpha.masked_fill(~mask, 0) ** 2).mean() / 2
"""


@pytest.mark.slow
def test_a_sweep_over_levels_and_regularizers_computes_one_pruning_a_seed(tmp_path):
    (tmp_path / "terms.py").write_text(HALVING)
    small = {"cells": 1, "channels": 1}
    write(
        tmp_path,
        extensions=["terms"],
        search_space={"name": "nasbench201"},
        supernet=small,
        prune={"source": "zero_shot", "images": 8, "batch_size": 8, "repeats": 1},
        search={"epochs": 2, "warmup_epochs": 1, "batch_size": 256},
        evaluate=small | {"epochs": 1, "batch_size": 256, "auxiliary_weight": 0.0},
        sweep={
            "parameters": {
                "search.regularizer.name": ["none", "halving"],
                "prune.xi": [0.7, 0.3, 0.5],
            },
            "seeds": [0, 1],
        },
    )
    run(tmp_path)
    runs = runs_of(tmp_path, "tags.`zostudy.phase` = 'prune'")
    computed = [r.info.run_id for r in runs if r.data.tags["zostudy.cache_hit"] == "False"]
    found = [r for r in runs if r.data.tags["zostudy.cache_hit"] == "True"]
    assert (len(computed), len(found)) == (2, 10)
    assert {r.data.tags["zostudy.cache_from"] for r in found} == set(computed)


@pytest.mark.slow
def test_the_best_trial_is_exported_and_reproduces_its_test_accuracy(undisturbed, tmp_path):
    zostudy(undisturbed, "export", "study.yaml", "--output", tmp_path / "bundle")
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names >= {
        "genotype.json", "genotype.png", "weights.safetensors", "model.pt2",
        "preprocessing.json", "labels.json", "README.md", "predict.py", "report.json",
    }  # fmt: skip
    code = """
import json, sys, torch
from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import load
dataset = load(DatasetSettings())
model = torch.export.load(sys.argv[1] + "/model.pt2").module()
probabilities = model(dataset.test.images)
print(100 * float((probabilities.argmax(1) == dataset.test.labels).double().mean()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle")],
        env=environment(), capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    document = results(undisturbed)
    best = next(t for t in document["trials"] if t["number"] == document["best"]["number"])
    assert float(done.stdout) == pytest.approx(best["metrics"]["test_accuracy"], abs=0.3)
    again = zostudy(undisturbed, "export", "study.yaml", "--output", tmp_path / "bundle", code=2)
    assert "bundle" in again.err


@pytest.mark.slow
def test_a_given_genotype_is_trained_as_the_trial_that_found_it_was(undisturbed, tmp_path):
    trial = results(undisturbed)["trials"][0]
    (tmp_path / "genotype.json").write_text(json.dumps(trial["genotype"]))
    write(tmp_path)
    done = zostudy(
        tmp_path, "evaluate", "study.yaml", "genotype.json", "--seed", trial["seed"], "--json"
    )
    metrics = json.loads(done.out)["metrics"]
    for name in ("test_accuracy", "validation_accuracy", "parameters", "macs"):
        assert metrics[name] == trial["metrics"][name]


@pytest.mark.slow
def test_measured_and_predicted_memory_are_logged_with_their_ratio(undisturbed):
    for trial in results(undisturbed)["trials"]:
        for phase in ("search", "evaluate"):
            predicted = trial["metrics"][f"{phase}_predicted_bytes"]
            ratio = trial["metrics"][f"{phase}_predicted_ratio"]
            assert ratio == trial["metrics"][f"{phase}_peak_bytes"] / predicted
            assert ratio == pytest.approx(1, abs=0.01)
    runs = runs_of(undisturbed)
    logged = [run.data.metrics for run in runs if run.info.run_name in ("search", "evaluate")]
    assert len(logged) == 4
    assert all(m["predicted_ratio"] == pytest.approx(1, abs=0.01) for m in logged)
