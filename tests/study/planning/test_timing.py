"""The time of phases by a clock that counts steps, and what follows from it."""

import itertools
import json
from pathlib import Path

import pytest

from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.planning import expense, timing
from zostudy.study.planning.expense import Wanted, hourly, makespan
from zostudy.study.planning.timing import Stopwatch
from zostudy.study.points import Standing, grid

NETWORK = {"cells": 1, "channels": 2}


@pytest.fixture
def make(tmp_path):
    def study(**changes):
        document = {
            "study": "s",
            "search_space": {"name": "nasbench201"},
            "supernet": NETWORK,
            "prune": {"source": "zero_shot", "images": 4, "batch_size": 2, "repeats": 6},
            "search": {"epochs": 20, "warmup_epochs": 5, "batch_size": 8},
            "evaluate": NETWORK | {"epochs": 30, "batch_size": 8, "auxiliary_weight": 0.0},
            "sweep": {"parameters": {"prune.xi": [0.3, 0.6]}, "seeds": [0, 1]},
            "storage": {"folder": str(tmp_path / "kept"), "optuna": f"sqlite:///{tmp_path}/o.db"},
            "runtime": {"threads": 1, "device": "cpu"},
        }
        return from_document(document | changes)

    return study


def standing(file):
    return Standing(tuple(grid(file)), {}, file.config.sweep.seeds)


def told(file, **asked):
    there = standing(file)
    return expense.expense(file, there, there.points, Wanted(**asked))


def test_rates_are_found_again_of_epochs_that_are_made_of_them():
    """Epochs whose seconds are: 2 at the start, 0.5 each, 3 a step, 1 a warm-up, 4 a watched."""
    watch = Stopwatch(runtime=None, limit=1, clock=lambda: 0.0)
    watch._now = lambda: 0.0

    def epochs(steps):
        warm = [0.5 + 1.0 * steps] * 2
        watched = [0.5 + 3.0 * steps + 4.0 * min(steps, 2)] * 2
        plain = [0.5 + 3.0 * steps] * 3
        all_ = [*warm, *watched, *plain]
        return [all_[0] + 2.0, *all_[1:]]

    found = watch._rates(epochs, 7, 2, most=9, until=1.0)
    assert found == pytest.approx(
        {"start": 2.0, "epoch": 0.5, "step": 3.0, "warmup_step": 1.0, "watched": 4.0}
    )
    # Where an epoch has one step, nothing tells it from what is beside it.
    single = watch._rates(epochs, 7, 2, most=1, until=1.0)
    assert (single["step"], single["epoch"]) == (3.5, 0.0)
    # Without time, what there is stands for the rest.
    short = watch._rates(lambda steps: epochs(steps)[:1], 7, 2, most=9, until=1.0)
    assert short["step"] == 3.5
    assert all(rate >= 0 for rate in short.values())


def test_every_shape_is_measured_once_and_predicts_what_counts_say(make, monkeypatch):
    file = make()
    reports = itertools.count()
    watched = []
    original = Stopwatch.measure

    def measure(self, wanted, loaded):
        self.clock = lambda: float(next(reports))  # every look takes a second
        self.limit = 1e9
        watched.append(original(self, wanted, loaded))
        return watched[-1]

    monkeypatch.setattr(Stopwatch, "measure", measure)
    found = told(file)
    (rates,) = watched
    assert len(rates) == 6  # xi 0.3 and 0.6 leave different masks
    assert all(rate >= 0 for own in rates.values() for rate in own.values())
    (_, own), _ = found.phases
    assert set(own) == {"prune", "search", "evaluate"}
    # Each epoch lasts one look of the clock, and so does everything beside it.
    assert own["evaluate"] >= 30 * 0.9
    trials = sum(sum(phases.values()) for _, phases in found.phases) * 2
    assert found.device_seconds < trials  # the trajectory of pruning is shared
    assert list(file.folder.parent.glob("**/optuna*")) == []


def test_counts_follow_epochs_and_pictures_and_keys_do_not(make):
    def of(**changes):
        file = make(**changes)
        planner = expense.Planner.of(file)
        config = grid(file)[0].config
        outline = planner.outline(config.dataset)
        look = expense.Outlook(config, outline, planner.predictions, planner.seeds)
        return timing.tasks(look, cuda=False)

    plain = of()
    search = {"epochs": 40, "warmup_epochs": 10, "batch_size": 8}
    longer = of(search=search)
    assert plain["search"][0].key == longer["search"][0].key
    for name in ("epoch", "step", "warmup_step"):
        assert longer["search"][0].counts[name] == 2 * plain["search"][0].counts[name]
    assert of(search=search | {"batch_size": 32})["search"][0].key != plain["search"][0].key
    assert plain["search"][0].counts["watched"] == 4
    assert plain["prune"][0].counts == {"start": 1, "repeat": 6}
    assert plain["prune"][0].seconds({"start": 2.0, "repeat": 3.0}) == 20


def test_a_calibration_predicts_the_same_elsewhere(make, tmp_path, monkeypatch):
    path = tmp_path / "calibration.json"
    found = told(make(), limit=0.1, save=path)
    monkeypatch.setattr(expense, "measured", None)
    monkeypatch.setattr(expense, "prepare", None)
    again = told(make(), calibration=path)
    assert again.device_seconds == found.device_seconds
    assert again.disk_bytes == found.disk_bytes > 0
    costly = told(make(), calibration=path, workers=2, price=2.5, watts=700.0).document()
    hours = costly["device_hours"]
    assert costly["cost"] == pytest.approx(2.5 * hours)
    assert costly["kilowatt_hours"] == pytest.approx(0.7 * hours)
    assert hours / 2 <= costly["hours"] < hours

    def refused(match, file, wanted=path):
        with pytest.raises(ConfigError, match=match) as error:
            told(file, calibration=wanted)
        assert "\n" not in str(error.value)

    refused("lacks the search of a point", make(supernet={"cells": 2, "channels": 2}, prune={
        "source": "none"}, sweep={}))  # fmt: skip
    refused("is of threads 1, and the study needs 2", make(runtime={"threads": 2, "device": "cpu"}))
    refused(
        "device 'cpu', and the study needs 'cuda'", make(runtime={"threads": 1, "device": "cuda"})
    )
    document = json.loads(path.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document | {"machine": document["machine"] | {"torch": "0.1"}}))
    refused("torch '0.1', and the study needs", make(), other)
    other.write_text("{")
    refused("is no file of", make(), other)
    refused("cannot be read", make(), Path(tmp_path / "none.json"))


def test_trials_are_shared_among_workers():
    assert makespan([3.0, 1.0, 1.0, 1.0], 1) == 6
    assert makespan([3.0, 1.0, 1.0, 1.0], 2) == 3
    assert makespan([3.0], 8) == 3
    assert makespan([], 8) == 0


@pytest.mark.parametrize(("text", "price"), [("2.5/h", 2.5), ("3", 3.0)])
def test_a_price_is_of_an_hour(text, price):
    assert hourly(text) == price


def test_what_is_no_price_is_refused():
    with pytest.raises(ConfigError, match="--price: 'cheap' is no price"):
        hourly("cheap")
