"""Studies with latencies, on a search space of 27 architectures whose accuracies are of a table."""

import hashlib
import json
import os
import signal
import subprocess

import pytest
import yaml
from mlflow import MlflowClient

from tests.commands import environment, line
from tests.commands import here as zostudy
from tests.patience import PATIENCE, wait_for
from tests.study.trial.test_by_table import SPACE_MODULE, STUDY
from tests.tables import SPACE, made_up
from tests.tables import write as write_table
from zostudy.space.genotype import parse
from zostudy.study.identity import today

HEADER, *ROWS = made_up()
#: Milliseconds by architecture: the more accurate, the slower.
MS = {row[0]: 1 + index / 4 for index, row in enumerate(ROWS)}
BY_TABLE = {"by": "table", "path": "device.csv", "column": "ms"}
MEASURED = {"by": "measured", "batch_sizes": [2, 1], "warmup": 1, "runs": 5}
FASTEST = [{"metric": "latency_ms", "direction": "minimize"}]
STUDY = STUDY | {"sweep": {"seeds": [0, 1], "objectives": FASTEST}}


def prepared(folder, **changes):
    (folder / "tabled_space.py").write_text(SPACE_MODULE)
    write_table(folder / "made_up.csv", [HEADER, *ROWS])
    device = [[notation, str(ms)] for notation, ms in MS.items()]
    write_table(folder / "device.csv", [["ArchitectureString", "ms"], *device])
    document = STUDY | {"latency": BY_TABLE} | changes
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return folder


def run(folder, *arguments):
    code, out, err = zostudy(folder, "run", "study.yaml", "--skip-check", *arguments)
    assert code == 0, err
    return out, err


def results(folder, *arguments):
    return json.loads(zostudy(folder, "results", "study.yaml", "--json", *arguments).out)


def runs_of(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs([client.get_experiment_by_name("tabled").experiment_id])


def phases_of(runs):
    return sorted(
        run.data.tags["zostudy.phase"] for run in runs if "zostudy.phase" in run.data.tags
    )


def latency_of(trial):
    return next(ms for text, ms in MS.items() if parse(text, SPACE).to_dict() == trial["genotype"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two points by table with random genotypes, and what it printed."""
    sweep = {
        "seeds": [0],
        "parameters": {"prune.xi": [0.3, 0.6]},
        "random_baseline": 1,
        "objectives": FASTEST,
    }
    folder = prepared(tmp_path_factory.mktemp("finished"), sweep=sweep)
    return folder, run(folder)[0]


def test_trials_and_random_genotypes_have_the_latencies_of_the_table(finished):
    folder, out = finished
    found = results(folder)
    trials = [*found["trials"], *found["random_baseline"]["trials"]]
    assert len(trials) == 4
    for trial in trials:
        assert trial["metrics"]["latency_ms"] == latency_of(trial)
        assert "latency_p95_ms" not in trial["metrics"]
    means = [point["metrics"]["latency_ms"]["mean"] for point in found["points"]]
    assert found["best"]["metrics"]["latency_ms"]["mean"] == min(means)
    assert "latency ms" in out


def test_mlflow_has_the_latency_on_the_trial_and_on_its_phase(finished):
    folder, _ = finished
    runs = runs_of(folder)
    trials = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    phases = [run for run in runs if run.data.tags.get("zostudy.phase") == "latency"]
    assert len(trials) == len(phases) == 4
    assert all("latency_ms" in run.data.metrics for run in (*trials, *phases))


def test_the_report_has_the_latency_and_the_plan_does_without_it(finished):
    folder, _ = finished
    code, _, err = zostudy(folder, "report", "study.yaml", "--output", "report")
    assert code == 0, err
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "latency ms" in page
    planned = json.loads(zostudy(folder, "plan", "study.yaml", "--json").out)
    assert {name for one in planned["configurations"] for name in one["phases"]} == {"search"}


def test_a_given_genotype_has_its_latency_too(finished):
    folder, _ = finished
    (folder / "given.json").write_text(parse(ROWS[8][0], SPACE).to_json())
    code, out, err = zostudy(folder, "evaluate", "study.yaml", "given.json", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["latency_ms"] == MS[ROWS[8][0]]
    learned = ("--set", "latency.by=predictor", "--json")
    code, out, err = zostudy(folder, "evaluate", "study.yaml", "given.json", *learned)
    assert code == 0, err
    assert 0 < json.loads(out)["metrics"]["latency_ms"] < 2 * max(MS.values())
    ways = [run.data for run in runs_of(folder) if run.info.run_name == "genotype"]
    assert sorted(run.params["latency.by"] for run in ways) == ["predictor", "table"]
    content = hashlib.sha256((folder / "device.csv").read_bytes()).hexdigest()
    assert {run.tags["zostudy.latency.path"] for run in ways} == {content}


@pytest.mark.slow
def test_a_genotype_above_the_limit_is_not_evaluated(finished, tmp_path):
    folder, _ = finished
    slower = max(results(folder)["trials"], key=lambda trial: trial["metrics"]["latency_ms"])
    most = slower["metrics"]["latency_ms"] - 0.1
    sweep = {
        "seeds": [slower["seed"]],
        "parameters": {path: [value] for path, value in slower["params"].items()},
        "objectives": FASTEST,
        "constraints": {"latency_ms": {"at_most": most}},
    }
    run(prepared(tmp_path, sweep=sweep))
    (trial,) = results(tmp_path)["trials"]
    text = f"sweep.constraints: latency_ms is {most + 0.1:.2f} ms, above {most:.2f} ms"
    assert (trial["state"], trial["reason"]) == ("excluded", text)
    assert trial["metrics"]["latency_ms"] == slower["metrics"]["latency_ms"]
    runs = runs_of(tmp_path)
    assert phases_of(runs) == ["latency", "prune", "search"]
    assert not list((tmp_path / ".zostudy" / "cache").glob("evaluate/*"))
    (whole,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert whole.data.metrics["latency_ms"] == slower["metrics"]["latency_ms"]
    higher = ("--set", f"sweep.constraints.latency_ms.at_most={most + 1}")
    run(tmp_path, *higher)
    assert results(tmp_path, *higher)["trials"][0]["state"] == "complete"


@pytest.mark.slow
def test_a_measured_latency_is_of_this_hardware_and_other_hardware_asks_to_renew(
    tmp_path, monkeypatch
):
    folder = prepared(tmp_path, latency=MEASURED, sweep={"seeds": [0], "objectives": FASTEST})
    run(folder)
    (trial,) = results(folder)["trials"]
    metrics = trial["metrics"]
    assert 0 < metrics["latency_ms"] <= metrics["latency_p95_ms"]
    assert " torch " in trial["made_of"]["hardware"]
    (phase,) = [run for run in runs_of(folder) if run.data.tags.get("zostudy.phase") == "latency"]
    assert phase.data.metrics.keys() >= {"median_ms_batch_1", "median_ms_batch_2"}
    assert phase.data.metrics["median_ms_batch_2"] == metrics["latency_ms"]
    monkeypatch.setattr(today.host, "kind_of_processor", lambda: "Another Processor")
    assert results(folder)["trials"][0]["metrics"] == metrics
    assert "nothing to run" in run(folder)[1]
    more = ("--set", "sweep.seeds=[0, 1]")
    code, _, err = zostudy(folder, "run", "study.yaml", "--skip-check", *more)
    assert code == 2
    said = "error: latency: the hardware that latency is measured on was "
    assert err.splitlines()[-1].startswith(said)
    assert "is Another Processor, torch " in err
    assert "`zostudy run --renew` runs all again here" in err


@pytest.mark.slow
def test_a_study_killed_while_it_measures_goes_on_and_searches_nothing_again(tmp_path):
    long = MEASURED | {"batch_sizes": [64], "runs": 2000}
    folder = prepared(tmp_path, latency=long, sweep={"seeds": [0], "objectives": FASTEST})
    process = subprocess.Popen(
        line("run", "study.yaml", "--skip-check"),
        cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    cache = folder / ".zostudy" / "cache"
    wait_for(lambda: process.poll() is not None or list(cache.glob("search/*/record.json")))
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    (searched,) = cache.glob("search/*/record.json")
    before = searched.read_bytes()
    _, err = run(folder)
    assert "search 1/1" not in err
    assert searched.read_bytes() == before
    (trial,) = results(folder)["trials"]
    assert trial["state"] == "complete"
    assert trial["metrics"]["latency_ms"] > 0
    assert {run.info.status for run in runs_of(folder)} == {"FINISHED"}


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        (BY_TABLE | {"path": "gone.csv"}, "latency.path: 'gone.csv' cannot be read"),
        (BY_TABLE | {"column": "s"}, "latency.column: 'device.csv' has no column 's'"),
        (BY_TABLE | {"column": ""}, "latency.column: is missing; latency.by 'table' needs it"),
        (MEASURED | {"batch_sizes": []}, "latency.batch_sizes: is missing; latency.by 'measured'"),
        (MEASURED | {"batch_sizes": [1, 1]}, "latency.batch_sizes: [1, 1]; needs each once"),
        (MEASURED | {"runs": 1}, "latency.runs: 1 is not allowed: needs an integer from 2"),
        ({"by": "guess"}, "latency.by: 'guess' is not allowed: needs one of 'none', "),
        ({"by": "none"}, "sweep.objectives: latency_ms needs latency.by, which is 'none'; allowed"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_computed(tmp_path, latency, message):
    folder = prepared(tmp_path, latency=latency)
    code, out, err = zostudy(folder, "run", "study.yaml", "--skip-check")
    assert (code, out) == (2, "")
    (said,) = [text for text in err.splitlines() if text.startswith("error: ")]
    assert said.startswith(f"error: {message}")
    assert not (folder / ".zostudy" / "cache").exists()


def test_ways_to_a_latency_are_not_swept_and_a_runtime_must_be_there(tmp_path, monkeypatch):
    folder = prepared(tmp_path)
    swept = ("--set", "sweep.parameters={latency.column: [ms, s]}")
    code, _, err = zostudy(folder, "validate", "study.yaml", *swept)
    assert code == 2
    assert "sweep.parameters.latency.column: latencies that are had in different ways" in err
    monkeypatch.setattr("zostudy.evaluation.programs.find_spec", lambda _: None)
    onnx = ("--set", "latency={by: measured, runtime: onnxruntime}")
    code, _, err = zostudy(folder, "run", "study.yaml", "--skip-check", *onnx)
    assert code == 2
    assert "error: latency.runtime: 'onnxruntime' needs onnx and onnxscript and onnxruntime" in err


def test_a_sampler_proposes_genotypes_by_accuracy_and_latency(tmp_path):
    most = {"metric": "validation_accuracy", "direction": "maximize"}
    edges = ("n0.c-1", "n1.c-1", "n1.n0")
    sweep = {
        "sampler": {"name": "nsga2", "population": 2},
        "trials": 4,
        "parameters": {f"prune.cells.normal.{edge}": [*SPACE.operations] for edge in edges},
        "objectives": [most, *FASTEST],
    }
    evaluate = STUDY["evaluate"] | {"validation_column": "validation"}
    given = {"prune": {"source": "given"}, "search": {"strategy": "none"}}
    folder = prepared(tmp_path, sweep=sweep, evaluate=evaluate, **given)
    out, _ = run(folder)
    assert "Pareto front" in out
    found = results(folder)
    assert found["trials"]  # a cell that is proposed twice is one point
    for trial in found["trials"]:
        named = [trial["params"][f"prune.cells.normal.{edge}"] for edge in edges]
        (first,), (second, third) = trial["genotype"]["cells"]["normal"]
        assert [name for name, _ in (first, second, third)] == named
        assert trial["metrics"]["latency_ms"] == latency_of(trial)
    phases = phases_of(runs_of(folder))
    assert phases == sorted(["prune", "latency", "evaluate"] * len(found["trials"]))
