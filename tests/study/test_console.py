import io

import pytest
from rich.console import Console

from zostudy.config.loading import from_document
from zostudy.stage import Progress
from zostudy.study import console, points, units
from zostudy.study.points import Failure, Notice, Standing, TrialOutcome

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


def test_paths_are_shortened_to_what_tells_them_apart():
    paths = ["search.epochs", "evaluate.epochs", "prune.xi", "search.regularizer.name"]
    assert console.short_paths(paths) == {
        "search.epochs": "search.epochs",
        "evaluate.epochs": "evaluate.epochs",
        "prune.xi": "xi",
        "search.regularizer.name": "regularizer",
    }
    assert console.short_paths(["technique", "extra.technique"])["technique"] == "technique"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("test_accuracy", 95.0, "95.00"),
        ("prune_peak_bytes", 2**20 * 1.25, "1.2"),
        ("search_seconds", 61.04, "61.0"),
        ("macs", 1234567, "1.23"),
        ("parameters", 1234567, "1,234,567"),
    ],
)
def test_a_figure_is_shown_in_its_unit(metric, value, text):
    assert console.figure(metric, value) == text


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
    known = units.grid(file)
    done = points.to_json(TrialOutcome({}, {}, "r"))
    record = {"point": next(iter(known)), "seed:1": done}
    return units.standing(file, known, units.read(file, [(0, "complete", record)]))


def test_a_plan_lists_points_and_what_is_missing(screen):
    console.print_plan("s", plan(), screen)
    text = shown(screen)
    assert "1 more" in text
    assert text.endswith(
        "3 points (1 coinciding combinations left out), 2 seeds each: 6 trials, "
        "1 complete, 5 to run\n"
    )


def notices(reporter: console.Reporter, tick) -> None:
    (point, *_) = plan().points
    begun = Notice(1, 3, point, 0)
    outcome = TrialOutcome({"validation_accuracy": 95.126, "macs": 1.0}, {}, "r")
    with reporter:
        reporter.notice(begun)
        for epoch in range(1, 5):
            tick(4)
            reporter.report(Progress("search", epoch, 4, {"train_accuracy": 10.0 * epoch}))
        tick(4)
        reporter.report(Progress("evaluate", 1, 1, {"train_loss": 0.51234}))
        reporter.notice(Notice(1, 3, point, 0, outcome))
        reporter.notice(Notice(2, 3, point, 1))
        reporter.notice(Notice(2, 3, point, 1, Failure("[b]disk full")))


def test_plain_lines_tell_trial_phase_epoch_accuracy_and_time_left(screen):
    now = 100.0

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    notices(console.LineReporter(screen, clock=lambda: now), tick)
    assert shown(screen).splitlines() == [
        "[1/3] prune.source=none prune.xi=0.25, seed 0",
        "[1/3] search 3/4, train accuracy 30.00 %, about 0:04 left in this phase",
        "[1/3] search 4/4, train accuracy 40.00 %",
        "[1/3] evaluate 1/1, train loss 0.5123",
        "[1/3] complete, validation accuracy 95.13 % (0:20; about 0:40 left)",
        "[2/3] prune.source=none prune.xi=0.25, seed 1",
        "[2/3] failed: [b]disk full (0:00; about 0:10 left)",
    ]


def test_a_terminal_gets_bars_and_a_line_for_every_trial_that_ended():
    screen = Console(file=io.StringIO(), width=160, force_terminal=True, highlight=False)
    reporter = console.reporter(screen)
    assert isinstance(reporter, console.BarReporter)
    notices(reporter, lambda _: None)
    text = shown(screen)
    assert "prune.source=none prune.xi=0.25, seed 0: complete, validation accuracy 95.13 %" in text
    assert "failed: [b]disk full" in text


def test_a_pipe_gets_lines(screen):
    assert isinstance(console.reporter(screen), console.LineReporter)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_wait_for_another_process_is_shown(terminal):
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    now = iter(range(0, 1000, 11))
    reporter = (
        console.BarReporter(screen)
        if terminal
        else console.LineReporter(screen, lambda: float(next(now)))
    )
    with reporter:
        reporter.notice(Notice(1, 3, plan().points[0], 0))
        reporter.report(Progress("prune", 0, 1, note="waits for process 7 on here"))
        if terminal:
            reporter._bars.refresh()
    assert "waits for process 7 on here" in screen.file.getvalue()
