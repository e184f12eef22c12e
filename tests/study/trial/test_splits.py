"""A whole study in which every seed has a split of its own."""

import json

import pytest
from mlflow.artifacts import load_dict

from tests.study.trial.tiny import results, run, runs_of, write, zostudy

SMALL = {
    "supernet": {"cells": 1, "channels": 2},
    "prune": {"source": "random", "xi": 0.5},
    "search": {"strategy": "random"},
    "evaluate": {
        "cells": 1,
        "channels": 2,
        "epochs": 1,
        "batch_size": 512,
        "drop_path": 0.0,
        "auxiliary_weight": 0.0,
        "augment": {"crop_padding": 1},
    },
    "sweep": {"parameters": {"prune.xi": [0.25, 0.5]}, "seeds": [1, 2]},
}


def splits_of(folder):
    """For each trial, by point and seed, the positions of its parts."""
    return {
        (found.data.params["prune.xi"], found.data.params["seed"]): load_dict(
            f"{found.info.artifact_uri}/splits.json"
        )
        for found in runs_of(folder)
        if "zostudy.trial" in found.data.tags
    }


@pytest.mark.slow
def test_points_share_the_split_of_a_seed_and_seeds_the_test_part(tmp_path):
    write(tmp_path, **SMALL, dataset={"splits": "by_seed"})
    run(tmp_path)
    found = splits_of(tmp_path)
    assert len(found) == 4
    for seed in ("1", "2"):
        assert found["0.25", seed] == found["0.5", seed]
    one, other = found["0.25", "1"], found["0.25", "2"]
    assert one["test"] == other["test"]
    assert one["validation"] != other["validation"]
    assert one["train"] != other["train"]

    document = results(tmp_path)
    assert len({trial["made_of"]["data"] for trial in document["trials"]}) == 1
    assert "nothing to run" in run(tmp_path).err

    same = zostudy(tmp_path, "reproduce", "study.yaml", "--trial", 1, "--json").out
    assert json.loads(same)["identical"]
    zostudy(tmp_path, "export", "study.yaml", "--trial", 1, "--output", "bundle")
    assert "weights | of the trial" in (tmp_path / "bundle" / "README.md").read_text()

    write(tmp_path, **SMALL)  # the split that all share: other trials
    assert results(tmp_path)["trials"] == []
