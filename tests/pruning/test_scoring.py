import pytest
import torch

from tests.reference import pruning as reference
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.errors import NumericalError
from zostudy.networks.supernet import Supernet
from zostudy.pruning.ranking import frobenius, nngp, nngp_kernel
from zostudy.pruning.scoring import Ranking, edge_scores, exact_scores
from zostudy.registry import components
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
NNGP = Ranking.of({"name": "nngp", "kernel": "correlation"})


def half_mask():
    row = tuple(column % 2 == 0 for column in range(8))
    other = tuple(column % 3 != 1 for column in range(8))
    rows = tuple(row if edge % 2 else other for edge in range(14))
    return OperationMask(SPACE, {"normal": rows, "reduction": rows})


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.usefixtures("double")
def test_exact_scores_are_those_of_a_plain_loop_of_full_passes(k):
    settings = SupernetSettings(cells=3, channels=4, partial_channels=k, edge_normalization=k > 1)
    supernet = Supernet(SPACE, half_mask(), settings, in_channels=1, classes=5)
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    batches = [torch.randn(6, 1, 8, 8), torch.randn(5, 1, 8, 8)]
    scores = exact_scores(supernet, [NNGP], batches)
    plain = reference_of(supernet, settings, 1, 5)
    expected = reference.leave_one_out_scores(plain, batches, plain.mask)
    assert scores.keys() == expected.keys()
    scale = max(abs(score) for score in expected.values())
    for place, score in expected.items():
        assert scores[place] == pytest.approx(score, abs=1e-6 * scale)


@pytest.mark.usefixtures("double")
def test_an_edge_of_no_weight_loses_nothing():
    settings = SupernetSettings(cells=2, channels=4)
    supernet = Supernet(SPACE, half_mask(), settings, in_channels=1, classes=5)
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    edges = [("normal", 0), ("reduction", 3)]
    scores = edge_scores(supernet, [NNGP], [torch.randn(6, 1, 8, 8)], edges)
    assert set(scores) == set(edges)
    assert scores["normal", 0] == 0  # with two cells both reduce
    assert scores["reduction", 3] != 0


@pytest.mark.parametrize("name", components("ranking_function"))
def test_every_ranking_is_finite_and_the_same_twice(name):
    ranking = Ranking.of({"name": name})
    logits = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    first, second = ranking.function(logits), ranking.function(logits)
    assert first.shape == ()
    assert torch.isfinite(first)
    assert torch.equal(first, second)


@pytest.mark.usefixtures("double")
def test_the_kernel_is_symmetric_positive_semidefinite_and_its_norm_the_references():
    logits = torch.randn(9, 4)
    kernel = nngp_kernel(logits)
    torch.testing.assert_close(kernel, kernel.T)
    assert float(torch.linalg.eigvalsh(kernel).min()) > -1e-12
    torch.testing.assert_close(torch.corrcoef(logits), kernel)
    assert float(frobenius(kernel)) == pytest.approx(reference.nngp_frobenius(logits))


def test_rankings_that_mean_nothing_are_refused():
    with pytest.raises(NumericalError, match="all equal"):
        nngp(torch.ones(4, 5))
    with pytest.raises(NumericalError, match="not finite"):
        nngp(torch.full((4, 5), torch.nan))
    with pytest.raises(NumericalError, match="tells nothing of 2 classes"):
        nngp(torch.randn(4, 2))
    assert torch.isfinite(nngp(torch.randn(4, 2), kernel="plain"))
