from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from benchmarks import quick
from zostudy.study.tracking.runs import MACHINE


def tags() -> list[str | None]:
    """How the machine stood, of every trial's run."""
    client = MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    trials = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return [run.data.tags.get(MACHINE) for run in trials]


def test_a_trials_run_says_whether_the_machine_had_passed_or_nobody_had_asked(zostudy, tmp_path):
    for number, (options, tag) in enumerate([([], "passed"), (["--skip-check"], "skipped")]):
        document = quick.study("s", prune={"source": "quick", "number": number})
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
        code, _, err = zostudy("run", "study.yaml", *options)
        assert code == 0, err
        assert sorted(tags()) == ["passed", "skipped"][: number + 1]
        assert tag in tags()


def test_a_study_is_refused_where_the_machine_lies_and_nothing_is_written(zostudy, told):
    told("lies")
    before = sorted(path.name for path in Path().iterdir())
    code, _, err = zostudy("run", "study.yaml")
    assert code == 2
    assert "error: machine: operation as_told of the supernet (4 channels, 8×8 pixels" in err
    assert "--skip-check runs the study regardless" in err
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_that_can_only_crash_ends_early_until_it_is_tried_again(zostudy, told, workers):
    told("aborts")
    command = ("run", "study.yaml", "--skip-check", "--workers", str(workers))
    code, _, err = zostudy(*command)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("stopped: ")]
    assert "have crashed alike in phase 'search': its process crashed (SIGABRT: Aborted)" in line
    assert "doctor --machine" in line
    again = zostudy(*command)
    assert again[0] == 1
    assert line in again[2].splitlines()
    told("right")
    code, _, err = zostudy(*command, "--retry-failed")
    assert code == 0, err
