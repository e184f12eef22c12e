"""Whole studies through the command line, small: the engine, the stores and MLflow, all real."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from tests.patience import PATIENCE, wait_for

TINY = {
    "study": "tiny",
    "supernet": {
        "cells": 2,
        "channels": 2,
        "partial_channels": 2,
        "edge_normalization": True,
    },
    "prune": {"source": "random", "xi": 0.5, "operations_per_round": 3},
    "search": {"epochs": 4, "warmup_epochs": 1, "batch_size": 128},
    "evaluate": {
        "cells": 2,
        "channels": 2,
        "epochs": 3,
        "batch_size": 128,
        "drop_path": 0.1,
        "augment": {"crop_padding": 1},
    },
    "runtime": {"threads": 1, "device": "cpu"},
}

#: What must be the same however often a study was stopped; times are not.
SAME = ("validation_accuracy", "test_accuracy", "search_peak_bytes", "parameters", "macs")


def write(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def command(*arguments):
    return [sys.executable, "-c", "from zostudy.cli import main; main()", *map(str, arguments)]


def zostudy(folder, *arguments, code=0):
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def results(folder):
    return json.loads(zostudy(folder, "results", "study.yaml", "--json").stdout)


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
    zostudy(folder, "run", "study.yaml")
    return folder


SWEEP = {"parameters": {"prune.xi": [0.25, 0.5]}, "seeds": [1]}


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
    client = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
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
    assert "is complete; nothing to run" in again.stderr
    assert results(undisturbed) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_killed_in_the_middle_of_a_search_ends_bit_for_bit_the_same(
    undisturbed, tmp_path, number
):
    write(tmp_path, sweep=SWEEP)
    process = subprocess.Popen(
        command("run", "study.yaml"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    checkpoints = tmp_path / ".zostudy" / "checkpoints" / "search"
    wait_for(lambda: process.poll() is not None or list(checkpoints.glob("*.pt")))
    assert process.poll() is None
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert "run the same command to continue" in errors
    zostudy(tmp_path, "run", "study.yaml")
    assert essence(results(tmp_path)) == essence(results(undisturbed))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 8


@pytest.mark.slow
def test_a_finished_phase_is_not_computed_again_for_another_study(undisturbed, tmp_path):
    changed = write(
        tmp_path,
        study="other",
        storage={"folder": str(undisturbed / ".zostudy")},
        sweep={"seeds": [1]},
    )
    done = zostudy(tmp_path, "run", changed)
    assert "search 1/4" not in done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("other")
    hits = [
        run.data.tags["zostudy.cache_from"]
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags.get("zostudy.cache_hit") == "True"
    ]
    assert len(hits) == 3


@pytest.mark.slow
def test_what_is_above_a_constraint_is_not_run_or_not_evaluated(tmp_path):
    sweep = {"parameters": {"prune.xi": [0.3, 1.0]}, "seeds": [1]}
    path = write(tmp_path, sweep=sweep)
    plan = json.loads(zostudy(tmp_path, "plan", path, "--json").stdout)["configurations"]
    small, large = (c["phases"]["search"]["peak_bytes"] for c in plan)
    limits = {"search_peak_bytes": {"at_most": (small + large) // 2}, "macs": {"at_most": 1000}}
    write(tmp_path, sweep=sweep | {"constraints": limits})
    done = zostudy(tmp_path, "run", path)
    assert "prune.xi=1.0: is not run; sweep.constraints: search_peak_bytes is " in done.stderr
    searched, unsearched = results(tmp_path)["trials"]
    assert (searched["state"], unsearched["state"]) == ("excluded", "excluded")
    assert re.search(r"sweep\.constraints: macs is [\d,]+, above 1,000", searched["reason"])
    assert searched["metrics"]["search_peak_bytes"] > 0
    assert unsearched["metrics"] == {"search_peak_bytes": large}
    assert "excluded" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["prune", "search", "xi=0.3 · seed 1"]
    (trial,) = [run for run in runs if run.info.run_name == "xi=0.3 · seed 1"]
    assert trial.data.tags["zostudy.state"] == "excluded"
    assert "complete; nothing to run" in zostudy(tmp_path, "run", path).stderr


@pytest.mark.slow
def test_a_poor_trial_is_stopped_in_its_evaluation_and_its_run_says_so(tmp_path):
    sweep = {
        "parameters": {"evaluate.weights.learning_rate": [0.1, 0.05, 1e-9]},
        "early_stopping": {"name": "median", "startup_trials": 2},
    }
    path = write(tmp_path, sweep=sweep)
    done = zostudy(tmp_path, "run", path)
    *good, poor = results(tmp_path)["trials"]
    assert [trial["state"] for trial in good] == ["complete", "complete"]
    assert poor["state"] == "stopped"
    assert re.search(r"early_stopping \(median\): validation accuracy .* of 3 ep", poor["reason"])
    assert poor["metrics"]["search_peak_bytes"] > 0
    assert "stopped" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], "tags.`zostudy.state` = 'stopped'")
    assert [run.info.run_name for run in runs] == ["learning_rate=1e-09 · seed 0"]
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.tags["zostudy.reason"] == poor["reason"]
    assert "complete; nothing to run" in zostudy(tmp_path, "run", path).stderr


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
        supernet=small,
        prune={"source": "zero_shot", "images": 8, "batch_size": 8, "repeats": 1},
        search={"epochs": 2, "warmup_epochs": 1, "batch_size": 256},
        evaluate=small | {"epochs": 1, "batch_size": 256, "auxiliary_weight": 0.0},
        sweep={
            "parameters": {
                "search.regularizer.name": ["none", "beta_decay", "halving"],
                "prune.xi": [0.7, 0.3, 0.5, 0.9],
            },
            "seeds": [0, 1],
        },
    )
    zostudy(tmp_path, "run", "study.yaml")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], "tags.`zostudy.phase` = 'prune'")
    computed = [r.info.run_id for r in runs if r.data.tags["zostudy.cache_hit"] == "False"]
    found = [r for r in runs if r.data.tags["zostudy.cache_hit"] == "True"]
    assert (len(computed), len(found)) == (2, 22)
    assert {r.data.tags["zostudy.cache_from"] for r in found} == set(computed)


@pytest.mark.slow
def test_a_trial_that_fails_leaves_the_others_alone_and_shows_in_the_exit_code(tmp_path):
    sweep = {"parameters": {"search.weights.weight_decay": [1000, 0]}}  # 1000: weights explode
    search = TINY["search"] | {"weights": {"learning_rate": 1}}
    write(tmp_path, sweep=sweep, search=search)
    done = zostudy(tmp_path, "run", "study.yaml", code=1)
    states = {
        trial["params"]["search.weights.weight_decay"]: trial
        for trial in results(tmp_path)["trials"]
    }
    assert states[0]["state"] == "complete"
    assert states[1000]["state"] == "failed"
    assert "the loss is" in states[1000]["reason"]
    assert "NumericalError" not in done.stdout or "the loss is" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    failed = client.search_runs([experiment.experiment_id], "attributes.status = 'FAILED'")
    assert any("the loss is" in run.data.tags["zostudy.reason"] for run in failed)


@pytest.mark.slow
def test_the_best_trial_is_exported_and_reproduces_its_test_accuracy(undisturbed, tmp_path):
    zostudy(undisturbed, "export", "study.yaml", "--output", tmp_path / "bundle")
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert names >= {
        "genotype.json", "genotype.png", "weights.safetensors", "model.pt2",
        "preprocessing.json", "labels.json", "README.md",
    }  # fmt: skip
    code = """
import json, sys, torch
from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import load
dataset = load(DatasetSettings())
model = torch.export.load(sys.argv[1] + "/model.pt2").module()
logits = model(dataset.test.images.float() / 255)
print(100 * float((logits.argmax(1) == dataset.test.labels).double().mean()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle")],
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    document = results(undisturbed)
    best = next(t for t in document["trials"] if t["number"] == document["best"]["number"])
    assert float(done.stdout) == pytest.approx(best["metrics"]["test_accuracy"], abs=0.3)
    again = zostudy(undisturbed, "export", "study.yaml", "--output", tmp_path / "bundle", code=2)
    assert "bundle" in again.stderr


@pytest.mark.slow
def test_a_given_genotype_is_trained_as_the_trial_that_found_it_was(undisturbed, tmp_path):
    trial = results(undisturbed)["trials"][0]
    (tmp_path / "genotype.json").write_text(json.dumps(trial["genotype"]))
    write(tmp_path)
    done = zostudy(
        tmp_path, "evaluate", "study.yaml", "genotype.json", "--seed", trial["seed"], "--json"
    )
    metrics = json.loads(done.stdout)["metrics"]
    for name in ("test_accuracy", "validation_accuracy", "parameters", "macs"):
        assert metrics[name] == trial["metrics"][name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"search_space": "dart", "cells": {}}', "did you mean 'darts'"),
        ("Genotype(normal=[('skip', 0)])", "genotype.normal: 1"),
        ("{", "line 1"),
    ],
)
def test_a_genotype_file_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path, text, message):
    (tmp_path / "genotype.json").write_text(text)
    write(tmp_path)
    done = zostudy(tmp_path, "evaluate", "study.yaml", "genotype.json", code=2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"name": "image_folder", "root": "nowhere"}}, "nowhere"),
        ({"prune": {"source": "file", "path": "mask.json"}}, "prune.path: 'mask.json'"),
        ({"prune": {"source": "zero_shot", "images": 5000}}, "prune.images: 5000"),
        ({"prune": {"source": "random", "xi": 1.5}}, "prune.xi: 1.5"),
        ({"runtime": {"device": "cuda:63"}}, "runtime.device"),
    ],
)
def test_bad_input_is_one_line_before_any_compute_and_leaves_nothing(tmp_path, changes, message):
    write(tmp_path, **changes)
    done = zostudy(tmp_path, "run", "study.yaml", code=2)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert [path.name for path in Path(tmp_path).iterdir()] == ["study.yaml"]


OUT_OF_MEMORY = """
import json, resource, sys
from zostudy.config.loading import load
from zostudy.study.delivery import delivery
from zostudy.study.sweep import standings, worker
from zostudy.study.trial.trial import Trials
from pathlib import Path

file = load(Path("study.yaml"))
trials = Trials(file, lambda progress: None)

def execute(point, seed, number):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    if point.config.supernet.channels == 192:  # its first tensor alone is larger
        limit = pages * resource.getpagesize() + 2**31
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return trials(point, seed, number)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

trials.check(list(standings.standing(file).points))
print(worker.run(file, execute, lambda notice: None).failures)
delivery.for_study(file.config).once()
"""


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_fails_alone_and_says_what_it_asked_for(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(64):
        path = tmp_path / "pictures" / f"class-{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (256, 256), dtype=np.uint8)).save(path)
    write(
        tmp_path,
        dataset={"name": "image_folder", "root": "pictures"},
        runtime={"threads": 1, "memory_budget": "1TiB"},
        supernet={"cells": 1},
        search={"epochs": 1, "warmup_epochs": 0, "batch_size": 16},
        evaluate={
            "cells": 1,
            "channels": 2,
            "epochs": 1,
            "batch_size": 16,
            "auxiliary_weight": 0.0,
        },
        sweep={"parameters": {"supernet.channels": [192, 2]}},
    )
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = {t["params"]["supernet.channels"]: t for t in results(tmp_path)["trials"]}
    assert states[2]["state"] == "complete"
    assert states[192]["state"] == "failed"
    assert re.search(
        r"search: out of memory: [\d.]+ GiB more were asked for; the prediction of the phase is ",
        states[192]["reason"],
    )
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], "tags.`zostudy.out_of_memory` = 'True'")
    assert [run.info.run_name for run in runs] == ["search"]
    assert runs[0].data.metrics["out_of_memory_asked_bytes"] > 2**30
    assert runs[0].data.metrics["predicted_bytes"] > 2**32


@pytest.mark.slow
def test_measured_and_predicted_memory_are_logged_with_their_ratio(undisturbed):
    for trial in results(undisturbed)["trials"]:
        for phase in ("search", "evaluate"):
            predicted = trial["metrics"][f"{phase}_predicted_bytes"]
            ratio = trial["metrics"][f"{phase}_predicted_ratio"]
            assert ratio == trial["metrics"][f"{phase}_peak_bytes"] / predicted
            assert ratio == pytest.approx(1, abs=0.01)
    client = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    logged = [run.data.metrics for run in runs if run.info.run_name in ("search", "evaluate")]
    assert len(logged) == 4
    assert all(m["predicted_ratio"] == pytest.approx(1, abs=0.01) for m in logged)


@pytest.mark.slow
def test_a_mask_that_turns_out_too_large_fails_its_trial_before_the_search(tmp_path):
    write(
        tmp_path,
        prune={"source": "zero_shot", "xi": 0.95, "images": 8, "batch_size": 4},
        search={"epochs": 2, "warmup_epochs": 1, "batch_size": 512},
        evaluate={"cells": 1, "channels": 2, "epochs": 1, "auxiliary_weight": 0.0},
        runtime={"threads": 1, "device": "cpu", "memory_budget": "8MiB"},
    )
    done = zostudy(tmp_path, "run", "study.yaml", code=1)
    assert "may be above the memory budget of 8.0 MB" in done.stderr
    (trial,) = results(tmp_path)["trials"]
    assert "more than runtime.memory_budget allows (8.0 MB)" in trial["reason"]
    assert not list((tmp_path / ".zostudy" / "cache").glob("search/*"))
