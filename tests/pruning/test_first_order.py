import pytest
import torch

from tests.pruning.test_exact import NNGP, batch, small_mask, supernet_of
from zostudy.config.settings import SupernetSettings
from zostudy.networks.mixing import Mixing
from zostudy.proxies.values import values
from zostudy.pruning import exact, first_order
from zostudy.pruning.scoring import removable, uniform_mixing
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
SETTINGS = SupernetSettings(cells=3, channels=4, partial_channels=2, edge_normalization=True)


def everything_on_some_edges():
    return OperationMask(
        SPACE,
        dict.fromkeys(
            SPACE.cell_types,
            tuple((edge % 4 == 0,) * 4 + (True,) + (edge % 4 == 0,) * 3 for edge in range(14)),
        ),
    )


def slope(supernet, ranking, batches, after):
    """−d r / dt / |r| at t = 0 on the way from the uniform mixing to another, by differences."""
    before = uniform_mixing(supernet)

    def rank(t):
        moved = Mixing(
            {k: w + t * (after.operations[k] - w) for k, w in before.operations.items()},
            {k: w + t * (after.edges[k] - w) for k, w in before.edges.items()},
        )
        with torch.no_grad():
            found = [values(supernet, moved, [ranking], b, twice=False)[0] for b in batches]
        return float(sum(found).detach()) / len(batches)

    step = 1e-7
    return -(rank(step) - rank(-step)) / (2 * step) / abs(rank(0.0))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.usefixtures("double")
def test_scores_are_the_ranking_s_slope_towards_every_removal(normalized):
    settings = SETTINGS.model_copy(update={"edge_normalization": normalized})
    supernet = supernet_of(settings)
    batches = [batch(6), batch(5)]
    scores = first_order.operation_scores(supernet, [NNGP], batches)
    assert list(scores) == removable(supernet.mask)
    for place in list(scores)[::3]:
        expected = slope(supernet, NNGP, batches, uniform_mixing(supernet, without=place))
        assert scores[place] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    edges = [("normal", 5), ("reduction", 9), ("reduction", 2)]
    scores = first_order.edge_scores(supernet, [NNGP], batches, edges)
    for edge in edges:
        expected = slope(supernet, NNGP, batches, uniform_mixing(supernet, without_edge=edge))
        assert scores[edge] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_scores_rank_operations_about_as_leaving_each_out_does():
    supernet = supernet_of(SETTINGS.model_copy(update={"cells": 2}), everything_on_some_edges())
    batches = [batch(32)]
    near = first_order.operation_scores(supernet, [NNGP], batches)
    true = exact.operation_scores(supernet, [NNGP], batches)
    pairs = torch.tensor([[near[place], true[place]] for place in true])
    assert float(torch.corrcoef(pairs.T)[0, 1]) > 0.8


def test_several_rankings_are_summed():
    supernet = supernet_of(SETTINGS)
    one = first_order.operation_scores(supernet, [NNGP], [batch(6)])
    assert one.keys() == set(removable(small_mask()))
