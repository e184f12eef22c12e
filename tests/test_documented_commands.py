"""Every command of the documentation runs, in small form.

Commands of zostudy run as they are written, in a folder whose study files are those of the
documentation and of studies/, made small. Other programs are listed with what stands for them.
"""

import json
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from tests import tables
from tests.commands import Done, here
from tests.documentation import ROOT, blocks, commands
from zostudy import cli
from zostudy.config.document import Document, parse
from zostudy.metrics import METRICS
from zostudy.space.nasbench201 import nasbench201

#: What makes a command small, or lets it do without servers.
SMALLER = {
    "postgresql+psycopg://zostudy@HOST/optuna": "sqlite:///joined.db",
    "http://HOST:5000": "sqlite:///joined-mlflow.db",
    "search.epochs=20": "search.epochs=3",
    "evaluate.epochs=40": "evaluate.epochs=2",
    "--seeds 20": "--seeds 2",
    "--seeds 5": "--seeds 2",
    "--workers 4": "--workers 2",
    "--on slurm": "--on slurm --dry-run --set storage.optuna=postgresql+psycopg://me@db/optuna "
    "--set tracking.uri=http://db:5000",  # as no cluster is here
    "--trial 3": "--trial 1",
    "cat.png dog.png": "pictures/a/0.png pictures/b/0.png",
    "dataset.resize=32": "dataset.resize=8",
    "dataset.resize=16": "dataset.resize=8",
    "supernet.channels=8": "supernet.channels=2",
    "prune.images=128": "prune.images=8 --set prune.batch_size=8",
    "prune.repeats=32": "prune.repeats=1",
    "--filter prune.source=random": "--filter prune.source=zero_shot",
    "--rows 128": "--rows 30 --model gaussian_process",
    "--column predicted_accuracy": "--column predicted_accuracy --model gaussian_process "
    "--output darts.json",
    "--predictor predictor.json --samples 100000": "--predictor darts.json --samples 200",
}

#: Commands that are not zostudy's, and the test that runs them or what stands for them.
OTHERS = {
    "make": "test_the_target_of_make_exists",
    "python": "test_the_benchmark_starts",
    "source": "",  # the shell's own
    "pip": "",  # what it installs is no part of zostudy
    "pre-commit": "",
    "curl": "tests/study/bundle/test_serving.py::"
    "test_a_picture_gets_the_labels_and_probabilities_of_the_network",
    "createdb": "tests/test_distributed.py::"
    "test_optuna_and_mlflow_have_a_database_each_that_is_made",
    "mlflow": "tests/test_distributed.py::test_mlflow_is_started_as_it_takes_it",
    "docker": "tests/test_distributed.py::test_workers_are_started_as_the_command_line_takes_it",
    "torchrun": "tests/study/trial/test_collective.py::"
    "test_evaluate_under_torchrun_is_one_run_of_mlflow_and_found_when_it_is_asked_again",
}

COMMANDS = commands()
OURS = [command for command in COMMANDS if command.startswith("zostudy ")]


def arguments(command: str) -> list[str]:
    """What follows the program's name; where the output goes is left out."""
    given = shlex.split(command)[1:]
    return given[: given.index(">")] if ">" in given else given


# -- which commands there are --------------------------------------------------------------------


def test_no_program_of_the_documentation_is_unlisted():
    programs = {command.split()[0] for command in COMMANDS} - {"zostudy"}
    assert programs == set(OTHERS)


@pytest.mark.parametrize("test", sorted(filter(None, OTHERS.values())))
def test_what_stands_for_a_command_is_there(test):
    path, _, function = test.rpartition("::")
    text = (ROOT / path if path else Path(__file__)).read_text(encoding="utf-8")
    assert function in text


@pytest.mark.parametrize("command", OURS)
def test_the_command_line_takes_the_command(command):
    group, given = typer.main.get_command(cli.app), arguments(command)
    while hasattr(group, "commands"):
        group, given = group.commands[given[0]], given[1:]
    group.make_context(str(group.name), given)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_the_target_of_make_exists(command):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n{command.split()[1]}:" in text


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_the_benchmark_starts(command, monkeypatch, capsys):
    _, flag, module, *given = command.split()
    assert flag == "-m"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(module, run_name="__main__")
    text = capsys.readouterr().out
    assert all(option in text for option in ("--json", *given) if option.startswith("--"))


# -- running them --------------------------------------------------------------------------------


def small(document: Document) -> Document:
    """A study file with the smallest networks and two points at most of a grid."""
    found = dict(document)
    if found.get("dataset", {}).get("name") in (None, "digits"):
        found["dataset"] = {"name": "image_folder", "root": "pictures"}
    if "resize" in found["dataset"]:
        found["dataset"] = found["dataset"] | {"resize": 8}
    found["supernet"] = found.get("supernet", {}) | {"cells": 1, "channels": 4}
    small_search = {"epochs": 2, "warmup_epochs": 1, "batch_size": 8}
    found["search"] = found.get("search", {}) | small_search
    small_network = {"cells": 1, "channels": 2, "epochs": 1, "batch_size": 8}
    found["evaluate"] = found.get("evaluate", {}) | small_network | {"auxiliary_weight": 0.0}
    smaller = {"images": 6, "batch_size": 6, "repeats": 2}
    prune = found.get("prune", {})
    found["prune"] = prune | {name: value for name, value in smaller.items() if name in prune}
    sweep = dict(found.get("sweep", {}))
    swept = sweep.get("parameters", {})
    sweep["parameters"] = {  # two values of the first setting, one of each other
        path: values[: 1 if index else 2] for index, (path, values) in enumerate(swept.items())
    }
    found["sweep"] = sweep | {"seeds": [0]} | ({"trials": 2} if "trials" in sweep else {})
    found["runtime"] = found.get("runtime", {}) | {"threads": 1}
    return found


def draw(folder: Path, count: int) -> None:
    """Three classes of pictures of one colour each."""
    for index, name in enumerate(("a", "b", "c")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            colour = tuple(60 * index + 20 * (channel + 1) + number for channel in range(3))
            Image.new("RGB", (8, 8), colour).save(folder / name / f"{number}.png")


class Scene:
    """A folder with small studies and their pictures, in which commands run once each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._done: dict[str, Done] = {}
        self._checked = [["mine.yaml"]]  # the machine is checked in full here
        (folder / "studies").mkdir()
        for path in (ROOT / "studies").glob("*.yaml"):
            self._write(f"studies/{path.name}", parse(path.read_text(encoding="utf-8")))
        (text,) = blocks(ROOT / "README.md", "yaml")
        for name in ("mine", "study"):
            self._write(f"{name}.yaml", parse(text) | {"study": name})
        longer = parse((ROOT / "studies" / "ablation.yaml").read_text(encoding="utf-8"))
        self._write("longer.yaml", longer | {"study": "longer"})
        draw(folder / "pictures", 30)
        draw(folder / "data" / "cifar10_jpeg" / "train", 20)
        draw(folder / "data" / "cifar10_jpeg" / "test", 4)
        _, *rows = tables.made_up(nasbench201())
        header = ["ArchitectureString", "CIFAR10TestAccuracy200Epochs", "validation"]
        tables.write(folder / "data" / "nasbench201.csv", [header, *rows])
        device = [["ArchitectureString", "edgegpu_latency"], *([row[0], "2.5"] for row in rows)]
        tables.write(folder / "data" / "nasbench201_hwnasbench_cifar10.csv", device)
        tables.write(folder / "others.csv", [header, *rows[:5]])
        tables.write(folder / "data" / "darts_nb301_predicted.csv", tables.darts(60))
        runs = [
            ["x", method, str(run), str(90 + gain + run)]
            for method, gain in (("DARTS", 1), ("Random DARTS", 0))
            for run in range(3)
        ]
        tables.write(folder / "results.csv", [["dataset", "method", "run", "accuracy"], *runs])
        cell = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
        genotype = {"search_space": "darts", "cells": {"normal": cell, "reduction": cell}}
        (folder / "genotype.json").write_text(json.dumps(genotype))

    def _write(self, name: str, document: Document) -> None:
        text = yaml.safe_dump(small(document), sort_keys=False)
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, command: str) -> Done:
        """A command that is run once, whoever asks for it.

        Raises:
            AssertionError: It ended with an error.
        """
        if command not in self._done:
            given = arguments(command)
            if given[0] == "run" and given[1:] not in self._checked:
                given += ["--skip-check"]  # of the machine, for each of a study's variants
            folder = self.folder / "new" if given[0] == "new" else self.folder
            folder.mkdir(exist_ok=True)
            done = here(folder, *given)
            assert not done.code, done.err
            self._done[command] = done
        return self._done[command]


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def run_study(export: str, scene: Scene) -> None:
    """Run the study whose trial a command exports or runs again."""
    study = arguments(export)[1]
    further = [a for a in shlex.split(export.partition("--set")[2]) if a != "--set"]
    scene.run(shlex.join(["zostudy", "run", study, *(f"--set={a}" for a in further)]))


def smaller(command: str) -> str:
    for text, less in SMALLER.items():
        command = command.replace(text, less)
    return command


def test_what_makes_commands_smaller_is_still_used():
    for text in SMALLER:
        assert any(text in command for command in OURS), text


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first of a study runs the study too
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", OURS)
def test_the_command_runs(command, scene, monkeypatch):
    text = smaller(command)
    name, *given = arguments(text)
    if name in ("export", "reproduce"):
        run_study(text, scene)
    if name == "compare":
        for study in given:
            scene.run(f"zostudy run {study}")
    if name == "predictor" and given[0] != "fit":
        scene.run(smaller(next(c for c in OURS if c.startswith("zostudy predictor fit"))))
    if name in ("predict", "latency", "serve"):  # of a bundle that another command writes
        export = smaller(next(c for c in OURS if f" --output {given[0]} " in c))
        run_study(export, scene)
        scene.run(export)
    monkeypatch.setattr("zostudy.study.delivery.ui.run_ui", lambda *_: 0)
    monkeypatch.setattr("zostudy.study.bundle.serving.Server.serve_forever", lambda _: None)
    done = scene.run(text)
    assert done.out or done.err


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("study", ["ablation", "nasbench201_ablation"])
def test_every_metric_of_a_trial_is_in_the_reference(study, scene):
    path = f"studies/{study}.yaml"
    scene.run(next(smaller(c) for c in OURS if c.startswith(f"zostudy run {path}")))
    found = json.loads(scene.run(f"zostudy results {path} --json").out)
    names = {name for trial in found["trials"] for name in trial["metrics"]}
    assert len(names) > 5
    assert names <= set(METRICS)
