"""Scores in float32, against the references in float64; tolerances: tests/arithmetic."""

import pytest
import torch

from tests.arithmetic import expected, threads
from tests.pruning.test_exact import NNGP
from tests.reference import pruning as reference
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs
from zostudy.pruning import exact, first_order
from zostudy.pruning.scoring import removable
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

pytestmark = pytest.mark.arithmetic

#: Space, cells, channels, k, side, pictures, threads. BN makes opposites of two pictures.
CASES = [
    ("darts", 2, 3, 1, 8, 4, 1),
    ("darts", 2, 12, 4, 9, 3, 2),
    ("nasbench201", 1, 3, 1, 17, 3, 2),
    ("nasbench201", 1, 16, 4, 33, 3, 1),
]


def masked(space):
    """Every operation somewhere; two on one edge of each cell type, which can go, else one."""
    size, rows = len(space.operations), {}
    for turn, kind in enumerate(space.cell_types):
        kept = [{(edge + turn) % size} for edge in range(len(space.edges))]
        kept[1].add((turn + 4) % size)
        rows[kind] = tuple(tuple(column in row for column in range(size)) for row in kept)
    return OperationMask(space, rows)


def built(case):
    name, cells, channels, k, side, count, _ = case
    space = search_space(name)
    settings = SupernetSettings(
        cells=cells, channels=channels, partial_channels=k, edge_normalization=k > 1
    )
    supernet = Supernet(space, masked(space), settings, in_channels=1, classes=5)
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, side, side, generator=generator)
    batches = [ProxyInputs(images, torch.arange(count) % 5)]
    return supernet, reference_of(supernet, settings, 1, 5).double(), batches


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_scores_are_those_of_the_reference_but_for_rounding(case):
    supernet, plain, batches = built(case)
    images = [batch.images.double() for batch in batches]

    places = removable(supernet.mask)

    def run():
        scores = reference.leave_one_out_scores(plain, images, plain.mask)
        found = [scores[place] for place in places]
        return {"scores": torch.tensor(found, dtype=torch.float64)}, {}

    truth = expected(run, torch.float32)
    with threads(case[-1]):
        scores = exact.operation_scores(supernet, [NNGP], batches)
    found = torch.tensor([scores[place] for place in places], dtype=torch.float64)
    truth.assert_close({"scores": found}, {})


def slopes(plain, batches, places):
    """−∇_w r · Δw / |r| for each operation that can go, by differentiating the reference."""
    mixing = reference.uniform_mixing(plain.mask, batches[0])
    for weights in mixing.values():
        weights.requires_grad_()
    edges = reference.uniform_edge_weights(plain, batches[0])
    values = [
        torch.linalg.matrix_norm(torch.corrcoef(plain(images, mixing, edges))) for images in batches
    ]
    rank = sum(values) / len(values)
    slope = dict(
        zip(
            mixing,
            torch.autograd.grad(rank, list(mixing.values()), materialize_grads=True),
            strict=True,
        )
    )
    scores = []
    for place in places:
        after = reference.uniform_mixing(plain.mask, batches[0], removed=place)
        moves = [(slope[kind] * (after[kind] - mixing[kind]).detach()).sum() for kind in slope]
        scores.append(-sum(moves) / rank.detach().abs())
    return torch.stack(scores)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_first_order_scores_are_those_of_the_reference_but_for_rounding(case):
    supernet, plain, batches = built(case)
    images = [batch.images.double() for batch in batches]
    places = removable(supernet.mask)
    truth = expected(lambda: ({}, {"scores": slopes(plain, images, places)}), torch.float32)
    with threads(case[-1]):
        scores = first_order.operation_scores(supernet, [NNGP], batches)
    found = torch.tensor([scores[place] for place in places], dtype=torch.float64)
    truth.assert_close({}, {"scores": found})
