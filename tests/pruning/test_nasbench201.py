"""Pruning of the NAS-Bench-201 space, on what other spaces have and on what only this one has."""

import dataclasses
import random

import pytest
import torch

from tests.conftest import pictures
from tests.proxies.test_rankings import CASES, bound, expected, redrawn, value
from tests.pruning.test_exact import NNGP, batch
from tests.pruning.test_first_order import slope
from tests.reference import pruning as reference
from tests.reference import rankings
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.networks.dry_run import predicted_peak
from zostudy.networks.supernet import Supernet
from zostudy.pruning import exact, first_order, mask_sources
from zostudy.pruning.mask_sources import PruneContext
from zostudy.pruning.scoring import removable, uniform_mixing
from zostudy.pruning.zero_shot import expected_zero_shot_mask, zero_shot
from zostudy.runtime import Runtime
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import StageContext

SPACE = search_space("nasbench201")
PARTIAL = SupernetSettings(cells=2, channels=4, partial_channels=2, edge_normalization=True)
SMALL = SupernetSettings(cells=1, channels=4, partial_channels=2)
WHOLE = SupernetSettings(cells=1, channels=3)


def some_mask():
    """Two or three operations on every edge."""
    row = [tuple((edge + column) % 5 in (0, 2, 4) for column in range(5)) for edge in range(3)]
    rows = [(*row[0][:3], True, False), row[1], row[2]]
    return OperationMask(SPACE, {"normal": tuple(rows + rows[::-1])})


def supernet_of(settings, mask=None):
    supernet = Supernet(SPACE, mask or some_mask(), settings, in_channels=1, classes=5)
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    return supernet


@pytest.fixture
def prune(small_dataset):
    def run(source, seed=0, settings=WHOLE, dataset=small_dataset, runtime=None, **options):
        stage = StageContext(runtime or Runtime(torch.device("cpu"), "fp32"), seed=seed)
        part = dataset.search_parts(0.5)[0]
        return source(PruneContext(SPACE, settings, dataset, part, stage), **options)

    return run


@pytest.mark.parametrize("settings", [PARTIAL, WHOLE], ids=["partial", "whole"])
@pytest.mark.usefixtures("double")
def test_exact_scores_are_those_of_a_plain_loop_of_full_passes(settings):
    supernet = supernet_of(settings)
    batches = [batch(6), batch(5)]
    scores = exact.operation_scores(supernet, [NNGP], batches)
    plain = reference_of(supernet, settings, 1, 5)
    wanted = reference.leave_one_out_scores(plain, [b.images for b in batches], plain.mask)
    assert scores.keys() == wanted.keys()
    scale = max(abs(score) for score in wanted.values())
    for place, score in wanted.items():
        assert scores[place] == pytest.approx(score, abs=1e-6 * scale)


@pytest.mark.usefixtures("double")
def test_first_order_scores_are_slopes():
    supernet = supernet_of(PARTIAL)
    scores = first_order.operation_scores(supernet, [NNGP], [batch(6)])
    assert list(scores) == removable(supernet.mask)
    for place in list(scores)[::2]:
        towards = uniform_mixing(supernet, without=place)
        found = slope(supernet, NNGP, [batch(6)], towards)
        assert scores[place] == pytest.approx(found, rel=1e-4, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.usefixtures("double")
def test_a_ranking_is_that_of_an_independent_formulation(name, options):
    supernet = supernet_of(SMALL)
    given = batch(12)
    own = redrawn(supernet, given.generator()) if name == "zen" else supernet
    plain = reference_of(own, SMALL, 1, 5)
    for without in (None, removable(supernet.mask)[3]):
        run = rankings.Run(plain, given.images, given.labels, without)
        run.supernet = supernet
        mixing = uniform_mixing(supernet, without=without)
        found = float(value(supernet, bound(name, options), given, mixing).detach())
        assert found == pytest.approx(expected(name, run, given, options), rel=1e-5)


OPTIONS = {
    "xi": 0.4,
    "measure": "operations",
    "operations_per_round": 1,
    "until": "level",
    "none_operation": "candidate",
    "ranking": ("nngp",),
    "scorer": "first_order",
    "images": 20,
    "batch_size": 10,
    "repeats": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["first_order", "exact"])
@pytest.mark.parametrize(
    ("measure", "xi", "left"), [("operations", 0.4, 12), ("architectures", 0.5, 24)]
)
def test_zero_shot_pruning_stops_at_its_level(prune, scorer, measure, xi, left):
    found = prune(zero_shot, **OPTIONS | {"scorer": scorer, "measure": measure, "xi": xi})
    assert found.mask.count() == left
    assert not found.added


def test_pruned_to_the_end_every_edge_has_its_operation_and_no_edge_is_ranked(prune):
    found = prune(zero_shot, **OPTIONS | {"until": "genotype", "none_operation": "removed"})
    assert found.mask.count() == 6
    assert not found.edge_scores
    for node, pairs in enumerate(found.genotype.cells["normal"]):
        for name, source in pairs:
            edge = SPACE.edges.index((source, node + 1))
            assert found.mask.rows["normal"][edge][SPACE.operations.index(name)]


def test_a_random_mask_may_leave_the_zero_operation_alone_on_an_edge(prune):
    masks = [prune(mask_sources.random, seed=seed, xi=0.3).mask for seed in range(20)]
    alone = (True, False, False, False, False)
    assert any(row == alone for mask in masks for row in mask.rows["normal"])
    assert all(not mask.missing_edges() for mask in masks)


@pytest.mark.parametrize("scorer", ["first_order", "exact"])
def test_a_prunings_peak_and_course_are_known_beforehand(prune, small_dataset, scorer):
    colour = dataclasses.replace(
        small_dataset, train=pictures(90, 13, 3, 3, 0), validation=None,
        test=pictures(9, 13, 3, 3, 1), mean=(0.5,) * 3, std=(0.3,) * 3,
    )  # fmt: skip
    options = OPTIONS | {"scorer": scorer}
    found = prune(zero_shot, dataset=colour, **options)
    outline = colour.outline()
    predicted = predicted_peak(
        lambda imaginary: prune(zero_shot, dataset=outline, runtime=imaginary, **options),
        Runtime(torch.device("cpu"), "fp32"),
    )
    assert found.peak_bytes == pytest.approx(predicted, rel=0.01)
    expected = prune(expected_zero_shot_mask, dataset=outline, **options)
    counts = [sorted(map(sum, m.rows["normal"])) for m in (found.mask, expected.mask)]
    assert counts[0] == counts[1]


def test_scores_of_everything_are_finite_whatever_is_left():
    draw = random.Random(0)
    for _ in range(10):
        kept = [set(draw.sample(range(1, 5), 2)) for _ in SPACE.edges]
        rows = tuple(tuple(column in edge for column in range(5)) for edge in kept)
        supernet = supernet_of(WHOLE, OperationMask(SPACE, {"normal": rows}))
        scores = first_order.operation_scores(supernet, [NNGP], [batch(8)])
        assert all(torch.isfinite(torch.tensor(list(scores.values()))))
