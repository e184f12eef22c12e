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
from tests.patience import PATIENCE

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
def test_mlflow_serves_a_registered_bundle_and_answers_with_its_labels(tmp_path):
    pictures(tmp_path / "pictures" / "cat", 8)
    pictures(tmp_path / "pictures" / "dog", 8, seed=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "uv.lock").write_text("version = 1")  # files of a project of the user's
    (tmp_path / "pyproject.toml").write_text("[project]")
    zostudy(tmp_path, "run", "study.yaml")
    done = zostudy(tmp_path, "export", "study.yaml", "--output", "out", "--register", "pic.net")
    assert done.stderr.endswith("registered: models:/pic.net/1, alias champion\n")
    assert "Warning" not in done.stderr
    given = [f"pictures/cat/0-{index}.png" for index in range(4)]
    told = json.loads(zostudy(tmp_path, "predict", "out", *given, "--json").stdout)
    batch = [np.asarray(Image.open(tmp_path / path)).transpose(2, 0, 1).tolist() for path in given]
    with served(tmp_path, "models:/pic.net@champion") as address:
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
    (place,) = (tmp_path / "mlruns").glob("*/models/*/artifacts")
    names = {path.name for path in place.rglob("*") if path.is_file()}
    assert "MLmodel" in names
    assert not names & {"uv.lock", "pyproject.toml"}
    for path in place.rglob("*"):
        assert not path.is_file() or path.suffix not in (".pkl", ".pickle")
        assert not path.is_file() or path.read_bytes()[:1] != b"\x80"  # how a pickle begins
