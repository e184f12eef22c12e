import pytest
import torch

from tests.methods import split_of
from tests.reference import pruning as reference
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.errors import NumericalError
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import values
from zostudy.pruning import exact
from zostudy.pruning.scoring import uniform_mixing
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
NNGP = Ranking.of({"name": "nngp"}, SPACE)


def small_mask():
    """Every operation somewhere; two on every third edge of both cell types, else one."""
    kept = [{edge % 8, (edge * 3 + 4) % 8} if edge % 3 == 0 else {edge % 8} for edge in range(14)]
    rows = tuple(tuple(column in columns for column in range(8)) for columns in kept)
    return OperationMask(SPACE, {"normal": rows, "reduction": rows[::-1]})


def supernet_of(settings, mask=None):
    supernet = Supernet(SPACE, mask or small_mask(), settings, in_channels=1, classes=5)
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    return supernet


def batch(count=6):
    generator = torch.Generator().manual_seed(count)
    return ProxyInputs(torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 5)


@pytest.mark.parametrize(
    ("k", "cells", "split"),
    [(1, 3, "first"), (2, 3, "first"), (2, 5, "first"), (2, 3, "attention")],
)
@pytest.mark.usefixtures("double")
def test_exact_scores_are_those_of_a_plain_loop_of_full_passes(k, cells, split):
    settings = SupernetSettings(
        cells=cells,
        channels=4,
        partial_channels=k,
        edge_normalization=k > 1,
        channel_split=split_of(split),
    )
    supernet = supernet_of(settings)
    batches = [batch(6), batch(5)]
    scores = exact.operation_scores(supernet, [NNGP], batches)
    plain = reference_of(supernet, settings, 1, 5)
    expected = reference.leave_one_out_scores(plain, [b.images for b in batches], plain.mask)
    assert scores.keys() == expected.keys()
    scale = max(abs(score) for score in expected.values())
    for place, score in expected.items():
        assert scores[place] == pytest.approx(score, abs=1e-6 * scale)


@pytest.mark.usefixtures("double")
def test_an_edge_of_no_weight_loses_nothing():
    supernet = supernet_of(SupernetSettings(cells=2, channels=4))
    edges = [("normal", 0), ("reduction", 3)]
    scores = exact.edge_scores(supernet, [NNGP], [batch()], edges)
    assert set(scores) == set(edges)
    assert scores["normal", 0] == 0  # with two cells both reduce
    assert scores["reduction", 3] != 0


def test_a_network_that_gives_every_picture_the_same_logits_is_refused():
    nothing = OperationMask(
        SPACE, dict.fromkeys(SPACE.cell_types, ((True, True, *[False] * 6),) * 14)
    )
    supernet = supernet_of(SupernetSettings(cells=2, channels=4), nothing)
    with torch.no_grad():
        supernet.classifier.weight.zero_()
    with pytest.raises(NumericalError, match="all equal"):
        exact.operation_scores(supernet, [NNGP], [batch()])


@pytest.mark.parametrize("cells", [2, 4])
@pytest.mark.parametrize(
    ("normalized", "split"), [(True, "first"), (False, "first"), (True, "attention")]
)
@pytest.mark.usefixtures("double")
def test_what_a_removal_leaves_the_same_may_be_kept_whatever_is_read(normalized, split, cells):
    settings = SupernetSettings(
        cells=cells,
        channels=4,
        partial_channels=2,
        edge_normalization=normalized,
        channel_split=split_of(split),
    )
    supernet = supernet_of(settings)
    given = batch(5)

    def read(logits, features, maps, states):
        parts = (logits, features, maps, *states)
        return sum((i + 1) * part.pow(3).mean() for i, part in enumerate(parts))

    ranking = Ranking("all", read, 1, ("logits", "features", "maps", "states"))

    def rank(mixing):
        with torch.no_grad():
            return float(values(supernet, mixing, [ranking], given, twice=False)[0])

    base = rank(uniform_mixing(supernet))
    for place, score in exact.operation_scores(supernet, [ranking], [given]).items():
        plain = (base - rank(uniform_mixing(supernet, without=place))) / abs(base)
        assert score == pytest.approx(plain, rel=1e-9, abs=1e-12)
    edges = [(kind, row) for kind in SPACE.cell_types for row in range(2, 14)]
    for edge, score in exact.edge_scores(supernet, [ranking], [given], edges).items():
        plain = (base - rank(uniform_mixing(supernet, without_edge=edge))) / abs(base)
        assert score == pytest.approx(plain, rel=1e-9, abs=1e-12)


def test_a_supernet_is_as_it_was_after_its_scores():
    supernet = supernet_of(SupernetSettings(cells=3, channels=4))
    given = batch()
    before = supernet(given.images)
    exact.operation_scores(supernet, [NNGP], [given])
    assert torch.equal(supernet(given.images), before)
    assert not any(module._forward_hooks for module in supernet.modules())
    assert not any(module._forward_pre_hooks for module in supernet.modules())
