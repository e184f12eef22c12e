"""Running a study and exporting of it, with trials that take no time."""

import json

import pytest

from tests.cli.stand_in import SMALLER, Trials
from zostudy.cli.app import Terminated
from zostudy.errors import DataError, NumericalError

pytestmark = pytest.mark.usefixtures("no_engine")


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


def test_a_run_refuses_what_cannot_fit_and_leaves_nothing(zostudy, study, monkeypatch, tmp_path):
    monkeypatch.setattr(Trials, "planned", True)
    study.write_text(SMALLER.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))
    code, out, err = zostudy("run", study, "--set", "runtime.memory_budget=64KiB")
    assert (code, out) == (2, "")
    assert "predicted peak memory" in err
    last = err.splitlines()[-1]
    assert last.startswith("error: runtime.memory_budget: 0.1 MB is less than the ")
    assert "search" in last
    assert list(tmp_path.iterdir()) == [study]


def test_a_run_that_may_not_fit_is_only_warned(zostudy, study, monkeypatch):
    monkeypatch.setattr(Trials, "planned", True)
    study.write_text(SMALLER)
    settings = ["--set", "evaluate.channels=64", "--set", "runtime.memory_budget=40MiB"]
    code, _, err = zostudy("run", study, *settings)
    assert code == 0
    assert "evaluate may be above the memory budget of 40.0 MB; evaluate fits with" in err


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


def test_the_best_trial_or_a_chosen_one_is_exported(zostudy, study, tmp_path):
    zostudy("run", study)
    code, out, _ = zostudy("export", study, "--output", "best")
    assert (code, out) == (0, "best/genotype.json\n")
    assert json.loads((tmp_path / "best" / "genotype.json").read_text())["number"] == 3
    zostudy("export", study, "--output", "other", "--trial", "0")
    assert json.loads((tmp_path / "other" / "genotype.json").read_text())["number"] == 0


def test_the_best_trial_that_meets_conditions_is_exported(zostudy, study, tmp_path):
    zostudy("run", study)
    given = ("export", study, "--output", "picked", "--pick", "validation_accuracy<91.2")
    assert zostudy(*given)[0] == 0  # of points with 90.75 and 91 on average
    assert json.loads((tmp_path / "picked" / "genotype.json").read_text())["number"] == 2
    code, out, err = zostudy("export", study, "--pick", "validation_accuracy>99")
    text = "--pick: no complete point has validation_accuracy>99; nearest: trials 2, 3 with"
    assert (code, out, err) == (2, "", f"error: {text} validation_accuracy 91 on average\n")
    code, _, err = zostudy("export", study, "--pick", "macs<1", "--trial", 1)
    assert (code, err) == (2, "error: --pick: is not allowed with --trial; allowed: one of them\n")


def test_nothing_is_exported_where_there_is_no_such_trial(zostudy, study, tmp_path):
    code, _, err = zostudy("export", study, "--output", "out")
    assert code == 2
    assert "study 'small': no best trial" in err
    zostudy("run", study)
    code, _, err = zostudy("export", study, "--output", "out", "--trial", "9")
    assert code == 2
    assert "--trial: 9 is no complete trial; complete: 0, 1, 2, 3" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--register", "a/b"], "--register: 'a/b' is no name of a model; allowed: "),
        (["--register", "m"], "--register: 'sqlite:///mlflow.db' does not hold the trial's run"),
        (
            ["--register", "m", "--set", "tracking.uri=http://127.0.0.1:9"],
            "tracking.uri: 'http://127.0.0.1:9' cannot be reached",
        ),
    ],
)
def test_what_cannot_be_registered_is_not_exported(zostudy, study, tmp_path, given, said):
    code, _, err = zostudy("export", study, "--output", "out", *given)
    assert (code, err.count("\n")) == (2, 1)
    assert "no best trial" in err
    zostudy("run", study)
    code, out, err = zostudy("export", study, "--output", "out", *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {said}")
    assert not (tmp_path / "out").exists()


def test_a_study_without_time_left_is_refused_and_one_whose_time_is_over_ends_well(zostudy, study):
    code, out, err = zostudy("run", study, "--set", "sweep.budget={until: 2020-01-01T08:00}")
    assert (code, out) == (2, "")
    assert err.startswith("error: sweep.budget.until: '2020-01-01T08:00' is past, it is ")
    assert err.count("\n") == 1
    zostudy("run", study)  # whose trials take up more time than there is below
    more = ("run", study, "--set", "sweep.seeds=[0, 7]", "--set")
    code, _, err = zostudy(*more, "sweep.budget.gpu_hours=1e-9")
    assert code == 0
    assert "stopped: the time of sweep.budget is over (1e-09 GPU-hours); left out: " in err
    code, _, err = zostudy(*more, "sweep.budget.gpu_hours=100")
    assert code == 0
    assert "stopped" not in err
