"""The table at the end of a study: a row a point, and one for random choice."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zostudy.metrics import METRICS, Metric
from zostudy.study.points import short_paths

#: Characters of the title that fit on its line however narrow the table would be.
_TITLE_WIDTH = 78


#: Head of the column that tells the points of a sweep from random genotypes beside them.
KIND = "genotypes"

#: Characters of a screen on which every table fits.
_UNBOUNDED = 10_000


def metrics_of(document: Mapping[str, Any]) -> list[Metric]:
    """The metrics that have a column unless others are asked for, and that a point has.

    Beside a row for random choice, size of the network and seconds of pruning are left out.
    """
    chosen = document.get("random_choice", {}).get("metrics")
    return [
        metric
        for metric in METRICS.values()
        if metric.column
        and not (chosen and metric.wide)
        and any(metric.name in point["metrics"] for point in document["points"])
    ]


def fitting_table(
    document: Mapping[str, Any], console: Console, asked: Sequence[Metric] = ()
) -> tuple[Table, list[Metric]]:
    """The table with as many columns as a console has room for; one metric is always kept.

    Args:
        document: The results.
        console: Where it is to be printed.
        asked: The metrics to show, the most important first; else those that have a column
            unasked, where MLflow's first columns are more important than the rest.

    Returns:
        The table, and the metrics that were left out.
    """
    shown = list(asked) or metrics_of(document)
    order = shown if asked else sorted(shown, key=lambda metric: not metric.compared)
    wide = console.options.update(width=_UNBOUNDED)
    for kept in range(len(order), 0, -1):
        columns = [metric for metric in shown if metric in order[:kept]]
        table = results_table(document, columns)
        if kept == 1 or console.measure(table, options=wide).maximum <= console.width:
            return table, [metric for metric in shown if metric not in columns]
    return results_table(document, shown), []


def rows_of(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The points, and the random genotypes of each mask as a point, each with what it is."""
    random = document.get("random_baseline", {}).get("groups", ())
    points = [("searched", point) for point in document["points"]]
    return [*points, *(("random", group) for group in random)]


def results_table(document: Mapping[str, Any], metrics: Sequence[Metric] | None = None) -> Table:
    """The points of a results document: mean, and ± sample standard deviation where n > 1.

    Random genotypes have a row for each mask. Where a table tells accuracies, a last row has what
    random choice gives: mean ± standard deviation over all architectures.

    Args:
        document: The results.
        metrics: Those that have a column; else `metrics_of` the document.
    """
    points = document["points"]
    chosen = document.get("random_choice", {}).get("metrics")
    paths = list(dict.fromkeys(path for point in points for path in point["params"]))
    metrics = metrics_of(document) if metrics is None else metrics
    kinds = [KIND] * ("random_baseline" in document)
    title = f"{document['study']}: mean ± standard deviation over seeds"
    table = Table(title=title, min_width=min(len(title), _TITLE_WIDTH))
    for name in (*kinds, *short_paths(paths).values()):
        table.add_column(name, overflow="fold")
    table.add_column("n", justify="right")
    for metric in metrics:
        table.add_column(metric.title, justify="right")
    if chosen:
        table.add_column("by chance", justify="right")
    for kind, point in rows_of(document):
        swept = [kind] * len(kinds) + [escape(str(point["params"].get(path, ""))) for path in paths]
        cells = [mean_and_spread(metric, point["metrics"].get(metric.name)) for metric in metrics]
        chance = [_probability(point.get("by_chance"))] if chosen else []
        table.add_row(*swept, str(point["n"]), *cells, *chance)
    if chosen:
        table.add_section()
        cells = [mean_and_spread(metric, chosen.get(metric.name)) for metric in metrics]
        heads = [*kinds, *paths]
        names = ["" if index else "random choice" for index, _ in enumerate(heads)]
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
