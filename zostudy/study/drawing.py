"""Pictures of genotypes, masks and the course of a search, for any search space.

Nodes are named as in the DARTS paper: c_{k-2} and c_{k-1} are the outputs of the two cells before,
0, 1, … the intermediate nodes, c_k the cell's output. An operation has the colour of its family: its
name without the kernel size.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
_GREY = "#767676"
_LINE_STYLES = ("-", "--", ":", "-.")

#: Inches: between the nodes of a cell, between its tracks, half a node's width and height.
_STEP, _TRACK, _HALF_WIDTH, _HALF_HEIGHT = 1.35, 0.34, 0.30, 0.19
_FIRST_TRACK = 0.45
_CORNER = 0.12
_PORT = 0.085


@dataclass(frozen=True)
class _Wire:
    """A kept edge of a cell and the height it runs at, counted in tracks."""

    operation: str
    source: int
    target: int
    track: int


def genotype_figure(genotype: Genotype) -> Figure:
    """Every cell as a graph: nodes in a row, each kept edge a labelled line above them."""
    wires = {kind: _wires(genotype, kind) for kind in genotype.cells}
    space = genotype.space
    width = _STEP * (space.inputs + space.nodes + 0.2)
    heights = [
        _FIRST_TRACK + _TRACK * (1 + max(wire.track for wire in wires[kind])) + 1.25
        for kind in wires
    ]
    figure = Figure(figsize=(width, sum(heights)), dpi=150)
    top = sum(heights)
    for kind, height in zip(wires, heights, strict=True):
        top -= height
        axes = figure.add_axes((0, top / sum(heights), 1, height / sum(heights)))
        axes.set(xlim=(-0.6 * _STEP, width - 0.6 * _STEP), ylim=(-0.75, height - 0.75))
        axes.set_axis_off()
        _draw_cell(axes, space, kind, wires[kind])
    return figure


def mask_figure(mask: OperationMask) -> Figure:
    """For every cell type, edges by operations: filled where the operation remains."""
    space = mask.space
    rows, columns = len(space.edges), len(space.operations)
    size = (len(mask.rows) * (0.32 * columns + 1.2) + 0.3, 0.26 * rows + 1.9)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    colours = _colours(space)
    for axes, (kind, cells) in zip(
        figure.subplots(1, len(mask.rows), squeeze=False)[0], mask.rows.items(), strict=True
    ):
        for row, edge in enumerate(cells):
            for column, kept in enumerate(edge):
                colour = colours[space.operations[column]] if kept else "#EFEFEF"
                axes.add_patch(
                    FancyBboxPatch(
                        (column - 0.4, row - 0.4), 0.8, 0.8, boxstyle="square,pad=0", color=colour
                    )
                )
        for row, (edge, following) in enumerate(zip(space.edges, space.edges[1:], strict=False)):
            if edge[1] != following[1]:
                axes.axhline(row + 0.5, color=_GREY, linewidth=0.8)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(columns), [_words(name) for name in space.operations], rotation=90)
        axes.set_yticks(range(rows), [_edge_name(space, edge) for edge in space.edges])
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        count = sum(map(sum, cells))
        axes.set_title(f"{kind} cell: {count} of {rows * columns} remain", fontsize=9)
    return figure
