"""A whole study whose evaluation is by table, on a search space of 27 architectures."""

import json

import pytest
import yaml
from mlflow import MlflowClient

from tests.commands import here as zostudy
from tests.tables import SPACE, made_up, settings
from tests.tables import write as write_table
from zostudy.evaluation.table import read
from zostudy.space.genotype import parse

SPACE_MODULE = """
from tests.tables import SPACE
from zostudy.registry import search_space
from zostudy.space.search_space import SearchSpace


@search_space("tiny")
def tiny() -> SearchSpace:
    return SPACE
"""
STUDY = {
    "study": "tabled",
    "extensions": ["tabled_space"],
    "search_space": {"name": "tiny"},
    "supernet": {"cells": 1, "channels": 2},
    "prune": {"source": "random", "xi": 0.6},
    "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 256},
    "evaluate": {
        "by": "table",
        "path": "made_up.csv",
        "column": "test",
        "cells": 1,
        "channels": 2,
        "epochs": 1,
        "batch_size": 256,
        "auxiliary_weight": 0.0,
    },
    "sweep": {"seeds": [0, 1], "objectives": []},
    "runtime": {"threads": 1, "device": "cpu"},
}


def prepared(folder):
    (folder / "tabled_space.py").write_text(SPACE_MODULE)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    write_table(folder / "made_up.csv", made_up())
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run, and what it printed."""
    folder = prepared(tmp_path_factory.mktemp("finished"))
    code, out, err = zostudy(folder, "run", "study.yaml")
    assert code == 0, err
    return folder, out


@pytest.fixture
def folder(tmp_path):
    return prepared(tmp_path)


@pytest.mark.slow
def test_every_trial_has_its_place_in_the_table(finished):
    folder, _ = finished
    document = json.loads(zostudy(folder, "results", "study.yaml", "--json")[1])
    table = read(settings(folder / "made_up.csv"), SPACE)
    for trial in document["trials"]:
        metrics = trial["metrics"]
        own = next(g for g in table.rows if g.to_dict() == trial["genotype"])
        found = table(own)
        for name in ("test_accuracy", "regret", "rank", "percentile"):
            assert metrics[name] == getattr(found, name)
        assert metrics["parameters"] > 0
        assert metrics["macs"] > 0
        assert metrics.keys().isdisjoint(("validation_accuracy", "evaluate_peak_bytes"))
    assert document["best"] is None
    assert document["random_choice"]["architectures"] == 27
    assert 0 <= document["points"][0]["by_chance"] <= 1


@pytest.mark.slow
def test_random_choice_stands_below_the_points(finished):
    _, out = finished
    assert "random choice: any of 27 architectures, equally likely" in out
    assert "zostudy run study.yaml --set=evaluate.by=training" in out


@pytest.mark.slow
def test_random_genotypes_are_looked_up_as_trials_of_the_study(tmp_path):
    folder, more = prepared(tmp_path), ("--set", "sweep.random_baseline=3")
    code, out, err = zostudy(folder, "run", "study.yaml", *more)
    assert code == 0, err
    assert "1 point, 2 seeds each, and 3 random genotypes: 5 trials" in " ".join(err.split())
    assert "Beside 3 random genotypes of the same space and masks" in out
    found = json.loads(zostudy(folder, "results", "study.yaml", "--json", *more)[1])
    random = found["random_baseline"]
    assert [trial["seed"] for trial in random["trials"]] == [0, 1, 0]
    assert {trial["state"] for trial in (*found["trials"], *random["trials"])} == {"complete"}
    assert found["points"][0]["n"] == 2
    gain = random["gain"]["test_accuracy"]
    searched = {trial["seed"]: trial["metrics"]["test_accuracy"] for trial in found["trials"]}
    drawn = [trial["metrics"]["test_accuracy"] for trial in random["trials"]]
    expected = (searched[0] - (drawn[0] + drawn[2]) / 2 + searched[1] - drawn[1]) / 2
    assert gain["difference"] == pytest.approx(expected)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tabled").experiment_id
    every = client.search_runs([experiment])
    runs = [run for run in every if "zostudy.random_genotype" in run.data.tags]
    assert sorted(run.data.tags["zostudy.random_genotype"] for run in runs) == ["0", "0", "1"]
    assert {run.info.run_name for run in runs} == {
        "random genotype 0 · seed 0", "random genotype 0 · seed 1", "random genotype 1 · seed 0"
    }  # fmt: skip
    assert "nothing to run" in zostudy(folder, "run", "study.yaml", *more)[2]
    number = str(random["trials"][0]["number"])
    code, out, err = zostudy(folder, "reproduce", "study.yaml", "--trial", number, *more)
    assert (code, "identical" in out) == (0, True), out + err


@pytest.mark.slow
def test_a_search_under_limits_and_random_genotypes_beside_it_keep_to_them(tmp_path):
    folder, most = prepared(tmp_path), 1310
    search = {
        "strategy": "score",
        "evaluations": 4,
        "algorithm": {"name": "random"},
        "score": {"name": "proxies", "images": 8, "ranking": ["synflow"]},
    }
    sweep = {"seeds": [0], "objectives": [], "random_baseline": 2}

    def run(limit):
        limited = search | {"constraints": {"parameters": {"at_most": limit}}}
        study = STUDY | {"prune": {"source": "none"}, "search": limited, "sweep": sweep}
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        return zostudy(folder, "run", "study.yaml", "--skip-check")

    code, _, err = run(10)
    assert code == 2
    assert "search.constraints.parameters.at_most: 10 is below the least that an" in err
    code, _, err = run(most)
    assert code == 0, err
    found = json.loads(zostudy(folder, "results", "study.yaml", "--json")[1])
    trials = [*found["trials"], *found["random_baseline"]["trials"]]
    assert len(trials) == 3
    assert all(trial["metrics"]["parameters"] <= most for trial in trials)


def test_mlflow_has_regret_rank_and_percentile_on_the_trial_and_on_its_evaluation(finished):
    folder, _ = finished
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tabled")
    runs = client.search_runs([experiment.experiment_id])
    digest = read(settings(folder / "made_up.csv"), SPACE).digest
    trials = [run for run in runs if run.data.tags.get("zostudy.table") == digest]
    lookups = [run for run in runs if run.data.tags.get("zostudy.phase") == "evaluate"]
    assert (len(trials), len(lookups)) == (2, 2)
    for run in (*trials, *lookups):
        assert run.data.metrics.keys() >= {"test_accuracy", "regret", "rank", "percentile"}


@pytest.mark.slow
def test_export_says_that_nothing_was_trained_and_how_to(finished, tmp_path):
    folder, _ = finished
    code, _, err = zostudy(folder, "export", "study.yaml", "--trial", 0, "--output", tmp_path / "x")
    assert code == 2
    assert "trial 0 was evaluated by a table and nothing was trained; `zostudy run STUDY" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_same_file_trains_what_was_found(finished):
    folder, _ = finished
    arguments = ("study.yaml", "--set", "evaluate.by=training", "--set", "sweep.seeds=[0]")
    code, out, err = zostudy(folder, "run", *arguments)
    assert code == 0, err
    assert "random choice" not in out
    document = json.loads(zostudy(folder, "results", *arguments, "--json")[1])
    metrics = document["trials"][0]["metrics"]
    assert "validation_accuracy" in metrics
    assert "regret" not in metrics
    known = json.loads(zostudy(folder, "results", "study.yaml", "--json")[1])
    assert document["trials"][0]["genotype"] == known["trials"][0]["genotype"]


@pytest.mark.slow
def test_a_given_genotype_is_looked_up(finished):
    folder, _ = finished
    best = parse(made_up()[-1][0], SPACE)
    (folder / "best.json").write_text(best.to_json())
    code, out, err = zostudy(folder, "evaluate", "study.yaml", "best.json", "--json")
    assert code == 0, err
    metrics = json.loads(out)["metrics"]
    assert (metrics["test_accuracy"], metrics["regret"], metrics["rank"]) == (90.0, 0.0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[6].__setitem__(1, "250"), "made_up.csv:7: test '250' is not allowed"),
        (lambda rows: rows.pop(), "made_up.csv: a row is missing: holds 26 of the 27"),
        (lambda rows: rows[0].__setitem__(1, "accuracy"), "evaluate.column: 'made_up.csv' has no"),
    ],
)
def test_a_wrong_table_ends_the_run_before_anything_is_written(folder, change, message):
    rows = made_up()
    change(rows)
    write_table(folder / "made_up.csv", rows)
    before = sorted(folder.iterdir())
    code, _, err = zostudy(folder, "run", "study.yaml")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert [path for path in sorted(folder.iterdir()) if path not in before] in (
        [],
        [folder / "__pycache__"],
    )


def test_a_missing_table_is_told_with_where_to_get_one(folder):
    (folder / "made_up.csv").unlink()
    code, _, err = zostudy(folder, "run", "study.yaml")
    assert code == 2
    assert "error: evaluate.path: 'made_up.csv' cannot be read" in err
    assert "https://github.com/D-X-Y/NATS-Bench" in err


def test_what_a_table_cannot_tell_is_no_objective(folder):
    chosen = ("--set", "sweep.objectives=[{metric: validation_accuracy}]")
    code, _, err = zostudy(folder, "validate", "study.yaml", *chosen)
    assert code == 2
    assert "sweep.objectives: validation_accuracy needs evaluate.validation_column" in err
    named = ("--set", "evaluate.validation_column=validation")
    assert zostudy(folder, "validate", "study.yaml", *chosen, *named)[0] == 0
    costs = ("--set", "sweep.objectives=[{metric: evaluate_seconds, direction: minimize}]")
    assert "evaluate_seconds does not exist" in zostudy(folder, "validate", "study.yaml", *costs)[2]


def test_a_table_needs_its_path_and_column(folder):
    for name in ("path", "column", "architecture_column"):
        code, _, err = zostudy(folder, "validate", "study.yaml", "--set", f"evaluate.{name}=''")
        assert code == 2
        assert f"evaluate.{name}: is missing; evaluate.by 'table' needs it" in err


def test_the_source_of_accuracies_cannot_be_swept(folder):
    swept = ("--set", "sweep.parameters={evaluate.column: [test, validation]}")
    code, _, err = zostudy(folder, "validate", "study.yaml", *swept)
    assert code == 2
    assert "sweep.parameters.evaluate.column: accuracies from elsewhere cannot be compared" in err


def test_space_statistics_takes_the_settings_of_a_study_file(folder):
    arguments = ("--table", "made_up.csv", "--column", "test", "--seeds", 3, "--xi", 0.6)
    extended = ("--set", "extensions=[tabled_space]", "--output", "picture.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        code, out, err = zostudy(
            folder, "space-statistics", "--space", "tiny", *arguments, *extended, "--json"
        )
    assert code == 0, err
    document = json.loads(out)
    assert [seed["seed"] for seed in document["seeds"]] == [0, 1, 2]
    assert document["prune"] == {"source": "random", "xi": 0.6}
    assert (folder / "picture.png").stat().st_size > 5000
