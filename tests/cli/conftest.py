from pathlib import Path

import pytest
import yaml

from tests.cli import stand_in
from tests.commands import Done, here
from tests.study.machine import faulty
from zostudy.study.machine import check


@pytest.fixture
def zostudy(tmp_path, monkeypatch):
    """Runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "_INSTRUCTIONS", ())  # nothing is tried that takes its time

    def command(*arguments: object) -> Done:
        return here(tmp_path, *arguments)

    return command


@pytest.fixture
def no_engine(monkeypatch):
    """Trials take no time; see `tests/cli/stand_in.py`."""
    stand_in.put(monkeypatch)


@pytest.fixture
def study(tmp_path) -> Path:
    """A study of two points and two seeds."""
    path = tmp_path / "small.yaml"
    path.write_text(stand_in.STUDY)
    return path


@pytest.fixture
def told(tmp_path):
    """Writes a small study, `study.yaml`, whose one operation is the one of that name."""

    def write(operation: str) -> Path:
        (tmp_path / "as_told").write_text(operation)
        network = {"cells": 1, "channels": 4}
        document = {
            "study": "s",
            "extensions": [faulty.__name__],
            "search_space": {"name": "faulty"},
            "supernet": network,
            "prune": {"source": "none"},
            "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 512},
            "evaluate": network | {"epochs": 1, "auxiliary_weight": 0.0, "batch_size": 512},
            "runtime": {"threads": 1, "device": "cpu"},
            "sweep": {"seeds": [0, 1, 2, 3, 4]},
        }
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
        return tmp_path / "study.yaml"

    return write
