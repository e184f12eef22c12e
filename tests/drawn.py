"""What tests of pictures share: search spaces of all shapes, and how pictures are looked at."""

import io

from zostudy.registry import components
from zostudy.space.search_space import SearchSpace, search_space

SPACES = {
    **{name: search_space(name) for name in components("search_space")},
    "wide": SearchSpace(
        "wide", ("a", "b", "c"), (), 3, 5, ("zero", "conv_1x1", "conv_3x3"), "zero", 3
    ),
    "one edge a node": SearchSpace(
        "narrow", ("only",), (), 1, 6, ("a_very_long_operation_name_7x7", "zero", "id"), "zero", 1
    ),
    "one node": SearchSpace("tiny", ("only",), (), 2, 1, ("zero", "id"), "zero", 1),
}


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def crowded(figure, boxes):
    """Whether a box overlaps another or leaves the picture."""
    frame = figure.bbox
    return any(
        box.x0 < frame.x0
        or box.x1 > frame.x1
        or box.y0 < frame.y0
        or box.y1 > frame.y1
        or any(_overlap(box, other) for other in boxes[index + 1 :])
        for index, box in enumerate(boxes)
    )


def _overlap(first, second):
    return first.x0 < second.x1 and second.x0 < first.x1 and first.y0 < second.y1 and (
        second.y0 < first.y1
    )  # fmt: skip
