"""Pictures with a panel for each edge of a cell: the course of a search, and scores.

A panel stands in its target's row and its source's column. All panels of a cell type are drawn on
one canvas, whose data units are inches: with axes of its own for each panel, which matplotlib lays
out tick by tick, a picture of DARTS' 28 edges takes six times as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from zostudy.pruning.greedy import Round
from zostudy.space.search_space import SearchSpace
from zostudy.study.pictures.appearance import (
    DPI,
    GREY,
    PALE,
    edge_name,
    line_styles,
    operation_colours,
    words,
)

#: Softmax(α) of one epoch: for each cell type, edges by operations.
Probabilities = Mapping[str, Sequence[Sequence[float]]]

_LEFT, _RIGHT, _TOP, _BOTTOM = 0.56, 0.12, 0.55, 0.4  # inches beside the panels of a cell type
_TICK, _GAP = 0.03, 0.05  # the length of a tick, and from a panel to its words

Points = Sequence[tuple[float, float]]


def alpha_figure(history: Sequence[Probabilities], space: SearchSpace) -> Figure:
    """Softmax(α) over the epochs: a panel for each edge, a line for each operation.

    Args:
        history: For each epoch, for each cell type, probabilities of edges by operations.
        space: The search space they belong to.

    Raises:
        ValueError: There is no epoch.
    """
    if not history:
        raise ValueError("history: has no epochs; needs at least one")
    colours, styles = operation_colours(space), line_styles(space)
    highest = max(p for epoch in history for rows in epoch.values() for row in rows for p in row)
    limits = _widened(1, len(history)), (0.0, 1.08 * highest)
    handles = [
        Line2D([], [], color=colours[name], linestyle=styles[name], linewidth=1.2)
        for name in space.operations
    ]
    figure, canvases = _figure(space, handles, [words(name) for name in space.operations])
    for kind, axes in zip(space.cell_types, canvases, strict=True):
        panels = _Panels(axes, space, *limits)
        panels.frames(f"{kind} cell", epochs=True)
        lines = [
            (row, [(i, epoch[kind][row][column]) for i, epoch in enumerate(history, start=1)], name)
            for row in range(len(space.edges))
            for column, name in enumerate(space.operations)
        ]
        shown = [line for line in lines if any(share for _, share in line[1])]  # the rest is masked
        placed = [panels.place(row, points) for row, points, _ in shown]
        names = [name for *_, name in shown]
        if len(history) == 1:
            _mark(axes, placed, [colours[name] for name in names], ".")
        _draw(axes, placed, [colours[n] for n in names], [styles[n] for n in names], width=1.2)
    return figure


def scores_figure(done: Round) -> Figure:
    """The scores of a round with their standard errors: a panel for each edge.

    The operations that were pruned are marked by a cross; the lowest of an edge goes first.

    Args:
        done: The round; after one repeat its scores have no error bars.
    """
    space = done.mask.space
    colours = operation_colours(space)
    handles = [Line2D([], [], color=colours[n], marker="o", linestyle="none") for n in colours]
    handles.append(Line2D([], [], color=GREY, marker="x", linestyle="none"))
    figure, canvases = _figure(space, handles, [*map(words, colours), "pruned"])
    across = -0.7, len(space.operations) - 0.3
    for kind, axes in zip(space.cell_types, canvases, strict=True):
        panels = _Panels(axes, space, across, _extent(done, kind))
        panels.frames(f"{kind} cell: scores" + (" and standard errors" if done.errors else ""))
        zero = [(across[0], 0.0), (across[1], 0.0)]
        _draw(axes, [panels.place(row, zero) for row in range(len(space.edges))], PALE, width=0.8)
        shown = [
            (place, colours[space.operations[place[2]]])
            for place in done.scores
            if place[0] == kind
        ]
        for marker, pruned in (("o", False), ("x", True)):
            some = [(place, c) for place, c in shown if (place in done.removed) is pruned]
            points = [panels.place(p[1], [(p[2], done.scores[p])]) for p, _ in some]
            _mark(axes, points, [colour for _, colour in some], marker)
        bars = [
            panels.place(p[1], [(p[2], done.scores[p] + sign * done.errors[p]) for sign in (-1, 1)])
            for p, _ in shown
            if p in done.errors
        ]
        _draw(axes, bars, [colour for p, colour in shown if p in done.errors])
    return figure


def _figure(
    space: SearchSpace, handles: Sequence[Artist], labels: Sequence[str]
) -> tuple[Figure, list[Axes]]:
    """A figure with a canvas for each cell type, side by side, and the legend below them."""
    wide, high = _width(space), _height(space)
    width = len(space.cell_types) * wide
    columns = max(1, min(len(labels), int(width / (0.5 + 0.07 * max(map(len, labels))))))
    low = 0.15 + 0.2 * -(-len(labels) // columns)
    figure = Figure(figsize=(width, low + high), dpi=DPI)
    canvases = []
    for index in range(len(space.cell_types)):
        place = (index * wide / width, low / (low + high), wide / width, high / (low + high))
        axes = figure.add_axes(place, xlim=(0, wide), ylim=(0, high))
        axes.set_axis_off()
        canvases.append(axes)
    figure.legend(
        handles, labels, loc="center", bbox_to_anchor=(0.5, low / 2 / (low + high)),
        ncols=columns, frameon=False, fontsize=8,
    )  # fmt: skip  # one line an argument says no more
    return figure, canvases


def _height(space: SearchSpace) -> float:
    return 1.05 * space.nodes + 0.9


def _width(space: SearchSpace) -> float:
    return max(3.3, 1.25 * (space.inputs + space.nodes - 1))  # the title needs that much


@dataclass(frozen=True)
class _Panels:
    """The panels of a cell type, which all have the same limits.

    Attributes:
        axes: Their canvas, in inches.
        space: The search space, whose edges they show.
        across: Limits of what is shown from left to right.
        up: The same from below to above.
    """

    axes: Axes
    space: SearchSpace
    across: tuple[float, float]
    up: tuple[float, float]

    @property
    def _size(self) -> tuple[float, float]:
        columns = self.space.inputs + self.space.nodes - 1
        wide = (_width(self.space) - _RIGHT - _LEFT) / (1.2 * columns - 0.2)
        high = (_height(self.space) - _TOP - _BOTTOM) / (1.5 * self.space.nodes - 0.5)
        return wide, high

    def _corner(self, row: int) -> tuple[float, float]:
        """The lower left corner of an edge's panel."""
        source, target = self.space.edges[row]
        wide, high = self._size
        top = _height(self.space) - _TOP - 1.5 * high * (target - self.space.inputs)
        return _LEFT + 1.2 * wide * source, top - high

    def place(self, row: int, points: Points) -> np.ndarray:
        """Points of an edge's panel on the canvas."""
        low = np.array([self.across[0], self.up[0]])
        extent = np.array([self.across[1], self.up[1]]) - low
        inches: np.ndarray = self._corner(row) + (np.array(points) - low) / extent * self._size
        return inches

    def frames(self, title: str, *, epochs: bool = False) -> None:
        """Draw what surrounds the panels: names, scales and their numbers.

        Args:
            title: Of the cell type.
            epochs: Whether epochs are shown from left to right, so that they have numbers.
        """
        wide, high = self._size
        text = self.axes.text
        text(0.06 * _width(self.space), _height(self.space) - 0.1, title,
             weight="bold", size=10, va="top")  # fmt: skip  # a call, not a table
        ups = _ticks(*self.up)
        acrosses = _ticks(1, round(self.across[1]), integer=True) if epochs else []
        lines = []
        for row, (source, target) in enumerate(self.space.edges):
            x, y = self._corner(row)
            lines.append(np.array([(x, y + high), (x, y), (x + wide, y)]))
            text(x + wide / 2, y + high + _GAP, edge_name(self.space, (source, target)),
                 size=8, ha="center", va="bottom")  # fmt: skip  # a call, not a table
            for tick in ups:
                level = self.place(row, [(self.across[0], tick)])[0, 1]
                lines.append(np.array([(x, level), (x - _TICK, level)]))
                if source == 0:
                    text(x - _GAP, level, f"{tick:g}", size=6, ha="right", va="center")
            for tick in acrosses:
                at = self.place(row, [(tick, self.up[0])])[0, 0]
                lines.append(np.array([(at, y), (at, y - _TICK)]))
                if target == self.space.targets[-1]:
                    text(at, y - _GAP, f"{tick:g}", size=6, ha="center", va="top")
        _draw(self.axes, lines, "black", width=0.8)
        if epochs:
            x, y = self._corner(self.space.edges.index((0, self.space.targets[-1])))
            text(x + wide / 2, y - 0.18, "epoch", size=8, ha="center", va="top")
            text(0.1, y + high / 2, "softmax(α)", size=8, ha="left", va="center", rotation=90)


def _draw(
    axes: Axes,
    lines: Sequence[np.ndarray],
    colours: str | Sequence[str],
    styles: str | Sequence[str] = "-",
    width: float = 1.0,
) -> None:
    """Draw lines at once, given the points of each on the canvas."""
    drawn = LineCollection(lines, colors=colours, linestyles=styles, linewidths=width)
    axes.add_collection(drawn, autolim=False)


def _mark(axes: Axes, points: Sequence[np.ndarray], colours: Sequence[str], marker: str) -> None:
    """Mark points of the canvas, each an array of one."""
    if points:
        across, up = np.concatenate(points).T
        axes.scatter(across, up, s=16, c=colours, marker=marker, linewidths=1, zorder=3)


def _ticks(low: float, high: float, *, integer: bool = False) -> list[float]:
    """Round numbers within limits, of which a small panel has room for a few."""
    found = MaxNLocator(3, steps=(1, 2, 2.5, 5, 10), integer=integer).tick_values(low, high)
    margin = 1e-9 * (high - low)
    return [float(tick) + 0.0 for tick in found if low - margin <= tick <= high + margin]


def _extent(done: Round, kind: str) -> tuple[float, float]:
    """Limits of the scores of a cell type with their errors, and of 0."""
    scores = {place: score for place, score in done.scores.items() if place[0] == kind}
    errors = [done.errors.get(place, 0.0) for place in scores]
    lowest = [score - error for score, error in zip(scores.values(), errors, strict=True)]
    highest = [score + error for score, error in zip(scores.values(), errors, strict=True)]
    return _widened(min(0.0, *lowest), max(0.0, *highest))


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin
