"""A study whose pictures change, through the command line: nothing is faked."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.servers import free_port
from tests.commands import process
from tests.patience import PATIENCE
from tests.study.trial.tiny import zostudy

STUDY = {
    "study": "pic",
    "dataset": {"name": "image_folder", "root": "pictures", "resize": 8},
    "search_space": {"name": "nasbench201"},
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


@pytest.fixture
def folder(tmp_path):
    """The folder of a study of one trial that has been run."""
    pictures(tmp_path / "pictures" / "cat", 8)
    pictures(tmp_path / "pictures" / "dog", 8, seed=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    zostudy(tmp_path, "run", "study.yaml", "--skip-check")
    return tmp_path


def card(folder):
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {cell[0]: cell[1] for cell in cells if len(cell) == 2}


@pytest.mark.slow
def test_no_figure_stands_on_a_card_that_was_not_measured_on_that_network_and_data(folder):
    (trial,) = json.loads(zostudy(folder, "results", "study.yaml", "--json").out)["trials"]
    zostudy(folder, "export", "study.yaml", "--output", "out")
    cached = card(folder / "out")
    assert cached["weights"] == "of the trial"
    assert cached["data"] == trial["made_of"]["data"]
    assert float(cached["test_accuracy"]) == pytest.approx(trial["metrics"]["test_accuracy"])
    assert "search_seconds" in cached

    shutil.rmtree(folder / ".zostudy" / "cache" / "evaluate")
    zostudy(folder, "export", "study.yaml", "--output", "again")
    again = card(folder / "again")
    assert again["weights"] == "trained again for this bundle"
    assert again["test_accuracy"] == cached["test_accuracy"]  # the same data, seed and engine
    assert "search_seconds" not in again

    pictures(folder / "pictures" / "dog", 3, seed=2)
    number = str(trial["number"])
    refused = zostudy(
        folder, "export", "study.yaml", "--trial", number, "--output", "other", code=2
    )
    assert refused.err.startswith("error: --trial: trial 0 is kept apart")
    assert trial["made_of"]["data"][:10] in refused.err
    assert not (folder / "other").exists()
    for command in (["plan"], ["results"], ["doctor"]):
        assert "trial 0 is kept apart" in zostudy(folder, *command, "study.yaml").out


@contextlib.contextmanager
def served(folder, model):
    """The address of `mlflow models serve`, once it answers."""
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    command = ["-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    here = str(Path(sys.executable).parent)
    with (folder / "served.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--host", host, "--port", port],
            cwd=folder,
            env={**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/ping", timeout=5).close()
                break
            text = (folder / "served.log").read_text()
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.mark.slow
def test_mlflow_serves_a_registered_bundle_and_answers_with_its_labels(folder):
    (folder / "uv.lock").write_text("version = 1")  # files of a project of the user's
    (folder / "pyproject.toml").write_text("[project]")
    # In a process of its own: what native code and children write counts too.
    done = process(folder, "export", "study.yaml", "--output", "out", "--register", "pic.net")
    assert done.code == 0, done.err
    assert done.err.endswith("registered: models:/pic.net/1, alias champion\n")
    assert "Warning" not in done.err
    given = [f"pictures/cat/0-{index}.png" for index in range(4)]
    told = json.loads(zostudy(folder, "predict", "out", *given, "--json").out)
    batch = [np.asarray(Image.open(folder / path)).transpose(2, 0, 1).tolist() for path in given]
    with served(folder, "models:/pic.net@champion") as address:
        request = urllib.request.Request(
            f"{address}/invocations",
            json.dumps({"inputs": batch}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            found = json.load(answer)["predictions"]
    assert [list(row) for row in found] == [["cat", "dog"]] * 4
    assert [max(row, key=row.get) for row in found] == [row["label"] for row in told["pictures"]]
    wanted = [row["probabilities"] for row in told["pictures"]]
    np.testing.assert_allclose([list(row.values()) for row in found], wanted, atol=1e-6)
    (place,) = (folder / "mlruns").glob("*/models/*/artifacts")
    names = {path.name for path in place.rglob("*") if path.is_file()}
    assert "MLmodel" in names
    assert not names & {"uv.lock", "pyproject.toml"}
    for path in place.rglob("*"):
        assert not path.is_file() or path.suffix not in (".pkl", ".pickle")
        assert not path.is_file() or path.read_bytes()[:1] != b"\x80"  # how a pickle begins
