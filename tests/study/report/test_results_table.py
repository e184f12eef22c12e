import io

import pytest
from rich.console import Console

from zostudy.metrics import METRICS
from zostudy.study.points import short_paths
from zostudy.study.report.console import PLAIN_WIDTH
from zostudy.study.report.results_table import fitting_table, results_table


def test_paths_are_shortened_to_what_tells_them_apart():
    paths = ["search.epochs", "evaluate.epochs", "prune.xi", "search.regularizer.name"]
    assert short_paths(paths) == {
        "search.epochs": "search.epochs",
        "evaluate.epochs": "evaluate.epochs",
        "prune.xi": "xi",
        "search.regularizer.name": "regularizer",
    }
    assert short_paths(["technique", "extra.technique"])["technique"] == "technique"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("test_accuracy", 95.0, "95.00"),
        ("prune_peak_bytes", 2**20 * 1.25, "1.2"),
        ("search_seconds", 61.04, "61.0"),
        ("macs", 1234567, "1.23"),
        ("parameters", 1234567, "1,234,567"),
        ("percentile", 99.96, "100.0"),
    ],
)
def test_a_figure_is_shown_in_its_unit(metric, value, text):
    assert METRICS[metric].shown(value) == text


def point(xi: float, by_chance: float | None) -> dict:
    metrics = {
        "test_accuracy": {"mean": 90.0, "sd": 1.5},
        "regret": {"mean": 4.37, "sd": None},
        "parameters": {"mean": 1e6, "sd": None},
    }
    return {
        "params": {"prune.xi": xi, "prune.source": "random"},
        "n": 5,
        "metrics": metrics,
        "by_chance": by_chance,
    }


def text(document: dict, width: int = 120) -> list[str]:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(results_table(document))
    return screen.file.getvalue().splitlines()


def test_random_choice_is_the_last_row_and_every_point_has_its_probability():
    metrics = {"test_accuracy": {"mean": 87.06, "sd": 12.93}, "regret": {"mean": 7.31, "sd": 12.9}}
    lines = text(
        {
            "study": "s",
            "points": [point(0.25, 0.123), point(0.5, 0.001), point(0.75, None)],
            "random_choice": {"architectures": 15625, "metrics": metrics},
        }
    )
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows[0] == ["0.25", "random", "5", "90.00 ± 1.50", "4.37", "0.12"]
    assert [row[-1] for row in rows] == ["0.12", "< 0.005", "–", "–"]
    assert rows[-1] == ["random choice", "", "–", "87.06 ± 12.93", "7.31 ± 12.90", "–"]


def test_without_a_table_nothing_is_said_of_chance():
    found = point(0.5, None)
    del found["by_chance"]
    lines = text({"study": "s", "points": [found]})
    assert not any("chance" in line for line in lines)
    assert any("1,000,000" in line for line in lines)


def test_a_table_with_random_choice_fits_a_plain_page():
    spread, seconds = {"mean": 88.88, "sd": 11.11}, {"mean": 123.4, "sd": 56.7}
    large = {"mean": 4e8, "sd": 1e7}
    metrics = {
        **dict.fromkeys(("test_accuracy", "regret", "percentile", "prune_reliability"), spread),
        **dict.fromkeys(("prune_seconds", "search_seconds"), seconds),
        **dict.fromkeys(("search_peak_bytes", "macs"), large),
        "parameters": {"mean": 123456.0, "sd": 98765.0},
    }
    names = {"prune.xi": 0.25, "prune.source": "zero_shot", "search.regularizer.name": "beta_decay"}
    whole = {"params": names, "n": 5, "metrics": metrics, "by_chance": 0.001}
    document = {"study": "s", "points": [whole], "random_choice": {"metrics": metrics}}
    assert max(len(line) for line in text(document, width=400)) <= PLAIN_WIDTH


def wide() -> dict:
    large = {"mean": 123.45, "sd": 12.34}
    names = ("validation_accuracy", "test_accuracy", "search_lead", "prune_seconds")
    metrics = dict.fromkeys((*names, "search_seconds", "search_peak_bytes", "macs"), large)
    params = {"prune.xi": 0.25, "prune.source": "zero_shot", "search.regularizer.name": "none"}
    return {"study": "s", "points": [{"params": params, "n": 5, "metrics": metrics}]}


@pytest.mark.parametrize("width", [60, 80, 100, 400])
def test_the_table_fits_and_what_is_less_important_is_left_out(width):
    screen = Console(file=io.StringIO(), width=width)
    table, left_out = fitting_table(wide(), screen)
    screen.print(table)
    lines = screen.file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    assert "123.45 ± 12.34" in "".join(lines)
    names = [metric.name for metric in left_out]
    assert "validation_accuracy" not in names
    assert (names == []) == (width == 400)
    assert width == 400 or {"prune_seconds", "macs"} <= set(names)


def test_columns_that_are_asked_for_keep_their_order_of_importance():
    screen = Console(file=io.StringIO(), width=60)
    asked = [METRICS["macs"], METRICS["test_accuracy"], METRICS["validation_accuracy"]]
    _, left_out = fitting_table(wide(), screen, asked)
    assert METRICS["macs"] not in left_out
    assert left_out
