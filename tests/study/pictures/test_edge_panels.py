"""Panels stand in inches on one canvas, so a test measures where their lines and marks lie."""

import functools
import random

import numpy as np
import pytest

from tests.drawn import SPACES, crowded, png
from zostudy.pruning.greedy import Round
from zostudy.space.mask import OperationMask
from zostudy.study.pictures.edge_panels import alpha_figure, scores_figure


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


def round_of(space, repeats):
    mask = OperationMask.full(space)
    scores = {place: 0.01 * index - 0.1 for index, place in enumerate(mask.places())}
    removed = tuple((kind, 0, 0) for kind in space.cell_types)
    errors = dict.fromkeys(scores, 0.004) if repeats > 1 else {}
    return Round(mask, scores, removed, 1.0, 1, repeats, errors)


# Figures that tests only look at are drawn once; no test changes them.


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


def panels(axes):
    """Lower left corner and size of each panel: its frame goes down and then to the right."""
    frames = [np.array(line) for line in axes.collections[0].get_segments() if len(line) == 3]
    return [(frame[1], np.array([frame[2, 0] - frame[1, 0], frame[0, 1] - frame[1, 1]]))
            for frame in frames]  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 4])
def test_the_course_has_in_every_edge_s_panel_a_line_for_every_operation(name, space, epochs):
    history = history_of(space, epochs)
    highest = max(p for e in history for rows in e.values() for row in rows for p in row)
    for axes, kind in zip(course_drawn(name, epochs).axes, space.cell_types, strict=True):
        lines = iter(axes.collections[-1].get_segments())
        assert len(panels(axes)) == len(space.edges)
        for row, (corner, size) in enumerate(panels(axes)):
            for column in range(len(space.operations)):
                across, up = ((np.array(next(lines)) - corner) / size).T
                shares = [epoch[kind][row][column] / (1.08 * highest) for epoch in history]
                np.testing.assert_allclose(up, shares, atol=1e-9)
                assert (np.diff(across) > 0).all()
                assert across.min() > 0
                assert across.max() < 1
        assert next(lines, None) is None


def test_no_panel_lies_on_another(name):
    for axes in course_drawn(name, 4).axes:
        for (low, size), (other, extent) in zip(panels(axes), panels(axes)[1:], strict=False):
            assert (low + size < other).any() or (other + extent < low).any()


def test_words_around_panels_do_not_overlap_or_leave_the_picture(name):
    for figure in (course_drawn(name, 4), scores_drawn(name, 8)):
        (legend,) = figure.legends
        words = [text for axes in figure.axes for text in axes.texts]
        boxes = [text.get_window_extent() for text in (*words, *legend.get_texts())]
        assert not crowded(figure, boxes)


def test_the_legend_names_every_operation_inside_the_picture(name, space):
    for figure in (course_drawn(name, 4), scores_drawn(name, 8)):
        (legend,) = figure.legends
        assert not crowded(figure, [legend.get_window_extent()])
        assert len(legend.get_texts()) >= len(space.operations)


def test_a_masked_operation_has_no_line_in_the_course():
    space = SPACES["darts"]
    mask = OperationMask.full(space).changed(remove=[("normal", 0, 3)])
    figure = alpha_figure(history_of(space, 3, mask), space)
    drawn = figure.axes[0].collections[-1]
    assert len(drawn.get_segments()) == len(space.edges) * len(space.operations) - 1
    colours = [tuple(colour) for colour in drawn.get_colors()]
    assert colours[:3] == colours[7:10]  # the first edge has one line less: 7 and not 8
    assert colours[3] == colours[11]  # its fourth line is that of the fifth operation


def test_a_course_without_epochs_is_refused():
    with pytest.raises(ValueError, match="needs at least one"):
        alpha_figure([], SPACES["darts"])


@pytest.mark.parametrize("repeats", [1, 8])
def test_scores_are_drawn_by_edge_and_operation_with_their_errors(name, space, repeats):
    done = round_of(space, repeats)
    for axes, kind in zip(scores_drawn(name, repeats).axes, space.cell_types, strict=True):
        _, zeros, dots, crosses, bars = axes.collections
        scores = {place: score for place, score in done.scores.items() if place[0] == kind}
        assert len(crosses.get_offsets()) == 1
        kept = [place for place in scores if place not in done.removed]
        assert len(dots.get_offsets()) == len(kept)
        height = {row: line[0][1] for row, line in enumerate(zeros.get_segments())}
        above = [y - height[p[1]] for p, (_, y) in zip(kept, dots.get_offsets(), strict=True)]
        scale = above[-1] / scores[kept[-1]]  # inches of a score of 1
        np.testing.assert_allclose(above, [scale * scores[place] for place in kept], atol=1e-9)
        lengths = [line[1][1] - line[0][1] for line in bars.get_segments()]
        np.testing.assert_allclose(lengths, [scale * 2 * 0.004] * len(scores) * (repeats > 1))
