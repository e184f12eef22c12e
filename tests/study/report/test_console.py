import io

import pytest
from rich.console import Console

from zostudy.config.loading import from_document
from zostudy.study import points
from zostudy.study.points import Standing, TrialOutcome
from zostudy.study.report import console
from zostudy.study.sweep import grid, work_units

CELL = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
GENOTYPE = {"search_space": "darts", "cells": {"normal": CELL, "reduction": CELL}}


def spread(mean: float, sd: float | None = None) -> dict:
    return {"mean": mean, "sd": sd}


DOCUMENT = {
    "study": "s",
    "trials": [
        {"number": 0, "state": "complete", "params": {"prune.xi": 0.5}, "seed": 0},
        {
            "number": 1,
            "state": "failed",
            "params": {"prune.xi": 0.5},
            "seed": 1,
            "reason": "[red]loss is nan",
        },
    ],
    "points": [
        {
            "params": {"prune.xi": 0.5, "search.regularizer.name": "none"},
            "n": 2,
            "metrics": {
                "validation_accuracy": spread(91.234, 0.567),
                "search_peak_bytes": spread(3 * 2**20),
                "search_seconds": spread(12.34, 1.0),
                "parameters": spread(12345.0, 0.0),
            },
        },
        {"params": {"prune.xi": 0.75, "search.regularizer.name": "[x]"}, "n": 0, "metrics": {}},
    ],
    "best": {
        "params": {"prune.xi": 0.5},
        "metrics": {},
        "n": 2,
        "number": 0,
        "seed": 0,
        "genotype": GENOTYPE,
        "mlflow_run_id": "r",
    },
}


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=160, highlight=False)


def shown(screen: Console) -> str:
    return screen.file.getvalue()


def test_a_table_has_mean_and_spread_in_readable_units(screen):
    console.print_results(DOCUMENT, screen)
    text = shown(screen)
    for part in ("91.23 ± 0.57", "12.3 ± 1.0", "12,345 ± 0", "search MB", "[x]"):
        assert part in text
    assert " 3.0 │" in text
    assert "3.0 ±" not in text


def test_failed_trials_are_listed_with_their_reason(screen):
    console.print_results(DOCUMENT, screen)
    assert "trial 1 failed (prune.xi=0.5, seed 1): [red]loss is nan" in shown(screen)


def test_the_best_genotype_is_drawn(screen):
    console.print_results(DOCUMENT, screen)
    assert "normal cell\n  n0 = sep_conv_3x3(c-2)  +  skip_connect(c-1)" in shown(screen)


def test_results_of_nothing_say_so(screen):
    console.print_results({"study": "s", "trials": [], "points": [], "best": None}, screen)
    assert shown(screen) == "study 's': nothing was run yet\n"


def plan() -> Standing:
    file = from_document(
        {
            "study": "s",
            "sweep": {
                "parameters": {"prune.source": ["none", "random"], "prune.xi": [0.25, 0.5]},
                "seeds": [0, 1],
            },
        }
    )
    known = grid.of_study(file)
    done = points.to_json(TrialOutcome({}, {}, "r"))
    record = {"point": next(iter(known)), "seed:1": done}
    return work_units.standing(file, known, work_units.read(file, [(0, "complete", record)]))


def test_a_plan_lists_points_and_what_is_missing(screen):
    console.print_plan("s", plan(), screen)
    text = shown(screen)
    assert "1 more" in text
    assert text.endswith(
        "3 points (1 coinciding combinations left out), 2 seeds each: 6 trials, "
        "1 complete, 5 to run\n"
    )


def test_a_study_in_which_all_failed_says_so_instead_of_an_empty_table(capsys):
    failed = {"state": "failed", "params": {}, "seed": 0, "reason": "search: loss is nan"}
    trials = [failed | {"number": number, "seed": number} for number in (0, 1, 2)]
    document = {
        "study": "pic",
        "trials": trials,
        "points": [{"params": {}, "n": 0, "metrics": {}}],
        "pareto": [],
        "best": None,
    }
    console.print_results(document, console.output())
    assert capsys.readouterr().out == (
        "study 'pic': no trial is complete, so there are no means (3 failed)\n"
        "trials 0–2 failed: search: loss is nan\n"
    )


def test_the_title_of_a_narrow_table_stays_on_its_line(capsys):
    trial = {"state": "complete", "params": {}, "seed": 0, "number": 0, "reason": ""}
    document = {
        "study": "pic",
        "trials": [trial],
        "points": [{"params": {}, "n": 1, "metrics": {}}],
        "pareto": [],
        "best": None,
    }
    console.print_results(document, console.output())
    first = capsys.readouterr().out.splitlines()[0].strip()
    assert first == "pic: mean ± standard deviation over seeds"


def test_what_the_trials_are_made_of_is_noted_under_the_table(capsys):
    document = {"study": "pic", "trials": [], "notes": ["trial 0 is kept apart"]}
    console.print_results(document, console.output())
    assert "note: trial 0 is kept apart\n" in capsys.readouterr().out
