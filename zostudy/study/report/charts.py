"""Charts of a study's results: accuracy against a cost, a curve over a setting, differences.

Lines and texts have the colour of the page around them, so that a page may be light or dark.
"""

import html
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zostudy.metrics import Metric
from zostudy.study.analysis.factors import Comparison
from zostudy.study.analysis.importances import Importances
from zostudy.study.analysis.ranks import Ranks
from zostudy.study.points import short_paths

#: Stands for the colour of the page's text until a picture is written.
_TEXT = "#010203"
_COLOURS = ("#0072B2", "#C44E00", "#00875F", "#AE4A86", "#A97400", "#2B8CC4", "#6B4E16", "#707070")
_MARKERS = "osD^vPX*"

#: Points above which their spread is left out, so that the chart can be read.
_MANY = 60

#: Characters of a method's name that a diagram has room for.
_LONGEST = 24

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.transparent": True,
    "text.parse_math": False,  # texts are users' own
} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT
)

Points = Sequence[Mapping[str, Any]]


def svg(figure: Figure, title: str) -> str:
    """A figure as an SVG element that stands in a page, with a title for who cannot see it."""
    with rc_context({**_STYLE, "svg.hashsalt": title}):
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue().replace(_TEXT, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text[text.index("<svg") :]
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def alone(svg: str) -> str:
    """An SVG element as a file of its own, with black text."""
    return svg.replace("currentColor", "#000")


def png(figure: Figure) -> bytes:
    """A figure as a picture with a white ground."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=150, facecolor="white")
    return written.getvalue()


@rc_context(_STYLE)
def cost_figure(points: Points, front: Points, metric: Metric, cost: Metric) -> Figure:
    """Every point's metric against what it costs, means over the seeds; a line joins the front.

    Args:
        points: The points of a results document that have both.
        front: Those that no other one dominates, for these two metrics.
        metric: Upwards.
        cost: To the right.
    """
    figure, axes = _empty()
    path, values = _told_apart(points)
    for index, value in enumerate(values):
        own = [p for p in points if not path or str(p["params"].get(path)) == value]
        spread = [p["metrics"][metric.name]["sd"] or 0.0 for p in own]
        axes.errorbar(
            [_shown(cost, p["metrics"][cost.name]["mean"]) for p in own],
            [_shown(metric, p["metrics"][metric.name]["mean"]) for p in own],
            [_shown(metric, s) for s in spread] if any(spread) and len(points) <= _MANY else None,
            fmt=_MARKERS[index % len(_MARKERS)],
            color=_COLOURS[index % len(_COLOURS)],
            markersize=5,
            elinewidth=0.8,
            label=value,
        )
    corners = sorted(
        (p["metrics"][cost.name]["mean"], p["metrics"][metric.name]["mean"]) for p in front
    )
    axes.plot(
        [_shown(cost, x) for x, _ in corners],
        [_shown(metric, y) for _, y in corners],
        color=_TEXT,
        linewidth=0.8,
        zorder=0,
        label="no other is better in both",
    )
    axes.set(xlabel=cost.title, ylabel=metric.title)
    axes.legend(fontsize=8)
    return figure


@rc_context(_STYLE)
def curve_figure(trials: Points, path: str, metric: Metric) -> Figure:
    """A metric over a setting that is a number: means over the seeds, bars of one deviation.

    The values of the setting with the fewest values have a line each; over all others the mean is
    taken first.
    """
    figure, axes = _empty()
    by, values = _told_apart([{"params": _without(t["params"], path)} for t in trials])
    for index, value in enumerate(values):
        seeds: dict[float, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for trial in trials:
            if not by or str(trial["params"].get(by)) == value:
                at = float(trial["params"][path])
                seeds[at][trial["seed"]].append(_shown(metric, trial["metrics"][metric.name]))
        means = {at: [fmean(v) for v in own.values()] for at, own in sorted(seeds.items())}
        axes.errorbar(
            list(means),
            [fmean(own) for own in means.values()],
            [stdev(own) if len(own) > 1 else 0.0 for own in means.values()],
            marker=_MARKERS[index % len(_MARKERS)],
            color=_COLOURS[index % len(_COLOURS)],
            markersize=5,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=value,
        )
    axes.set(xlabel=short_paths([path])[path], ylabel=metric.title)
    if by:
        axes.legend(fontsize=8)
    return figure


def differences_figure(compared: Sequence[Comparison], metric: Metric) -> Figure:
    """Differences between the values of settings with their 95 % intervals."""
    short = short_paths(list(dict.fromkeys(one.setting for one in compared)))
    rows = [
        Interval(
            f"{short[one.setting]}: {one.first} → {one.second}",
            _shown(metric, one.difference),
            one.interval and (_shown(metric, one.interval[0]), _shown(metric, one.interval[1])),
            one.differs,
        )
        for one in compared
    ]
    return intervals_figure(rows, f"difference of {metric.title}")


class Interval(NamedTuple):
    """A difference in a chart: its name, itself, its interval, whether it is told from noise."""

    name: str
    difference: float
    interval: tuple[float, float] | None
    differs: bool


@rc_context(_STYLE)
def intervals_figure(rows: Sequence[Interval], title: str) -> Figure:
    """Differences with their intervals, one a row; filled where they are told from noise."""
    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(rows):
        axes.plot(row.interval or (row.difference,) * 2, [index, index], color=_COLOURS[0])
        axes.plot(
            row.difference,
            index,
            "o",
            color=_COLOURS[0],
            markerfacecolor=_COLOURS[0] if row.differs else "none",
        )
    axes.axvline(0, color=_TEXT, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=title)
    return figure


@rc_context(_STYLE)
def courses_figure(courses: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> Figure:
    """Accuracies by epoch: a panel for each phase, a line for each part of the pictures."""
    figure = Figure(figsize=(3.2 * max(2, len(courses)), 2.6), layout="constrained")
    panels = figure.subplots(1, len(courses), squeeze=False)[0]
    for axes, (phase, figures) in zip(panels, courses.items(), strict=True):
        for index, (name, course) in enumerate(figures.items()):
            epochs, values = zip(*course, strict=True)
            label = name.removesuffix("_accuracy")
            axes.plot(epochs, values, color=_COLOURS[index], linewidth=1.2, label=label)
        axes.set_title(phase, size=9)
        axes.set(xlabel="epoch", ylabel="accuracy, %")
        axes.legend(fontsize=8)
    return figure


@rc_context(_STYLE)
def importances_figure(found: Importances, metric: Metric) -> Figure:
    """Shares of a metric's variance as bars, settings before pairs of them, then what is left."""
    short = short_paths([path for name in found.shares for path in name if len(name) == 1])
    bars = {" × ".join(short[path] for path in name): s for name, s in found.shares.items()}
    bars["not explained"] = found.rest
    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(bars)), layout="constrained")
    axes = figure.subplots()
    colours = [_COLOURS[0]] * len(found.shares) + [_COLOURS[-1]]
    drawn = axes.barh(range(len(bars)), [100 * s for s in bars.values()], color=colours, height=0.6)
    axes.bar_label(drawn, [f"{100 * s:.0f} %" for s in bars.values()], padding=3)
    axes.set_yticks(range(len(bars)), [short_name(name) for name in bars])
    axes.set(
        xlim=(0, 105),
        ylim=(len(bars) - 0.5, -0.5),
        xlabel=f"share of the variance of {metric.title} between trials, %",
    )
    return figure


@rc_context(_STYLE)
def ranks_figure(ranks: Ranks) -> Figure:
    """A critical-difference diagram: mean ranks, the best to the left, on one scale.

    A bar joins methods that are not told apart; the critical difference is drawn to scale.
    """
    names, groups = list(ranks.mean_ranks), ranks.groups
    half, bars = (len(names) + 1) // 2, 0.5 * len(groups)
    rows = bars + half + 1.0
    figure = Figure(figsize=(6.4, 0.9 + 0.24 * rows), layout="constrained")
    axes = figure.subplots()
    low, high = 1, len(names)
    margin = 0.35 * (high - low)
    for index, name in enumerate(names):
        left = index < half
        row = bars + 1 + (index if left else len(names) - 1 - index)
        rank, edge = ranks.mean_ranks[name], low - 0.03 * (high - low) if left else high
        axes.plot([rank, rank, edge], [0, row, row], color=_TEXT, linewidth=0.8)
        label = f"{short_name(name)} {rank:.2f} " if left else f" {rank:.2f} {short_name(name)}"
        axes.text(edge, row, label, ha="right" if left else "left", va="center", fontsize=8)
    for index, group in enumerate(groups):
        ends = [ranks.mean_ranks[group[0]], ranks.mean_ranks[group[-1]]]
        axes.plot(ends, [0.5 + 0.5 * index] * 2, color=_COLOURS[0], linewidth=3.5)
    wide = ranks.critical_difference or 0.0
    axes.plot([low, low + wide], [-2.6, -2.6], "|-", color=_TEXT, linewidth=0.8)
    axes.text(low, -3.0, f"critical difference {wide:.2f}", va="bottom", fontsize=8)
    axes.plot([low, high], [0, 0], color=_TEXT, linewidth=1)
    for rank in range(low, high + 1):
        axes.plot([rank, rank], [0, -0.25], color=_TEXT, linewidth=0.8)
        axes.text(rank, -0.4, str(rank), ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(low - margin, max(high, low + wide) + margin), ylim=(rows, -4.2))
    axes.axis("off")
    return figure


def short_name(name: str) -> str:
    """A name that a diagram has room for."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def numbers(trials: Points) -> Iterator[str]:
    """The swept settings that are numbers, of which there are three values at least."""
    paths = dict.fromkeys(path for trial in trials for path in trial["params"])
    for path in paths:
        values = {trial["params"].get(path) for trial in trials}
        if len(values) > 2 and all(_is_number(value) for value in values):
            yield path


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    return figure, figure.subplots()


def _told_apart(points: Points) -> tuple[str, list[str]]:
    """The setting whose values have a colour each, and these; the one with the fewest, of two."""
    paths = dict.fromkeys(path for point in points for path in point["params"])
    found = {
        path: list(dict.fromkeys(str(point["params"].get(path)) for point in points))
        for path in paths
    }
    several = {path: values for path, values in found.items() if len(values) > 1}
    if not several:
        return "", ["all points"]
    path = min(several, key=lambda name: len(several[name]))
    return path, several[path]


def _without(params: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != path}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(metric: Metric, value: float) -> float:
    return value / metric.divisor
