"""The table at the end of a study: a row a point, and one for random choice."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from zostudy.metrics import METRICS, Metric
from zostudy.study.points import short_paths

#: Characters of the title that fit on its line however narrow the table would be.
_TITLE_WIDTH = 78


def results_table(document: Mapping[str, Any]) -> Table:
    """The points of a results document: mean, and ± sample standard deviation where n > 1.

    Where a table tells accuracies, a last row has what random choice gives: mean ± standard
    deviation over all architectures. Size of the network and seconds of pruning are left out there.
    """
    points = document["points"]
    chosen = document.get("random_choice", {}).get("metrics")
    paths = list(dict.fromkeys(path for point in points for path in point["params"]))
    metrics = [
        metric
        for metric in METRICS.values()
        if metric.title
        and not (chosen and metric.wide)
        and any(metric.name in point["metrics"] for point in points)
    ]
    title = f"{document['study']}: mean ± standard deviation over seeds"
    table = Table(title=title, min_width=min(len(title), _TITLE_WIDTH))
    for name in short_paths(paths).values():
        table.add_column(name)
    table.add_column("n", justify="right")
    for metric in metrics:
        table.add_column(metric.title, justify="right")
    if chosen:
        table.add_column("by chance", justify="right")
    for point in points:
        swept = [escape(str(point["params"].get(path, ""))) for path in paths]
        cells = [mean_and_spread(metric, point["metrics"].get(metric.name)) for metric in metrics]
        chance = [_probability(point["by_chance"])] if chosen else []
        table.add_row(*swept, str(point["n"]), *cells, *chance)
    if chosen:
        table.add_section()
        cells = [mean_and_spread(metric, chosen.get(metric.name)) for metric in metrics]
        names = ["random choice" if path == paths[0] else "" for path in paths]
        table.add_row(*names, "–", *cells, "–")
    return table


def _probability(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.005 else "< 0.005"


def mean_and_spread(metric: Metric, summary: Mapping[str, float | None] | None) -> str:
    """A metric's mean over seeds, and ± its standard deviation where there are several."""
    if summary is None or summary["mean"] is None:
        return "–"
    spread = summary["sd"]
    text = metric.shown(summary["mean"])
    return text if spread is None else f"{text} ± {metric.shown(spread)}"
