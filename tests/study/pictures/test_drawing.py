import functools
import io
import random

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch

from zostudy.pruning.greedy import Round
from zostudy.registry import components
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace, search_space
from zostudy.study.pictures.drawing import alpha_figure, genotype_figure, mask_figure, scores_figure

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


@pytest.fixture(params=SPACES)
def name(request):
    return request.param


@pytest.fixture
def space(name):
    return SPACES[name]


def genotype_of(space, seed):
    draw = random.Random(seed)
    operations = space.keepable
    cells = {
        kind: tuple(
            tuple(
                (draw.choice(operations), source)
                for source in sorted(draw.sample(range(target), space.kept(target)))
            )
            for target in space.targets
        )
        for kind in space.cell_types
    }
    return Genotype(space, cells)


def history_of(space, epochs, mask=None):
    draw = random.Random(0)
    mask = mask or OperationMask.full(space)
    history = []
    for _ in range(epochs):
        weights = {
            kind: [[kept * draw.random() for kept in row] for row in rows]
            for kind, rows in mask.rows.items()
        }
        history.append(
            {kind: [[w / sum(row) for w in row] for row in rows] for kind, rows in weights.items()}
        )
    return history


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


# Figures that tests only look at are drawn once; no test changes them.


@functools.cache
def genotype_drawn(name, seed):
    figure = genotype_figure(genotype_of(SPACES[name], seed))
    png(figure)
    return figure


@functools.cache
def course_drawn(name, epochs):
    figure = alpha_figure(history_of(SPACES[name], epochs), SPACES[name])
    png(figure)
    return figure


@functools.cache
def scores_drawn(name, repeats):
    figure = scores_figure(round_of(SPACES[name], repeats))
    png(figure)
    return figure


def overlap(first, second):
    return first.x0 < second.x1 and second.x0 < first.x1 and first.y0 < second.y1 and (
        second.y0 < first.y1
    )  # fmt: skip


def labels(axes):
    return {text: text.get_window_extent() for text in axes.texts}


@pytest.mark.parametrize("seed", range(5))
def test_no_label_of_a_genotype_overlaps_another_or_leaves_the_picture(name, seed):
    figure = genotype_drawn(name, seed)
    frame = figure.bbox
    for axes in figure.axes:
        boxes = list(labels(axes).values())
        for index, box in enumerate(boxes):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1  # noqa: PT018  # one fact
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1  # noqa: PT018  # one fact
            assert not any(overlap(box, other) for other in boxes[index + 1 :])


@pytest.mark.parametrize("seed", range(5))
def test_no_label_of_a_genotype_lies_on_an_upright_line(name, seed):
    figure = genotype_drawn(name, seed)
    for axes in figure.axes:
        wires = [patch for patch in axes.patches if type(patch) is PathPatch]
        assert wires
        for wire in wires:
            points = axes.transData.transform(wire.get_path().vertices)
            for x in {round(float(x), 3) for x in (points[0, 0], points[-1, 0])}:
                shown = [
                    text.get_text() for text, box in labels(axes).items() if box.x0 < x < box.x1
                ]
                assert all("$" in word or word.isdigit() or "cell" in word for word in shown)


def test_a_genotype_s_picture_names_every_kept_operation(name):
    genotype = genotype_of(SPACES[name], 0)
    figure = genotype_drawn(name, 0)
    for axes, (kind, nodes) in zip(figure.axes, genotype.cells.items(), strict=True):
        shown = [text.get_text() for text in axes.texts]
        assert f"{kind} cell" in shown
        assert "$c_k$" in shown
        assert "$c_{k-1}$" in shown
        for operation in (operation for node in nodes for operation, _ in node):
            words = operation.replace("_", " ").replace("1x1", "1×1")
            assert words.replace("3x3", "3×3").replace("5x5", "5×5").replace("7x7", "7×7") in shown


def test_sizes_of_one_operation_share_its_colour_and_families_do_not():
    space = SPACES["darts"]
    figure = mask_figure(OperationMask.full(space))
    filled = figure.axes[0].collections[0].get_facecolor()
    colours = [tuple(colour) for colour in filled[: len(space.operations)]]
    named = dict(zip(space.operations, colours, strict=True))
    assert named["sep_conv_3x3"] == named["sep_conv_5x5"]
    assert len(set(named.values())) == 6


def test_a_mask_s_picture_fills_what_remains(space):
    full = OperationMask.full(space)
    mask = full.changed(remove=[(space.cell_types[0], 0, 0)])
    empty = to_rgba("#EDEDED")
    figure = mask_figure(mask)
    png(figure)
    filled = [
        colour
        for axes in figure.axes
        for colour in axes.collections[0].get_facecolor()
        if tuple(colour) != empty
    ]
    assert len(filled) == mask.count() == space.size - 1
    count = len(space.edges) * len(space.operations)
    title = f"{space.cell_types[0]} cell: {count - 1} of {count} remain"
    assert figure.axes[0].get_title() == title


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_course_has_a_panel_for_every_edge_and_a_line_for_every_operation(name, space, epochs):
    figure = course_drawn(name, epochs)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == len(space.cell_types) * len(space.edges)
    for axes in panels:
        assert [len(line.get_ydata()) for line in axes.lines] == [epochs] * len(space.operations)
        assert axes.get_ylim()[0] == 0


def test_the_legend_names_every_operation_inside_the_picture(name, space):
    for figure in (course_drawn(name, 4), scores_drawn(name, 8)):
        (legend,) = (part.legends[0] for part in figure.subfigs if part.legends)
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert len(legend.get_texts()) >= len(space.operations)


def test_only_the_nodes_that_a_cell_gives_lead_to_its_output():
    def lines_below(figure):
        paths = [p for p in figure.axes[0].patches if type(p) is PathPatch]
        return sum(patch.get_path().vertices[:, 1].min() < -0.3 for patch in paths)

    for name, count in (("darts", 4), ("nasbench201", 1)):
        figure = genotype_figure(genotype_of(SPACES[name], 0))
        assert lines_below(figure) == count
        shown = [text.get_text() for text in figure.axes[0].texts]
        assert ("concatenated" in shown) == (count > 1)


def test_a_masked_operation_has_no_line_in_the_course():
    space = SPACES["darts"]
    mask = OperationMask.full(space).changed(remove=[("normal", 0, 3)])
    figure = alpha_figure(history_of(space, 3, mask), space)
    first = next(axes for axes in figure.axes if axes.lines)
    drawn = [any(y == y for y in line.get_ydata()) for line in first.lines]  # NaN is not drawn
    assert drawn == [column != 3 for column in range(8)]


def test_a_course_without_epochs_is_refused():
    with pytest.raises(ValueError, match="needs at least one"):
        alpha_figure([], SPACES["darts"])


def test_the_same_genotype_gives_the_same_picture():
    genotype = genotype_of(SPACES["darts"], 0)
    assert png(genotype_figure(genotype)) == png(genotype_figure(genotype))


def test_no_global_figure_is_left_behind():
    genotype_figure(genotype_of(SPACES["darts"], 0))
    assert mpl._pylab_helpers.Gcf.get_all_fig_managers() == []


def round_of(space, repeats):
    mask = OperationMask.full(space)
    scores = {place: 0.01 * index for index, place in enumerate(mask.places())}
    removed = tuple((kind, 0, 0) for kind in space.cell_types)
    errors = dict.fromkeys(scores, 0.004) if repeats > 1 else {}
    return Round(mask, scores, removed, 1.0, 1, repeats, errors)


@pytest.mark.parametrize("repeats", [1, 8])
def test_scores_are_drawn_by_edge_and_operation_with_their_errors(name, space, repeats):
    figure = scores_drawn(name, repeats)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == len(space.cell_types) * len(space.edges)
    for axes in panels:
        assert len(axes.containers) == len(space.operations)
        assert all(bool(c.has_yerr) == (repeats > 1) for c in axes.containers)
    crosses = [c for axes in panels for c in axes.containers if c.lines[0].get_marker() == "x"]
    assert len(crosses) == len(space.cell_types)
