"""How pictures show search spaces: the colours and names of operations, nodes and edges.

Nodes are named as in the DARTS paper: c_{k-2} and c_{k-1} are the outputs of the two cells before,
0, 1, … the intermediate nodes, c_k the cell's output. An operation has the colour of its family:
its name without the kernel size.
"""

import re
from typing import Literal

from zostudy.space.search_space import SearchSpace

LineStyle = Literal["-", "--", ":", "-."]

#: Okabe and Ito's colours, which colour-blind readers can tell apart, darkened to be read as text.
_COLOURS = ("#0072B2", "#C44E00", "#00875F", "#AE4A86", "#A97400", "#2B8CC4", "#6B4E16", "#000000")
_LINE_STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.")

GREY = "#707070"
PALE = "#EDEDED"

#: Dots per inch of every picture.
DPI = 150


def _family(operation: str) -> str:
    return re.sub(r"[_-]?\d+x\d+", "", operation)


def operation_colours(space: SearchSpace) -> dict[str, str]:
    """A colour for each operation, that of its family; grey for the zero operation."""
    families = list(dict.fromkeys(_family(o) for o in space.operations if o != space.zero))
    colours = {
        o: _COLOURS[families.index(_family(o)) % len(_COLOURS)]
        for o in space.operations
        if o != space.zero
    }
    return {space.zero: "#9A9A9A", **colours}


def line_styles(space: SearchSpace) -> dict[str, LineStyle]:
    """A line style for each operation, different ones in a family."""
    styles: dict[str, LineStyle] = {}
    for name in space.operations:
        before = sum(_family(other) == _family(name) for other in styles)
        styles[name] = _LINE_STYLES[before % len(_LINE_STYLES)]
    return styles


def words(operation: str) -> str:
    """The name of an operation as pictures write it."""
    return re.sub(r"(\d)x(\d)", r"\1×\2", operation.replace("_", " "))


def node_name(space: SearchSpace, node: int) -> str:
    """The name of a node, which may be mathematical text."""
    if node < space.inputs:
        return f"$c_{{k-{space.inputs - node}}}$"
    return str(node - space.inputs) if node in space.targets else "$c_k$"


def edge_name(space: SearchSpace, edge: tuple[int, int]) -> str:
    """The name of an edge: its source and its target."""
    return f"{node_name(space, edge[0])} → {node_name(space, edge[1])}"
