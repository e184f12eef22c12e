import json

import pytest

from tests.cli.stand_in import SMALLER, Trials
from zostudy.config.sizes import shown_bytes
from zostudy.errors import NumericalError

pytestmark = pytest.mark.usefixtures("no_engine")


@pytest.fixture
def study(study):
    study.write_text(SMALLER)
    return study


def test_a_plan_has_what_is_missing(zostudy, study, monkeypatch):
    monkeypatch.setattr(Trials, "error", NumericalError("loss is nan"))
    zostudy("run", study)
    plan = json.loads(zostudy("plan", study, "--json")[1])
    configurations = plan.pop("configurations")
    (data,) = plan.pop("datasets")
    (note,) = plan.pop("notes")
    assert note.startswith("evaluate.augment.cutout: 16 blanks")
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


@pytest.mark.slow
def test_of_drawn_paths_a_plan_has_the_bound_and_the_mean(zostudy, study):
    study.write_text(SMALLER.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))
    search = json.loads(zostudy("plan", study, "--json")[1])["configurations"][0]["phases"][
        "search"
    ]
    assert set(search) == {"peak_bytes", "steps", "exact", "fits"}
    drawn = ("plan", study, "--set", "search.relaxation={name: gdas}")
    phases = json.loads(zostudy(*drawn, "--json")[1])["configurations"][0]["phases"]
    found = phases["search"]
    assert 0 < found["on_average_bytes"] < found["at_most_bytes"] == found["peak_bytes"]
    assert "on_average_bytes" not in phases["evaluate"]
    _, out, _ = zostudy(*drawn)
    for bound, size in (("at most", "at_most_bytes"), ("on average", "on_average_bytes")):
        assert f"{bound} {shown_bytes(found[size])}" in out
    _, out, _ = zostudy("plan", study)
    assert "at most" not in out


@pytest.mark.slow
def test_a_budget_says_what_fits_and_what_would(zostudy, study):
    study.write_text(SMALLER.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))
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


def test_a_fitted_batch_is_the_largest_power_of_two(zostudy, study):
    study.write_text(SMALLER.replace("[0.25, 0.5]", "[0.5]").replace("[0, 1]", "[0]"))

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


@pytest.mark.slow
def test_a_plan_says_that_cutout_blanks_whole_pictures(zostudy, study):
    """Those of the default data set have 8×8 pixels, and the default cutout is for 32×32."""
    said = (
        "evaluate.augment.cutout: 16 blanks pictures of 8×8 pixels wholly, and nothing is learned "
        "from those; set it to 4 or less, or to 0 for none"
    )
    assert f"note: {said}" in zostudy("plan", study)[1]
    assert json.loads(zostudy("plan", study, "--json")[1])["notes"] == [said]
    quiet = zostudy("plan", study, "--set", "evaluate.augment.cutout=4", "--json")
    assert "notes" not in json.loads(quiet[1])
    some = zostudy("plan", study, "--set", "evaluate.augment.cutout=8")
    assert "cutout: 8 may blank pictures of 8×8 pixels" in some[1]
