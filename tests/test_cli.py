import json
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from zostudy import cli
from zostudy.cli.app import Terminated
from zostudy.config.loading import load
from zostudy.errors import DataError, NumericalError, ZostudyError
from zostudy.registry import components
from zostudy.study.planning.plan import Plan, Planner
from zostudy.study.points import Point, TrialOutcome

STUDY = """
study: small
supernet: {cells: 1, channels: 2}
search: {epochs: 2, warmup_epochs: 1}
evaluate: {cells: 1, channels: 2, epochs: 2, auxiliary_weight: 0.0}
prune: {source: random}
sweep:
  parameters:
    prune.xi: [0.25, 0.5]
  seeds: [0, 1]
"""
CELL = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
GENOTYPE = {"search_space": "darts", "cells": {"normal": CELL, "reduction": CELL}}


class Trials:
    """Stands for the engine: trials that take no time."""

    error: BaseException | None = None
    bad_data: ZostudyError | None = None
    planned = False

    def __init__(self, file, report, device="study"):
        self.file = file
        self.report = report
        self.device = device
        self.known = {}

    def open_tracker(self) -> None:
        pass

    def check(self, points: list[Point]) -> None:
        assert points
        if self.bad_data:
            raise self.bad_data

    def plan(self, points: list[Point]) -> Plan:
        return Planner.of(self.file).plan(points) if self.planned else Plan()

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        xi = point.config.prune.options["xi"]
        if self.error is not None and xi == 0.5 and seed == 1:
            raise self.error
        return TrialOutcome({"validation_accuracy": 90 + xi + seed}, GENOTYPE, f"run-{number}")


class TrialProcesses:
    """Runs them where it is called."""

    def __init__(self, file, report, device, _stop, _known, _machine):
        self.trials = Trials(file, report, device)

    def __call__(self, point: Point, seed: int, number: int) -> TrialOutcome:
        return self.trials(point, seed, number)


def export_trial(_file, trial, output: Path, _report) -> list[Path]:
    output.mkdir()
    (output / "genotype.json").write_text(json.dumps(trial))
    return [output / "genotype.json"]


@pytest.fixture
def zostudy(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    engine = types.SimpleNamespace(Trials=Trials)
    monkeypatch.setitem(sys.modules, "zostudy.study.trial.trial", engine)
    exporting = types.SimpleNamespace(export_trial=export_trial)
    monkeypatch.setitem(sys.modules, "zostudy.study.bundle.trial_export", exporting)
    monkeypatch.setattr("zostudy.study.workers.pool.TrialProcesses", TrialProcesses)
    monkeypatch.setattr("zostudy.study.workers.trial_process.start_server", lambda: None)
    monkeypatch.setattr("zostudy.study.machine.gate.require", lambda *_: "passed")
    monkeypatch.setattr(Trials, "error", None)
    monkeypatch.setattr(Trials, "bad_data", None)
    before = signal.getsignal(signal.SIGTERM)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zostudy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


# -- checking and writing study files ------------------------------------------------------------


def test_a_valid_study_is_said_to_be_valid(zostudy, study):
    code, out, err = zostudy("validate", study)
    assert (code, err) == (0, "")
    assert out.endswith("small.yaml: valid; study 'small', 4 trials\n")
    code, out, _ = zostudy("validate", study, "--json", "--set", "sweep.seeds=[3]")
    assert json.loads(out) == {
        "study": "small",
        "valid": True,
        "points": 2,
        "seeds": [3],
        "trials": 2,
    }


@pytest.mark.parametrize("command", ["validate", "plan", "run", "results"])
def test_mistakes_are_lines_on_stderr_with_exit_code_2_and_nothing_is_written(
    zostudy, study, command, tmp_path
):
    study.write_text(STUDY.replace("epochs: 2, w", "epoch: 3, epochs: 2, w") + "serach: {}\n")
    code, out, err = zostudy(command, study)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: search.epoch: unknown key; did you mean 'epochs'?",
        "error: serach: unknown key; did you mean 'search'?",
    ]
    assert list(tmp_path.iterdir()) == [study]


def test_a_wrong_combination_of_the_sweep_is_found_before_running(zostudy, study, tmp_path):
    parameters = "{search.epochs: [40, 20], search.warmup_epochs: [2, 30]}"
    for command in ("validate", "run"):
        code, _, err = zostudy(
            command, study, "--set", f"sweep.parameters={parameters}", "--set", "prune.xi=0.5"
        )
        assert code == 2
        assert "(at the point search.epochs=20 search.warmup_epochs=30)" in err
    assert list(tmp_path.iterdir()) == [study]


@pytest.mark.parametrize("dataset", list(components("dataset")))
def test_a_new_study_is_valid_whatever_its_data_set(zostudy, dataset, tmp_path):
    code, out, _ = zostudy("new", "my-study", "--dataset", dataset)
    assert (code, out) == (0, "wrote my-study.yaml; next: zostudy run my-study.yaml\n")
    config = load(tmp_path / "my-study.yaml").config
    assert (config.study, config.dataset.name) == ("my-study", dataset)
    assert zostudy("validate", "my-study.yaml")[0] == 0


def test_a_new_study_overwrites_nothing(zostudy, study):
    code, _, err = zostudy("new", study)
    assert code == 2
    assert "small.yaml: is there already; choose another name" in err
    assert study.read_text() == STUDY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "../.."], "error: study: '..' is not allowed"),
        (["new", "nosuch/folder/name"], "cannot be written (No such file or directory)"),
        (["new", "x", "--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
    ],
)
def test_a_new_study_with_a_wrong_name_is_refused(zostudy, arguments, message, tmp_path):
    code, _, err = zostudy(*arguments)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_the_schema_is_json(zostudy):
    code, out, _ = zostudy("schema")
    assert code == 0
    assert "properties" in json.loads(out)


# -- running -------------------------------------------------------------------------------------


def test_a_run_ends_with_table_best_genotype_runs_and_next_commands(zostudy, study):
    code, out, err = zostudy("run", study)
    assert code == 0
    assert "91.00 ± 0.71" in out
    assert "n0 = sep_conv_3x3(c-2)" in out
    assert "MLflow: experiment 'small' in sqlite:///mlflow.db" in out
    assert f"zostudy export {study} --output small-export" in out
    assert "4 trials, 0 complete, 4 to run" in err
    assert "[4/4] complete, validation accuracy 91.50 %" in err


def test_the_next_commands_repeat_the_overrides(zostudy, study):
    _, out, _ = zostudy("run", study, "--set", "sweep.seeds=[4, 5]")
    assert f"zostudy export {study} '--set=sweep.seeds=[4, 5]' --output small-export" in out
    assert f"zostudy ui {study}\n" in out


def test_a_complete_study_says_so_and_nothing_changes(zostudy, study, tmp_path):
    zostudy("run", study)
    first = zostudy("results", study, "--json")
    database = (tmp_path / "optuna.db").read_bytes()
    code, out, err = zostudy("run", study)
    assert code == 0
    assert err == "study 'small' is complete; nothing to run\n"
    assert "91.00 ± 0.71" in out
    assert zostudy("results", study, "--json") == first
    assert (tmp_path / "optuna.db").read_bytes() == database


def test_results_are_one_json_document(zostudy, study):
    code, _, err = zostudy("run", study)
    assert code == 0, err
    code, out, err = zostudy("results", study, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert set(found) == {"study", "trials", "points", "best", "pareto"}
    assert [t["number"] for t in found["trials"]] == [0, 1, 2, 3]
    assert found["best"]["params"] == {"prune.xi": 0.5}
    assert found["best"]["mlflow_run_id"] == "run-3"


def test_results_and_plan_of_nothing_write_nothing(zostudy, study, tmp_path):
    assert "nothing was run yet" in zostudy("results", study)[1]
    assert "4 trials, 0 complete, 4 to run" in zostudy("plan", study)[1]
    assert list(tmp_path.iterdir()) == [study]


def test_a_plan_has_what_is_missing(zostudy, study, monkeypatch):
    monkeypatch.setattr(Trials, "error", NumericalError("loss is nan"))
    zostudy("run", study)
    plan = json.loads(zostudy("plan", study, "--json")[1])
    configurations = plan.pop("configurations")
    (data,) = plan.pop("datasets")
    assert (data["name"], data["pictures"], data["classes"]) == ("digits", 1797, 10)
    assert (data["ignored"], data["remarks"]) == ({}, [])
    assert [c["params"] for c in configurations] == [{"prune.xi": 0.25}, {"prune.xi": 0.5}]
    assert plan == {
        "study": "small",
        "seeds": [0, 1],
        "points": [
            {"params": {"prune.xi": 0.25}, "coinciding": 0, "missing_seeds": []},
            {"params": {"prune.xi": 0.5}, "coinciding": 0, "missing_seeds": [1]},
        ],
        "points_to_sample": 0,
        "trials_to_run": 0,
        "trials_failed": 1,
    }


def test_a_plan_has_the_memory_and_the_steps_of_every_phase(zostudy, study):
    code, out, err = zostudy("plan", study, "--json")
    assert (code, err) == (0, "")
    quarter, half = (c["phases"] for c in json.loads(out)["configurations"])
    assert list(half) == ["search", "evaluate"]
    assert 0 < quarter["search"]["peak_bytes"] < half["search"]["peak_bytes"]
    assert half["search"]["exact"]
    assert half["search"]["steps"] == 2 * 3  # 575 pictures, 256 in a batch
    assert not half["evaluate"]["exact"]
    code, out, _ = zostudy("plan", study)
    assert code == 0
    assert "≈" in out


def test_a_budget_says_what_fits_and_what_would(zostudy, study):
    study.write_text(STUDY.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))
    whole = json.loads(zostudy("plan", study, "--json")[1])["configurations"][0]["phases"]
    budget = f"{whole['search']['peak_bytes'] - 1}B"
    found = json.loads(zostudy("plan", study, "--json", "--budget", budget)[1])
    advice = found["configurations"][0]["advice"][0]
    assert not found["configurations"][0]["phases"]["search"]["fits"]
    assert advice["changes"]["search.batch_size"] == 128
    assert 0 < advice["changes"]["prune.xi"] < 0.5
    assert advice["changes"]["search.recompute"] in ("partial", "full")
    _, out, _ = zostudy("plan", study, "--budget", budget)
    assert "search is above the memory budget" in out
    assert "fits with search.batch_size=128 or prune.xi=" in out
    assert (
        "nothing fits; search.batch_size=2 with search.recompute=full still needs"
        in (zostudy("plan", study, "--budget", "1KiB")[1])
    )


def test_a_budget_that_is_no_size_is_refused(zostudy, study):
    code, _, err = zostudy("plan", study, "--budget", "8 gigs")
    assert code == 2
    assert err.startswith("error: runtime.memory_budget: '8 gigs' is no size; allowed: device, or")


def test_a_run_refuses_what_cannot_fit_and_leaves_nothing(zostudy, study, monkeypatch, tmp_path):
    monkeypatch.setattr(Trials, "planned", True)
    study.write_text(STUDY.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))
    code, out, err = zostudy("run", study, "--set", "runtime.memory_budget=64KiB")
    assert (code, out) == (2, "")
    assert "predicted peak memory" in err
    last = err.splitlines()[-1]
    assert last.startswith("error: runtime.memory_budget: 0.1 MB is less than the ")
    assert "search" in last
    assert list(tmp_path.iterdir()) == [study]


def test_a_run_that_may_not_fit_is_only_warned(zostudy, study, monkeypatch):
    monkeypatch.setattr(Trials, "planned", True)
    settings = ["--set", "evaluate.channels=64", "--set", "runtime.memory_budget=40MiB"]
    code, _, err = zostudy("run", study, *settings)
    assert code == 0
    assert "evaluate may be above the memory budget of 40.0 MB; evaluate fits with" in err


def test_a_fitted_batch_is_the_largest_power_of_two(zostudy, study):
    study.write_text(STUDY.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))

    def fitted(*settings):
        arguments = ["--set", "search.batch_size=fit", *settings]
        found = json.loads(zostudy("plan", study, "--json", *arguments)[1])
        return [c["phases"]["search"]["steps"] // 2 for c in found["configurations"]]

    assert fitted() == [2]  # 512 of 575 pictures
    assert fitted("--set", "runtime.memory_budget=4MiB")[0] > 2
    code, _, err = zostudy(
        "plan", study, "--set", "search.batch_size=fit", "--set", "runtime.memory_budget=1KiB"
    )
    assert code == 2
    assert "search.batch_size: 'fit': nothing fits runtime.memory_budget (0.0 MB); a batch" in err


def test_a_batch_larger_than_the_data_is_refused(zostudy, study):
    code, _, err = zostudy("plan", study, "--set", "search.batch_size=600")
    assert code == 2
    assert err == (
        "error: search.batch_size: 600 is more than the 576 pictures that train the weights of the "
        "supernet; allowed: 2 to 575\n"
    )


def test_a_failed_trial_is_shown_and_makes_the_exit_code_1(zostudy, study, monkeypatch):
    monkeypatch.setattr(Trials, "error", NumericalError("loss is nan"))
    code, out, err = zostudy("run", study)
    assert code == 1
    assert "trial 3 failed (prune.xi=0.5, seed 1): loss is nan" in out
    assert err.endswith("1 trial failed; run --retry-failed tries it again\n")
    monkeypatch.setattr(Trials, "error", None)
    code, out, err = zostudy("run", study)
    assert (code, err) == (1, "1 trial failed; run --retry-failed tries it again\n")
    assert "3 complete, 1 failed, 0 to run" in zostudy("plan", study)[1]
    code, out, err = zostudy("run", study, "--retry-failed")
    assert code == 0
    assert "3 complete, 1 to run" in err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_a_stopped_run_says_how_to_go_on(zostudy, study, monkeypatch, error, code):
    monkeypatch.setattr(Trials, "error", error)
    ended, out, err = zostudy("run", study)
    assert (ended, out) == (code, "")
    assert err.endswith("stopped; run the same command to continue\n")
    monkeypatch.setattr(Trials, "error", None)
    assert "3 complete, 1 to run" in zostudy("run", study)[2]


def test_bad_data_is_an_error_before_anything_is_written(zostudy, study, monkeypatch, tmp_path):
    monkeypatch.setattr(Trials, "bad_data", DataError("dataset.root: 'x' has one class"))
    code, _, err = zostudy("run", study)
    assert code == 2
    assert err.splitlines()[-1] == "error: dataset.root: 'x' has one class"
    assert list(tmp_path.iterdir()) == [study]


def test_several_workers_share_a_run(zostudy, study):
    code, _, err = zostudy("run", study, "--workers", "3", "--set", "sweep.seeds=[0, 1, 2, 3]")
    assert code == 0
    assert err.count("complete, validation accuracy") == 8
    found = json.loads(zostudy("results", study, "--json", "--set", "sweep.seeds=[0, 1, 2, 3]")[1])
    assert [trial["number"] for trial in found["trials"]] == list(range(8))
    assert [point["n"] for point in found["points"]] == [4, 4]


def test_a_worker_joins_a_study_in_the_storage_that_it_is_given(zostudy, study, tmp_path):
    url = f"sqlite:///{tmp_path}/joined.db"
    code, out, err = zostudy("worker", study, "--storage", url, "--device", "cpu")
    assert (code, out) == (0, "")
    assert "[4/4] complete" in err
    found = zostudy("results", study, "--json", "--set", f"storage.optuna={url}")[1]
    assert len(json.loads(found)["trials"]) == 4


def test_a_sampled_study_is_checked_at_its_first_values(zostudy, study):
    sweep = "{sampler: {name: tpe}, trials: 2, parameters: {prune.xi: {low: 0.1, high: 0.9}}}"
    assert zostudy("run", study, "--set", f"sweep={sweep}")[0] == 0


# -- export --------------------------------------------------------------------------------------


def test_the_best_trial_or_a_chosen_one_is_exported(zostudy, study, tmp_path):
    zostudy("run", study)
    code, out, _ = zostudy("export", study, "--output", "best")
    assert (code, out) == (0, "best/genotype.json\n")
    assert json.loads((tmp_path / "best" / "genotype.json").read_text())["number"] == 3
    zostudy("export", study, "--output", "other", "--trial", "0")
    assert json.loads((tmp_path / "other" / "genotype.json").read_text())["number"] == 0


def test_nothing_is_exported_where_there_is_no_such_trial(zostudy, study, tmp_path):
    code, _, err = zostudy("export", study, "--output", "out")
    assert code == 2
    assert "study 'small': no best trial" in err
    zostudy("run", study)
    code, _, err = zostudy("export", study, "--output", "out", "--trial", "9")
    assert code == 2
    assert "--trial: 9 is no complete trial; complete: 0, 1, 2, 3" in err
    assert not (tmp_path / "out").exists()


# -- as a process --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], ["torch", "mlflow", "optuna", "numpy", "pydantic"]),
        (["run", "--help"], ["torch", "mlflow", "optuna", "numpy"]),
        (["validate", "small.yaml"], ["torch", "mlflow", "optuna", "numpy"]),
        (["schema"], ["torch", "mlflow", "optuna", "numpy"]),
        (["new", "other"], ["torch", "mlflow", "optuna", "numpy"]),
        (["results", "small.yaml"], ["torch", "mlflow"]),
        (["plan", "small.yaml"], ["mlflow"]),
    ],
)
@pytest.mark.usefixtures("study")
def test_a_command_imports_only_what_it_uses(arguments, heavy, tmp_path):
    code = textwrap.dedent(f"""
        import sys
        sys.argv = ["zostudy", *{arguments!r}]
        from zostudy.cli import main
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, ended.code
        print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
