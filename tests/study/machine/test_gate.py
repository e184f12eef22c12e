from pathlib import Path

import pytest

from tests.study.machine import faulty
from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.machine import check, gate
from zostudy.study.workers import trial_process


def study(operation: str, **changes):
    """A small study whose one operation is told by a file beside it."""
    Path("as_told").write_text(operation)
    return from_document(
        {
            "study": "s",
            "extensions": [faulty.__name__],
            "search_space": {"name": "faulty"},
            "supernet": {"cells": 1, "channels": 4},
            "evaluate": {"cells": 1, "channels": 4, "auxiliary_weight": 0.0},
            "runtime": {"threads": 1, "device": "cpu"},
        }
        | changes
    )


def required(file, said):
    return gate.require(trial_process.start_server(), file, ["study", "study"], said.append)


def test_a_machine_is_checked_once_for_all_that_chooses_its_kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    assert required(study("right"), said) == check.PASSED
    assert len(said) == 1
    assert len(list(Path(".zostudy/machine").iterdir())) == 1
    assert required(study("right"), said) == check.PASSED
    assert len(said) == 1
    for changed in (
        {"runtime": {"threads": 2, "device": "cpu"}},
        {"runtime": {"threads": 1, "device": "cpu", "precision": "bf16"}},
        {"supernet": {"cells": 1, "channels": 6}},
    ):
        assert not passed(study("right", **changed))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert not passed(study("right"))


def passed(file) -> bool:
    cases = gate.shapes.of_study(file)
    return gate.Passed(file.folder).known(cases, gate.setting(file))


def test_a_study_with_an_operation_that_lies_is_refused_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "_INSTRUCTIONS", ())
    message = r"machine: operation as_told of the supernet \(4 channels.*off by 1 %.*--skip-check"
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        required(study("lies"), [])
    assert not Path(".zostudy").exists()
