"""Zero-shot pruning in a whole study: what of its scores reaches the table and MLflow."""

import json
from pathlib import Path

import pytest

from tests.study.trial.tiny import client_of, results, run, runs_of, write

PRUNE = {
    "source": "zero_shot",
    "xi": 0.7,
    "operations_per_round": 3,
    "images": 16,
    "batch_size": 16,
}
SHORT = {
    "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 256},
    "evaluate": {"cells": 1, "channels": 2, "epochs": 1, "auxiliary_weight": 0.0},
}


@pytest.mark.slow
def test_how_far_scores_can_be_trusted_is_in_the_table_and_in_mlflow(tmp_path):
    write(tmp_path, prune=PRUNE | {"repeats": 3}, **SHORT)
    done = run(tmp_path)
    assert "the two halves of the repeats agree" in done.out
    metrics = results(tmp_path)["trials"][0]["metrics"]
    assert metrics["prune_repeats"] == 3
    assert -1 <= metrics["prune_reliability"] <= 1
    assert 0 <= metrics["prune_pruned_again"] <= 1
    client, runs = client_of(tmp_path), runs_of(tmp_path, "tags.`zostudy.phase` = 'prune'")
    assert runs[0].data.metrics.keys() >= {"reliability", "pruned_again", "repeats"}
    artifacts = {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert {"scores.png", "trajectory.json", "mask.png"} <= artifacts
    path = client.download_artifacts(runs[0].info.run_id, "trajectory.json", str(tmp_path))
    first = json.loads(Path(path).read_text())["rounds"][0]
    assert len(first["errors"]) == len(first["scores"]) == 224
