"""Metrics are declared once: what that list promises to those who read it."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zostudy
from tests.study.trial.tiny import TINY
from zostudy import metrics
from zostudy.metrics import METRICS
from zostudy.study import points

PACKAGE = Path(zostudy.__file__).parent

#: A metric that zostudy does not have: how many operations follow one another at most.
DECLARED = """
    Metric(
        "depth",
        "count",
        "depth",
        "The largest number of operations that follow one another in a cell.",
        "genotype",
        better="smaller",
        objective=True,
        constraint=True,
        compared=True,
    ),
"""
COMPUTED = '        "depth": max(len(nodes) for nodes in genotype.cells.values()),\n'


def quoted(name: str) -> set[str]:
    """The files of the package that write a name as a string of its own."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.Constant) and node.value == name for node in ast.walk(tree)):
            found.add(str(path.relative_to(PACKAGE)))
    return found


def test_a_metric_of_a_genotype_stands_where_it_is_declared_and_where_it_is_computed():
    assert quoted("macs") - {"units.py"} == {"metrics.py", "evaluation/cost.py"}  # a unit too


@pytest.mark.slow
def test_a_new_metric_of_a_genotype_touches_two_files_and_is_everywhere(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "zostudy", ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in (
        ("metrics.py", "_DECLARED = (\n", "_DECLARED = (" + DECLARED),
        ("evaluation/cost.py", "    return {\n", "    return {\n" + COMPUTED),
    ):
        place = tmp_path / "zostudy" / file
        source = place.read_text(encoding="utf-8")
        assert source.count(before) == 1
        place.write_text(source.replace(before, after), encoding="utf-8")
    sweep = {
        "objectives": [{"metric": "depth", "direction": "minimize"}],
        "constraints": {"depth": {"at_most": 4}},
    }
    study = tmp_path / "study.yaml"
    once = {"cells": 1, "channels": 1, "epochs": 1, "batch_size": 256, "auxiliary_weight": 0.0}
    small = {
        "supernet": {"cells": 1, "channels": 1},
        "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 256},
        "evaluate": once,
    }
    study.write_text(yaml.safe_dump(TINY | small | {"sweep": sweep}), encoding="utf-8")

    def run(*arguments: str) -> str:
        code = "from zostudy.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert " depth " in run("run", "study.yaml", "--skip-check")  # a column of the table
    document = json.loads(run("results", "study.yaml", "--json"))
    assert [trial["metrics"]["depth"] for trial in document["trials"]] == [4]
    assert document["best"]["metrics"]["depth"]["mean"] == 4
    schema = json.loads(run("schema"))
    assert "depth" in schema["$defs"]["ObjectiveSettings"]["properties"]["metric"]["enum"]


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_says_what_it_is_in_a_sentence(metric):
    assert metric.meaning.endswith(".")
    assert metric.meaning[0].isupper()
    assert metric.title
    assert "_" not in metric.title
    assert metric.unit != "bytes" or "MB" in metric.title
    assert metric.unit != "percent" or "%" in metric.title
    assert not metric.constraint or metric.objective
    assert metric.better != "neither" or not metric.objective


def test_what_is_stored_in_bytes_and_seconds_is_readable_in_mb_and_minutes():
    stored = {"search_peak_bytes": 3 * 2**20, "search_seconds": 90.0, "test_accuracy": 91.0}
    assert metrics.readable(stored) == stored | {"search_peak_MB": 3.0, "search_minutes": 1.5}


def test_a_trial_is_named_by_what_distinguishes_it():
    values = {"prune.xi": 0.25, "prune.source": "zero_shot", "search.regularizer.name": "none"}
    assert points.label(values, 0) == "xi=0.25 zero_shot none · seed 0"
    assert points.label({}, 3) == "seed 3"
