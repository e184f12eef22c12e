"""A study whose pictures change, through the command line: nothing is faked."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

STUDY = {
    "study": "pic",
    "dataset": {"name": "image_folder", "root": "pictures", "resize": 8},
    "supernet": {"cells": 1, "channels": 2},
    "prune": {"source": "random", "xi": 0.3},
    "search": {
        "epochs": 1,
        "warmup_epochs": 0,
        "batch_size": 4,
        "augment": {"crop_padding": 1, "flip": False},
    },
    "evaluate": {
        "cells": 1,
        "channels": 2,
        "epochs": 1,
        "batch_size": 4,
        "drop_path": 0.0,
        "auxiliary_weight": 0.0,
        "augment": {"crop_padding": 1, "flip": False},
    },
    "runtime": {"device": "cpu", "threads": 1},
    "sweep": {
        "seeds": [0],
        "objectives": [{"metric": "validation_accuracy", "direction": "maximize"}],
    },
}


def pictures(folder, count, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for index in range(count):
        pixels = draw.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{index}.png")


def zostudy(folder, *arguments, code=0):
    command = [sys.executable, "-c", "from zostudy.cli import main; main()", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def card(folder):
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {cell[0]: cell[1] for cell in cells if len(cell) == 2}


@pytest.mark.slow
def test_no_figure_stands_on_a_card_that_was_not_measured_on_that_network_and_data(tmp_path):
    pictures(tmp_path / "pictures" / "cat", 8)
    pictures(tmp_path / "pictures" / "dog", 8, seed=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    zostudy(tmp_path, "run", "study.yaml")
    (trial,) = json.loads(zostudy(tmp_path, "results", "study.yaml", "--json").stdout)["trials"]
    zostudy(tmp_path, "export", "study.yaml", "--output", "out")
    cached = card(tmp_path / "out")
    assert cached["weights"] == "of the trial"
    assert cached["data"] == trial["made_of"]["data"]
    assert float(cached["test_accuracy"]) == pytest.approx(trial["metrics"]["test_accuracy"])
    assert "search_seconds" in cached

    shutil.rmtree(tmp_path / ".zostudy" / "cache" / "evaluate")
    zostudy(tmp_path, "export", "study.yaml", "--output", "again")
    again = card(tmp_path / "again")
    assert again["weights"] == "trained again for this bundle"
    assert again["test_accuracy"] == cached["test_accuracy"]  # the same data, seed and engine
    assert "search_seconds" not in again

    pictures(tmp_path / "pictures" / "dog", 3, seed=2)
    number = str(trial["number"])
    refused = zostudy(
        tmp_path, "export", "study.yaml", "--trial", number, "--output", "other", code=2
    )
    assert refused.stderr.startswith("error: --trial: trial 0 is kept apart")
    assert trial["made_of"]["data"][:10] in refused.stderr
    assert not (tmp_path / "other").exists()
    for command in (["plan"], ["results"], ["doctor"]):
        assert "trial 0 is kept apart" in zostudy(tmp_path, *command, "study.yaml").stdout
