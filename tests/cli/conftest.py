import signal
import sys
from pathlib import Path

import pytest
import yaml

from tests.study.machine import faulty
from zostudy import cli
from zostudy.study.machine import check


@pytest.fixture
def zostudy(tmp_path, monkeypatch, capsys):
    """Runs a command as it is in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(check, "_INSTRUCTIONS", ())  # nothing is tried that takes its time
    before = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zostudy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    yield command
    signal.signal(signal.SIGTERM, before)


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
