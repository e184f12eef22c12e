"""Pictures of genotypes and masks, for any search space.

Lengths are in inches, the data units of a cell's panel.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace
from zostudy.study.pictures.appearance import (
    DPI,
    GREY,
    PALE,
    edge_name,
    node_name,
    operation_colours,
    words,
)

_HALF_WIDTH, _HALF_HEIGHT = 0.27, 0.17  # of a node's box
_FIRST_TRACK, _TRACK = 0.5, 0.27  # height of the lowest wire, and between wires
_PORT = 0.09  # between the wires at a node, where they fit
_CORNER = 0.1
_ABOVE, _BELOW = 0.5, 0.65  # what a panel needs beside its wires
_LETTER = 0.062


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
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI)
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
    below = 0.2 + 0.07 * max(len(words(name)) for name in space.operations)
    wide, high = 0.25 * columns, 0.25 * rows
    width, height = len(mask.rows) * (left + wide + right), below + high + above
    figure = Figure(figsize=(width, height), dpi=DPI)
    colours = operation_colours(space)
    for index, (kind, cells) in enumerate(mask.rows.items()):
        start = index * (left + wide + right) + left
        axes = figure.add_axes((start / width, below / height, wide / width, high / height))
        squares, filled = [], []
        for row, edge in enumerate(cells):
            for column, kept in enumerate(edge):
                squares.append(Rectangle((column - 0.42, row - 0.42), 0.84, 0.84))
                filled.append(colours[space.operations[column]] if kept else PALE)
        axes.add_collection(PatchCollection(squares, facecolors=filled, edgecolors=filled))
        for row in range(1, rows):
            if space.edges[row][1] != space.edges[row - 1][1]:
                axes.axhline(row - 0.5, color=GREY, linewidth=0.8)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(columns), [words(o) for o in space.operations], rotation=90)
        axes.set_yticks(range(rows), [edge_name(space, edge) for edge in space.edges])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{kind} cell: {sum(map(sum, cells))} of {rows * columns} remain", size=9)
    return figure


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
    colours = operation_colours(space)
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
            middle * step, height, words(wire.operation), color=colour, size=8, ha="center",
            va="center_baseline", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip  # one line an argument says no more
    bus = -0.42
    given = space.targets[-space.outputs :]
    for node in given:
        corner = [(node * step, -_HALF_HEIGHT), (node * step, bus), (output * step, bus)]
        _draw_line(axes, [*corner, (output * step, -0.22)], GREY)
    tip = -_HALF_HEIGHT - 0.045
    axes.plot(output * step, tip, marker="^", markersize=5, color=GREY, linewidth=0)
    axes.text(
        (output - 0.5) * step, bus, "concatenated" if len(given) > 1 else "output", color=GREY,
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
        facecolor="white" if inner else PALE,
        edgecolor="#303030",
        linewidth=1.1,
        zorder=3,
    )
    axes.add_patch(box)
    axes.text(x, -0.01, node_name(space, node), ha="center", va="center", size=10, zorder=4)


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
