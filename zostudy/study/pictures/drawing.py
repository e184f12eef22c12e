"""Pictures of genotypes, masks and the course of a search, for any search space.

Nodes are named as in the DARTS paper: c_{k-2} and c_{k-1} are the outputs of the two cells before,
0, 1, … the intermediate nodes, c_k the cell's output. An operation has the colour of its family:
its name without the kernel size. Lengths are in inches, the data units of a cell's panel.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from zostudy.pruning.greedy import Round
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

#: Okabe and Ito's colours, which colour-blind readers can tell apart, darkened to be read as text.
_COLOURS = ("#0072B2", "#C44E00", "#00875F", "#AE4A86", "#A97400", "#2B8CC4", "#6B4E16", "#000000")
_GREY = "#707070"
_PALE = "#EDEDED"
_LINE_STYLES = ("-", "--", ":", "-.")
_DPI = 150

_HALF_WIDTH, _HALF_HEIGHT = 0.27, 0.17  # of a node's box
_FIRST_TRACK, _TRACK = 0.5, 0.27  # height of the lowest wire, and between wires
_PORT = 0.09  # between the wires at a node, where they fit
_CORNER = 0.1
_ABOVE, _BELOW = 0.5, 0.65  # what a panel needs beside its wires
_LETTER = 0.062

#: Softmax(α) of one epoch: for each cell type, edges by operations.
Probabilities = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class _Wire:
    """A kept edge; wires on the same track share a height and do not overlap."""

    operation: str
    source: int
    target: int
    track: int


def genotype_figure(genotype: Genotype) -> Figure:
    """Every cell as a graph: its nodes in a row, each kept edge a labelled wire above them."""
    space = genotype.space
    letters = max(len(name) for name in space.operations)
    step = max(1.2, 2 * _HALF_WIDTH + 0.25 + _LETTER * letters)
    width = step * (space.inputs + space.nodes) + 2 * (_HALF_WIDTH + 0.15)
    wires = {kind: _wires(genotype, kind) for kind in genotype.cells}
    heights = [
        _FIRST_TRACK + _TRACK * max(wire.track for wire in wires[kind]) + _ABOVE + _BELOW
        for kind in wires
    ]
    figure = Figure(figsize=(width, sum(heights)), dpi=_DPI)
    top = 1.0
    for kind, height in zip(wires, heights, strict=True):
        share = height / sum(heights)
        top -= share
        axes = figure.add_axes((0, top, 1, share))
        left = -_HALF_WIDTH - 0.15
        axes.set(xlim=(left, left + width), ylim=(-_BELOW, height - _BELOW))
        axes.set_axis_off()
        axes.text(left + 0.15, height - _BELOW - 0.22, f"{kind} cell", weight="bold", size=10)
        _draw_cell(axes, space, wires[kind], step)
    return figure


def mask_figure(mask: OperationMask) -> Figure:
    """For every cell type, edges by operations: filled where the operation remains."""
    space = mask.space
    rows, columns = len(space.edges), len(space.operations)
    # Inches: a panel and the room that its texts take, which is cheaper than to have it measured.
    left, right, above = 0.8, 0.5, 0.4
    below = 0.2 + 0.07 * max(len(_words(name)) for name in space.operations)
    wide, high = 0.25 * columns, 0.25 * rows
    width, height = len(mask.rows) * (left + wide + right), below + high + above
    figure = Figure(figsize=(width, height), dpi=_DPI)
    colours = _colours(space)
    for index, (kind, cells) in enumerate(mask.rows.items()):
        start = index * (left + wide + right) + left
        axes = figure.add_axes((start / width, below / height, wide / width, high / height))
        squares, filled = [], []
        for row, edge in enumerate(cells):
            for column, kept in enumerate(edge):
                squares.append(Rectangle((column - 0.42, row - 0.42), 0.84, 0.84))
                filled.append(colours[space.operations[column]] if kept else _PALE)
        axes.add_collection(PatchCollection(squares, facecolors=filled, edgecolors=filled))
        for row in range(1, rows):
            if space.edges[row][1] != space.edges[row - 1][1]:
                axes.axhline(row - 0.5, color=_GREY, linewidth=0.8)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(columns), [_words(o) for o in space.operations], rotation=90)
        axes.set_yticks(range(rows), [_edge_name(space, edge) for edge in space.edges])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{kind} cell: {sum(map(sum, cells))} of {rows * columns} remain", size=9)
    return figure


def alpha_figure(history: Sequence[Probabilities], space: SearchSpace) -> Figure:
    """Softmax(α) over the epochs: a panel for each edge, in its target's row and source's column.

    Args:
        history: For each epoch, for each cell type, probabilities of edges by operations.
        space: The search space they belong to.

    Raises:
        ValueError: There is no epoch.
    """
    if not history:
        raise ValueError("history: has no epochs; needs at least one")
    figure, halves, legend = _edge_figure(space, [_words(name) for name in space.operations])
    highest = max(p for epoch in history for rows in epoch.values() for row in rows for p in row)
    for half, kind in zip(halves, space.cell_types, strict=True):
        _draw_course(half, [epoch[kind] for epoch in history], space, highest)
        half.suptitle(f"{kind} cell", x=0.06, ha="left", weight="bold", size=10)
    legend(figure.axes[0].get_legend_handles_labels()[0])
    return figure


def scores_figure(done: Round) -> Figure:
    """The scores of a round with their standard errors: a panel for each edge.

    The operations that were pruned are marked by a cross; the lowest of an edge goes first.

    Args:
        done: The round; after one repeat its scores have no error bars.
    """
    space = done.mask.space
    colours = _colours(space)
    figure, halves, legend = _edge_figure(space, [*map(_words, colours), "pruned"])
    for half, kind in zip(halves, space.cell_types, strict=True):
        limits = (-0.7, len(space.operations) - 0.3), _extent(done, kind)
        for row, axes in enumerate(_edge_panels(half, space, *limits)):
            axes.axhline(0, color=_PALE, linewidth=0.8, zorder=0)
            axes.set_xticks([])
            for column, name in enumerate(space.operations):
                place = (kind, row, column)
                score = done.scores.get(place, float("nan"))
                axes.errorbar(
                    column, score, yerr=done.errors.get(place), color=colours[name], linewidth=1,
                    marker="x" if place in done.removed else "o", markersize=4, linestyle="none",
                    label=_words(name),
                )  # fmt: skip  # one line an argument says no more
        title = f"{kind} cell: scores" + (" and standard errors" if done.errors else "")
        half.suptitle(title, x=0.06, ha="left", weight="bold", size=10)
    handles = [Line2D([], [], color=colours[n], marker="o", linestyle="none") for n in colours]
    handles.append(Line2D([], [], color=_GREY, marker="x", linestyle="none"))
    legend(handles)
    return figure


def _edge_figure(
    space: SearchSpace, labels: Sequence[str]
) -> tuple[Figure, Sequence[SubFigure], Callable[[Sequence[Artist]], None]]:
    """A figure with a part for each cell type, and a function that draws the legend below them."""
    width = len(space.cell_types) * _course_width(space)
    columns = max(1, min(len(labels), int(width / (0.5 + 0.07 * max(map(len, labels))))))
    height, low = _course_height(space), 0.15 + 0.2 * -(-len(labels) // columns)
    figure = Figure(figsize=(width, low + height), dpi=_DPI)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, low))[:, 0]

    def legend(handles: Sequence[Artist]) -> None:
        below.legend(handles, labels, loc="center", ncols=columns, frameon=False, fontsize=8)

    return figure, above.subfigures(1, len(space.cell_types), squeeze=False)[0], legend


def _course_height(space: SearchSpace) -> float:
    return 1.05 * space.nodes + 0.9


def _course_width(space: SearchSpace) -> float:
    return 1.25 * (space.inputs + space.nodes - 1)


def _draw_course(
    figure: SubFigure,
    course: Sequence[Sequence[Sequence[float]]],
    space: SearchSpace,
    highest: float,
) -> None:
    epochs = range(1, len(course) + 1)
    colours, styles = _colours(space), _styles(space)
    panels = _edge_panels(figure, space, _widened(1, len(course)), (0, 1.08 * highest))
    for row, axes in enumerate(panels):
        for column, name in enumerate(space.operations):
            line = [epoch[row][column] for epoch in course]
            axes.plot(
                epochs,
                line if any(line) else [float("nan")] * len(line),  # masked: never there
                color=colours[name],
                linestyle=styles[name],
                linewidth=1.2,
                marker="." if len(course) == 1 else None,
                label=_words(name),
            )
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    corner = panels[space.edges.index((0, space.targets[-1]))]
    corner.set_xlabel("epoch", size=8)
    corner.set_ylabel("softmax(α)", size=8)


def _edge_panels(
    figure: SubFigure,
    space: SearchSpace,
    across: tuple[float, float],
    up: tuple[float, float],
) -> list[Axes]:
    """A panel for each edge, in its target's row and source's column.

    All have the same limits and are placed by hand: panels that share their axes take twice the
    time to be made, and those of no edge would be made too.
    """
    width, height = _course_width(space), _course_height(space)
    left, right, top, bottom = 0.56, width - 0.12, height - 0.55, 0.4  # inches
    columns, last = space.inputs + space.nodes - 1, space.targets[-1]
    wide = (right - left) / (1.2 * columns - 0.2)
    high = (top - bottom) / (1.5 * space.nodes - 0.5)
    panels = []
    for source, target in space.edges:
        row = target - space.inputs
        x, y = left + 1.2 * wide * source, top - high - 1.5 * high * row
        place = (x / width, y / height, wide / width, high / height)
        axes = figure.add_axes(place, xlim=across, ylim=up)
        axes.set_title(_edge_name(space, (source, target)), size=8, pad=3)
        axes.tick_params(labelsize=6, length=2, pad=1.5)
        axes.tick_params(labelbottom=target == last, labelleft=source == 0)
        axes.spines[["top", "right"]].set_visible(False)
        panels.append(axes)
    return panels


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


def _wires(genotype: Genotype, kind: str) -> list[_Wire]:
    """The kept edges, shorter ones lower, so that a wire runs above all that it contains."""
    edges = [
        (target - source, source, target, operation)
        for target, node in zip(genotype.space.targets, genotype.cells[kind], strict=True)
        for operation, source in node
    ]
    tracks: list[list[tuple[int, int]]] = []
    wires = []
    for _, source, target, operation in sorted(edges):
        number = next(
            number
            for number, track in enumerate([*tracks, []])
            if all(target <= start or end <= source for start, end in track)
        )
        if number == len(tracks):
            tracks.append([])
        tracks[number].append((source, target))
        wires.append(_Wire(operation, source, target, number))
    return wires


def _draw_cell(axes: Axes, space: SearchSpace, wires: list[_Wire], step: float) -> None:
    output = space.inputs + space.nodes
    for node in range(output + 1):
        _draw_node(axes, space, node, node * step)
    colours = _colours(space)
    ports = _ports(wires, output, step)
    for wire in wires:
        start, end = ports[wire, "out"], ports[wire, "in"]
        height = _FIRST_TRACK + _TRACK * wire.track
        colour = colours[wire.operation]
        bow = [(start, _HALF_HEIGHT), (start, height), (end, height), (end, 0.22)]
        _draw_line(axes, bow, colour)
        axes.plot(end, _HALF_HEIGHT + 0.045, marker="v", markersize=5, color=colour, linewidth=0)
        middle = wire.source + (wire.target - wire.source - 1) // 2 + 0.5  # between two nodes
        axes.text(
            middle * step, height, _words(wire.operation), color=colour, size=8, ha="center",
            va="center_baseline", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip  # one line an argument says no more
    bus = -0.42
    given = space.targets[-space.outputs :]
    for node in given:
        corner = [(node * step, -_HALF_HEIGHT), (node * step, bus), (output * step, bus)]
        _draw_line(axes, [*corner, (output * step, -0.22)], _GREY)
    tip = -_HALF_HEIGHT - 0.045
    axes.plot(output * step, tip, marker="^", markersize=5, color=_GREY, linewidth=0)
    axes.text(
        (output - 0.5) * step, bus, "concatenated" if len(given) > 1 else "output", color=_GREY,
        size=8, ha="center", va="center_baseline",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip  # one line an argument says no more


def _draw_node(axes: Axes, space: SearchSpace, node: int, x: float) -> None:
    inner = node in space.targets
    box = FancyBboxPatch(
        (x - _HALF_WIDTH + 0.05, -_HALF_HEIGHT + 0.05),
        2 * _HALF_WIDTH - 0.1,
        2 * _HALF_HEIGHT - 0.1,
        boxstyle="round,pad=0.05,rounding_size=0.08",
        facecolor="white" if inner else _PALE,
        edgecolor="#303030",
        linewidth=1.1,
        zorder=3,
    )
    axes.add_patch(box)
    axes.text(x, -0.01, _node_name(space, node), ha="center", va="center", size=10, zorder=4)


def _ports(wires: list[_Wire], output: int, step: float) -> dict[tuple[_Wire, str], float]:
    """Where wires leave and enter: arriving ones left, low ones outermost, so that none cross."""
    ports: dict[tuple[_Wire, str], float] = {}
    for node in range(output):
        arriving = sorted((w for w in wires if w.target == node), key=lambda w: w.track)
        leaving = sorted((w for w in wires if w.source == node), key=lambda w: -w.track)
        ends = [(w, "in") for w in arriving] + [(w, "out") for w in leaving]
        gap = min(_PORT, 2 * (_HALF_WIDTH - 0.06) / max(1, len(ends) - 1))
        for place, end in enumerate(ends):
            ports[end] = node * step + gap * (place - (len(ends) - 1) / 2)
    return ports


def _draw_line(axes: Axes, points: list[tuple[float, float]], colour: str) -> None:
    """Upright and level lines through the points, with round corners."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    outline = Path([*vertices, points[-1]], [*codes, Path.LINETO])
    axes.add_patch(PathPatch(outline, facecolor="none", edgecolor=colour, linewidth=1.5, zorder=1))


def _towards(point: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """A corner's length from a point in the direction of another."""
    across, up = other[0] - point[0], other[1] - point[1]
    share = min(0.5, _CORNER / max(abs(across), abs(up), _CORNER))
    return point[0] + share * across, point[1] + share * up


def _family(operation: str) -> str:
    return re.sub(r"[_-]?\d+x\d+", "", operation)


def _colours(space: SearchSpace) -> dict[str, str]:
    """A colour for each operation, that of its family; grey for the zero operation."""
    families = list(dict.fromkeys(_family(o) for o in space.operations if o != space.zero))
    colours = {
        o: _COLOURS[families.index(_family(o)) % len(_COLOURS)]
        for o in space.operations
        if o != space.zero
    }
    return {space.zero: "#9A9A9A", **colours}


def _styles(space: SearchSpace) -> dict[str, str]:
    """A line style for each operation, different ones in a family."""
    styles: dict[str, str] = {}
    for name in space.operations:
        before = sum(_family(other) == _family(name) for other in styles)
        styles[name] = _LINE_STYLES[before % len(_LINE_STYLES)]
    return styles


def _words(operation: str) -> str:
    return re.sub(r"(\d)x(\d)", r"\1×\2", operation.replace("_", " "))


def _node_name(space: SearchSpace, node: int) -> str:
    if node < space.inputs:
        return f"$c_{{k-{space.inputs - node}}}$"
    return str(node - space.inputs) if node in space.targets else "$c_k$"


def _edge_name(space: SearchSpace, edge: tuple[int, int]) -> str:
    return f"{_node_name(space, edge[0])} → {_node_name(space, edge[1])}"
