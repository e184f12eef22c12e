import json

import pytest
import yaml
from typer.testing import CliRunner

from zostudy.cli import app
from zostudy.config.limits import ConstraintSettings
from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.planning.constraints import broken, limited
from zostudy.study.planning.plan import Planner
from zostudy.study.points import grid

STUDY = {
    "study": "s",
    "supernet": {"cells": 2, "channels": 2},
    "prune": {"source": "random"},
    "search": {"epochs": 2, "warmup_epochs": 1, "batch_size": 16},
    "evaluate": {"cells": 1, "channels": 2, "batch_size": 16},
    "runtime": {"device": "cpu", "threads": 1},
}
XI = {"prune.xi": [0.3, 1.0]}


def study(constraints, parameters=XI):
    return from_document(STUDY | {"sweep": {"parameters": parameters, "constraints": constraints}})


@pytest.fixture(scope="module")
def peaks() -> list[int]:
    """What the search of each point needs, in bytes."""
    file = study({})
    plan = Planner.of(file).plan(grid(file))
    return [c.phases["search"].peak_bytes for c in plan.configurations]


def test_a_point_above_a_limit_is_excluded_by_the_plan(peaks):
    file = study({"search_peak_bytes": {"at_most": sum(peaks) / 2}, "macs": {"at_most": 1}})
    small, large = Planner.of(file).plan(grid(file)).configurations
    assert small.excluded == ""
    assert large.excluded.startswith("sweep.constraints: search_peak_bytes is ")
    assert [figure.name for figure in small.limited] == ["search_peak_bytes"]
    assert small.limited[0].excess == pytest.approx(2 * peaks[0] / sum(peaks) - 1)


def test_a_limit_in_bytes_may_be_a_size(peaks):
    file = study({"search_peak_bytes": {"at_most": f"{peaks[0]}B"}})
    small, large = Planner.of(file).plan(grid(file)).configurations
    assert (small.excluded, bool(large.excluded)) == ("", True)


def test_an_estimate_says_that_it_is_one():
    constraints = {"evaluate_peak_bytes": ConstraintSettings(at_most=2**20)}
    assert broken(limited(constraints, {"evaluate_peak_bytes": (3 * 2**20, False)})) == (
        "sweep.constraints: evaluate_peak_bytes is about 3.0 MB, above 1.0 MB"
    )
    exact = limited({"macs": ConstraintSettings(at_most=1000)}, {"macs": (1001, True)})
    assert broken(exact) == "sweep.constraints: macs is 1,001, above 1,000"
    assert broken(limited(constraints, {"evaluate_peak_bytes": (2**20, True)})) == ""


@pytest.mark.slow
def test_what_is_excluded_needs_no_advice_on_memory(peaks):
    limits = {"search_peak_bytes": {"at_most": peaks[0]}}
    file = from_document(
        STUDY
        | {
            "sweep": {"parameters": XI, "constraints": limits},
            "runtime": STUDY["runtime"] | {"memory_budget": f"{peaks[0]}B"},
        }
    )
    assert Planner.of(file).plan(grid(file)).above(exact=True) == []


def test_the_plan_names_excluded_points(peaks, tmp_path):
    document = STUDY | {
        "sweep": {"parameters": XI, "constraints": {"search_peak_bytes": {"at_most": peaks[0]}}},
        "storage": {"optuna": f"sqlite:///{tmp_path}/optuna.db", "folder": str(tmp_path / "own")},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    run = CliRunner().invoke
    shown = run(app, ["plan", str(tmp_path / "study.yaml")]).stdout
    assert "prune.xi=1.0: is not run; sweep.constraints: search_peak_bytes is " in shown
    found = json.loads(run(app, ["plan", str(tmp_path / "study.yaml"), "--json"]).stdout)
    assert [bool(c["excluded"]) for c in found["configurations"]] == [False, True]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (
            {"validation_accuracy": {"at_most": 3}},
            r"sweep\.constraints\.validation_accuracy: is no figure that is known before a trial",
        ),
        ({"macs": {"at_most": 0}}, r"sweep\.constraints\.macs\.at_most: 0; needs more than 0"),
        ({"macs": {"at_most": "8GiB"}}, r"sweep\.constraints\.macs\.at_most: '8GiB'; needs a num"),
        (
            {"search_peak_bytes": {"at_most": "8 gigs"}},
            r"sweep\.constraints\.search_peak_bytes\.at_most: '8 gigs' is no size; allowed: a num",
        ),
        ({"macs": {"at_least": 3}}, r"sweep\.constraints\.macs\.at_"),
        ({"macs": {"at_most": True}}, r"sweep\.constraints\.macs\.at_most"),
        ({"macs": 3}, r"sweep\.constraints\.macs: 3 is not allowed"),
    ],
)
def test_wrong_constraints_are_refused(constraints, message):
    with pytest.raises(ConfigError, match=message):
        study(constraints)
