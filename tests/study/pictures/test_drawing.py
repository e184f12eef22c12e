import functools
import random

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch

from tests.drawn import SPACES, crowded, png
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.study.pictures.drawing import genotype_figure, mask_figure


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


# Figures that tests only look at are drawn once; no test changes them.


@functools.cache
def genotype_drawn(name, seed):
    figure = genotype_figure(genotype_of(SPACES[name], seed))
    png(figure)
    return figure


def labels(axes):
    return {text: text.get_window_extent() for text in axes.texts}


@pytest.mark.parametrize("seed", range(5))
def test_no_label_of_a_genotype_overlaps_another_or_leaves_the_picture(name, seed):
    figure = genotype_drawn(name, seed)
    for axes in figure.axes:
        assert not crowded(figure, list(labels(axes).values()))


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


def test_only_the_nodes_that_a_cell_gives_lead_to_its_output():
    def lines_below(figure):
        paths = [p for p in figure.axes[0].patches if type(p) is PathPatch]
        return sum(patch.get_path().vertices[:, 1].min() < -0.3 for patch in paths)

    for name, count in (("darts", 4), ("nasbench201", 1)):
        figure = genotype_figure(genotype_of(SPACES[name], 0))
        assert lines_below(figure) == count
        shown = [text.get_text() for text in figure.axes[0].texts]
        assert ("concatenated" in shown) == (count > 1)


def test_the_same_genotype_gives_the_same_picture():
    genotype = genotype_of(SPACES["darts"], 0)
    assert png(genotype_figure(genotype)) == png(genotype_figure(genotype))


def test_no_global_figure_is_left_behind():
    genotype_figure(genotype_of(SPACES["darts"], 0))
    assert mpl._pylab_helpers.Gcf.get_all_fig_managers() == []
