import json
import subprocess
import sys

import pytest

from zostudy.config.loading import StudyFile, from_document
from zostudy.study import points
from zostudy.study.points import Attempt, Ended, Failure, Standing, TrialOutcome
from zostudy.study.report import results

ACCURACY = {"metric": "validation_accuracy", "direction": "maximize"}
MEMORY = {"metric": "search_peak_bytes", "direction": "minimize"}


def study(seeds=(0, 1), objectives=(ACCURACY,), **sweep) -> StudyFile:
    return from_document(
        {
            "study": "s",
            "prune": {"source": "random"},
            "sweep": {
                "parameters": {"prune.xi": [0.25, 0.5]},
                "seeds": list(seeds),
                "objectives": list(objectives),
                **sweep,
            },
        }
    )


def outcome(accuracy: float, memory: float = 1.0) -> TrialOutcome:
    metrics = {"validation_accuracy": accuracy, "search_peak_bytes": memory}
    return TrialOutcome(metrics, {"found": accuracy}, f"run-{accuracy}")


def document(file: StudyFile, *outcomes: dict) -> dict:
    known = tuple(points.grid(file))
    seeds = file.config.sweep.seeds
    attempts = {
        point.key: Attempt(point, {s: n * len(seeds) + i for i, s in enumerate(seeds)}, found)
        for n, (point, found) in enumerate(zip(known, outcomes, strict=False))
    }
    return results.from_standing(file, Standing(known, attempts, seeds))


def test_a_study_that_was_never_run_has_an_empty_document(tmp_path):
    file = study()
    file.document["storage"] = {"optuna": f"sqlite:///{tmp_path}/optuna.db"}
    empty = results.document(from_document(file.document))
    assert empty == {"study": "s", "trials": [], "points": [], "pareto": [], "best": None}


def test_a_trial_has_its_number_params_seed_metrics_genotype_and_run():
    found = document(study(), {0: outcome(90.0), 1: outcome(92.0)}, {0: outcome(80.0)})
    assert [t["number"] for t in found["trials"]] == [0, 1, 2]
    assert found["trials"][1] == {
        "number": 1,
        "state": "complete",
        "params": {"prune.xi": 0.25},
        "seed": 1,
        "metrics": {"validation_accuracy": 92.0, "search_peak_bytes": 1.0},
        "genotype": {"found": 92.0},
        "mlflow_run_id": "run-92.0",
    }


def test_a_point_has_mean_and_sample_deviation_over_its_complete_seeds():
    found = document(study(), {0: outcome(90.0), 1: outcome(92.0)}, {0: outcome(80.0)})
    assert found["points"][0]["n"] == 2
    accuracy = found["points"][0]["metrics"]["validation_accuracy"]
    assert accuracy == {"mean": 91.0, "sd": pytest.approx(2**0.5)}
    assert found["points"][1]["metrics"]["validation_accuracy"] == {"mean": 80.0, "sd": None}


def test_a_failed_trial_has_its_reason_and_is_in_no_mean():
    found = document(study(), {0: outcome(90.0), 1: Failure("loss is nan")})
    failed = found["trials"][1]
    assert (failed["state"], failed["reason"], failed["metrics"]) == ("failed", "loss is nan", {})
    assert failed["genotype"] is None
    assert found["points"][0]["n"] == 1


def test_the_best_point_has_the_best_mean_and_names_its_best_trial():
    found = document(
        study(),
        {0: outcome(99.0), 1: outcome(50.0)},
        {0: outcome(80.0), 1: outcome(81.0)},
    )
    best = found["best"]
    assert best["params"] == {"prune.xi": 0.5}
    assert (best["number"], best["seed"], best["genotype"]) == (3, 1, {"found": 81.0})
    assert best["metrics"]["validation_accuracy"]["mean"] == 80.5


def test_a_point_with_a_missing_seed_is_not_the_best():
    found = document(study(), {0: outcome(99.0)}, {0: outcome(80.0), 1: outcome(81.0)})
    assert found["best"]["params"] == {"prune.xi": 0.5}
    assert document(study(), {0: outcome(99.0)})["best"] is None


def test_of_several_objectives_there_is_a_front_and_a_best_only_if_one_is_better_in_all():
    file = study(seeds=(0,), objectives=(MEMORY, ACCURACY))
    found = document(file, {0: outcome(99.0, memory=5.0)}, {0: outcome(80.0, memory=4.0)})
    assert [point["params"]["prune.xi"] for point in found["pareto"]] == [0.25, 0.5]
    assert [point["number"] for point in found["pareto"]] == [0, 1]
    assert found["best"] is None
    found = document(file, {0: outcome(99.0, memory=4.0)}, {0: outcome(80.0, memory=4.0)})
    assert [point["params"]["prune.xi"] for point in found["pareto"]] == [0.25]
    assert found["best"]["params"] == {"prune.xi": 0.25}


def test_what_ended_by_a_rule_is_listed_with_its_reason_and_compared_with_nothing():
    ended = Ended("excluded", "too large", "{}", {"search_peak_bytes": 9.0})
    found = document(study(seeds=(0,)), {0: ended}, {0: outcome(80.0)})
    trial = found["trials"][0]
    assert (trial["state"], trial["reason"]) == ("excluded", "too large")
    assert trial["metrics"] == {"search_peak_bytes": 9.0}
    assert found["points"][0]["n"] == 0
    assert found["best"]["params"] == {"prune.xi": 0.5}


def test_a_point_above_a_constraint_is_not_the_best():
    file = study(seeds=(0,), constraints={"search_peak_bytes": {"at_most": 2.0}})
    found = document(file, {0: outcome(99.0, memory=3.0)}, {0: outcome(80.0, memory=2.0)})
    assert found["best"]["params"] == {"prune.xi": 0.5}


def test_without_objectives_nothing_is_best():
    assert document(study(objectives=()), {0: outcome(1.0), 1: outcome(2.0)})["best"] is None


def test_results_are_read_without_torch_and_mlflow():
    code = (
        "import sys, zostudy.study.report.results, zostudy.study.report.console\n"
        "print([m for m in ('torch', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_document_is_json():
    found = document(study(), {0: outcome(90.0), 1: Failure("x")})
    assert json.loads(json.dumps(found)) == found
