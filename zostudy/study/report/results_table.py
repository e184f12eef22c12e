"""The table at the end of a study: a row a point, and one for random choice."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

_COLUMNS = {
    "validation_accuracy": "validation %",
    "test_accuracy": "test %",
    "regret": "regret",
    "percentile": "percentile",
    "search_peak_bytes": "search MB",
    "prune_reliability": "reliability",
    "prune_seconds": "prune s",
    "search_seconds": "search s",
    "evaluate_seconds": "evaluate s",
    "parameters": "parameters",
    "macs": "M MACs",
}

#: Left out where random choice stands in the table, which is too wide for a terminal otherwise.
_GIVE_WAY = ("prune_seconds", "parameters", "macs")

#: Characters of the title that fit on its line however narrow the table would be.
_TITLE_WIDTH = 78


def figure(metric: str, value: float) -> str:
    """A metric's value in the unit it is shown in: MB of 2^20 bytes, seconds, millions of MACs."""
    if metric.endswith("_bytes"):
        return f"{value / 2**20:.1f}"
    if metric == "macs":
        return f"{value / 1e6:.2f}"
    if metric == "parameters":
        return f"{value:,.0f}"
    coarse = metric.endswith("_seconds") or metric == "percentile"
    return f"{value:.1f}" if coarse else f"{value:.2f}"


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """For each path, the end of it that no other has; ``regularizer.name`` is ``regularizer``."""

    def end(path: str, parts: int) -> str:
        return ".".join(path.removesuffix(".name").split(".")[-parts:])

    short = {}
    for path in paths:
        parts = 1
        while sum(end(other, parts) == end(path, parts) for other in paths) > 1:
            parts += 1
        short[path] = end(path, parts)
    return short


def results_table(document: Mapping[str, Any]) -> Table:
    """The points of a results document: mean, and ± sample standard deviation where n > 1.

    Where a table tells accuracies, a last row has what random choice gives: mean ± standard
    deviation over all architectures. Size of the network and seconds of pruning are left out there.
    """
    points = document["points"]
    chosen = document.get("random_choice", {}).get("metrics")
    paths = list(dict.fromkeys(path for point in points for path in point["params"]))
    left_out = _GIVE_WAY if chosen else ()
    metrics = [
        metric
        for metric in _COLUMNS
        if metric not in left_out and any(metric in point["metrics"] for point in points)
    ]
    title = f"{document['study']}: mean ± standard deviation over seeds"
    table = Table(title=title, min_width=min(len(title), _TITLE_WIDTH))
    for name in short_paths(paths).values():
        table.add_column(name)
    table.add_column("n", justify="right")
    for metric in metrics:
        table.add_column(_COLUMNS[metric], justify="right")
    if chosen:
        table.add_column("by chance", justify="right")
    for point in points:
        swept = [escape(str(point["params"].get(path, ""))) for path in paths]
        cells = [_cell(metric, point["metrics"].get(metric)) for metric in metrics]
        chance = [_probability(point["by_chance"])] if chosen else []
        table.add_row(*swept, str(point["n"]), *cells, *chance)
    if chosen:
        table.add_section()
        cells = [_cell(metric, chosen.get(metric)) for metric in metrics]
        names = ["random choice" if path == paths[0] else "" for path in paths]
        table.add_row(*names, "–", *cells, "–")
    return table


def _probability(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.005 else "< 0.005"


def _cell(metric: str, summary: Mapping[str, float | None] | None) -> str:
    if summary is None or summary["mean"] is None:
        return "–"
    spread = summary["sd"]
    text = figure(metric, summary["mean"])
    return text if spread is None else f"{text} ± {figure(metric, spread)}"
