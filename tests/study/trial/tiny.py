"""Whole studies through the command line, small: the engine, the stores and MLflow, all real."""

import json
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.commands import Done, here

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

SWEEP = {"parameters": {"prune.xi": [0.25, 0.5]}, "seeds": [1]}


def write(folder: Path, **changes) -> Path:
    """A study file with these settings in the place of those above."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def zostudy(folder: Path, *arguments: object, code: int = 0) -> Done:
    """Run a command, which has to end with that exit code."""
    done = here(folder, *arguments)
    assert done.code == code, done.err
    return done


def run(folder: Path, code: int = 0) -> Done:
    """Run the study; that the machine computes rightly is for other tests to ask."""
    return zostudy(folder, "run", "study.yaml", "--skip-check", code=code)


def results(folder: Path) -> dict:
    return json.loads(zostudy(folder, "results", "study.yaml", "--json").out)


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def runs_of(folder: Path, condition: str = "", experiment: str = "tiny") -> list[Run]:
    """MLflow's runs of the study, those of phases too."""
    client = client_of(folder)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], condition))
