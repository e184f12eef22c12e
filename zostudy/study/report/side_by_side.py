"""Studies side by side: a table, and what differs in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zostudy.errors import ConfigError
from zostudy.metrics import METRICS, Metric
from zostudy.options import nearest
from zostudy.study.analysis.across_studies import Comparison, Difference, Study
from zostudy.study.points import described, short_paths
from zostudy.study.report.answers import judged_by, probability, signed
from zostudy.study.report.results_table import mean_and_spread
from zostudy.study.report.trust import predictions


def chosen(comparison: Comparison, studies: Sequence[Study], name: str) -> Metric:
    """The metric of that name, or without one that by which the studies are judged.

    Raises:
        ConfigError: No two studies have it at the same point, or have none in common.
    """
    known = comparison.metrics()
    if name:
        if name not in known:
            hint = nearest(name, known) or f"; both have: {', '.join(known) or 'none'}"
            raise ConfigError(f"--metric: no two studies have {name!r} at the same point{hint}")
        return METRICS[name]
    points = [{"metrics": {k: own["metrics"][k] for k in own["metrics"] if k in known}}
              for point in comparison.points for own in point.own.values()]  # fmt: skip
    objectives = [goal.metric for study in studies for goal in study.file.config.sweep.objectives]
    metric = judged_by({"points": points}, objectives)
    if metric is None:
        raise ConfigError(
            "compare: no two studies have an objective or an accuracy in common at the same point; "
            f"choose with --metric: {', '.join(known) or 'there is none'}"
        )
    return metric


def document(comparison: Comparison, metric: Metric) -> dict[str, Any]:
    """The comparison as JSON holds it."""
    at_points, over_all = comparison.differences(metric.name)
    return {
        "studies": list(comparison.studies),
        "metric": metric.name,
        "points": [
            {
                "params": dict(point.params),
                "studies": {
                    name: {"n": own["n"], "metrics": own["metrics"]}
                    for name, own in point.own.items()
                },
            }
            for point in comparison.points
        ],
        "differences": [one.to_dict() for one in at_points],
        "overall": [one.to_dict() for one in over_all],
        "settings": {path: dict(by) for path, by in comparison.settings.items()},
        "notes": list(comparison.notes),
    }


def show(comparison: Comparison, metric: Metric, console: Console) -> None:
    """Print the table, what differs, and what is to be known of the comparison."""
    console.print(_table(comparison, metric))
    at_points, over_all = comparison.differences(metric.name)
    for one in (*over_all, *at_points):
        console.print(sentence(one, metric), markup=False, soft_wrap=True)
    if comparison.settings:
        console.print("\nother settings:", markup=False)
    for path, by in comparison.settings.items():
        told = "; ".join(f"{name}: {value}" for name, value in by.items())
        console.print(f"  {path}: {told}", markup=False, soft_wrap=True)
    own = [shown["metrics"] for point in comparison.points for shown in point.own.values()]
    for note in (*comparison.notes, *filter(None, [predictions(own)])):
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def _table(comparison: Comparison, metric: Metric) -> Table:
    paths = list(comparison.points[0].params)
    table = Table(title=f"{metric.title}: mean ± standard deviation over seeds (n)")
    for name in short_paths(paths).values():
        table.add_column(name, overflow="fold")
    for name in comparison.studies:
        table.add_column(escape(name), justify="right", overflow="fold")
    for point in comparison.points:
        values = [escape(str(point.params[path])) for path in paths]
        table.add_row(*values, *(_cell(point.own.get(name), metric) for name in comparison.studies))
    return table


def _cell(own: Mapping[str, Any] | None, metric: Metric) -> str:
    if own is None or metric.name not in own["metrics"]:
        return "–"
    return f"{mean_and_spread(metric, own['metrics'][metric.name])} ({own['n']})"


def sentence(one: Difference, metric: Metric) -> str:
    """What the second study has over the first, and whether it is told from noise."""
    at = "over all shared points" if one.at is None else described(one.at)
    what = f"{at}: {one.first} → {one.second}: {metric.title} {signed(metric, one.difference)}"
    apart = f"{one.runs[0]} and {one.runs[1]} trials"
    runs = f"{one.runs[0]} shared seeds" if one.seeds_paired else apart
    if one.interval is None or one.p is None:
        return f"{what} ({'one seed' if max(one.runs) == 1 else runs}: not tested)."
    low, high = (signed(metric, bound) for bound in one.interval)
    told = "told from noise" if one.differs else "not told from noise"
    return f"{what} (95 % interval {low} to {high}, {runs}, p = {probability(one.p)}): {told}."
