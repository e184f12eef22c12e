import io

import pytest
from rich.console import Console

from zostudy.study.results_table import figure, results_table, short_paths


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
    ],
)
def test_a_figure_is_shown_in_its_unit(metric, value, text):
    assert figure(metric, value) == text


def point(xi: float, by_chance: float | None) -> dict:
    metrics = {"test_accuracy": {"mean": 90.0, "sd": 1.5}, "regret": {"mean": 4.37, "sd": None}}
    return {
        "params": {"prune.xi": xi, "prune.source": "random"},
        "n": 5,
        "metrics": metrics,
        "by_chance": by_chance,
    }


def text(document: dict) -> list[str]:
    screen = Console(file=io.StringIO(), width=120)
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
    assert not any("chance" in line for line in text({"study": "s", "points": [found]}))
