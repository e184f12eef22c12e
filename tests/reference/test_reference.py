import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.reference import pruning, search
from tests.reference.supernet import (
    CELL_TYPES,
    EDGES,
    NODES,
    OPERATIONS,
    FactorizedReduction,
    ReferenceSupernet,
    full_mask,
    shuffle,
)

NONE, SKIP = OPERATIONS.index("none"), OPERATIONS.index("skip_connect")


def images(count=4, side=8, channels=3, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, side, side, generator=generator)


def network(mask=None, *, seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"cells": 3, "channels": 4, "classes": 5} | settings
    return ReferenceSupernet(mask, **settings)


def thin_mask(*kept):
    """The same operations on every edge."""
    row = [name in kept for name in OPERATIONS]
    return {kind: [list(row) for _ in EDGES] for kind in CELL_TYPES}


def random_mask(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = full_mask()
    for kind in CELL_TYPES:
        for row in mask[kind]:
            draws = torch.rand(len(row), generator=generator) < 0.5
            row[:] = draws.tolist() if draws.any() else row
    return mask


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("side", [8, 9, 11])
@pytest.mark.parametrize("settings", [{}, {"partial_channels": 4, "edge_normalization": True}])
@pytest.mark.parametrize("cells", [1, 3])
def test_any_side_and_depth_give_finite_logits(side, settings, cells):
    logits = network(random_mask(), cells=cells, **settings)(images(side=side))
    assert logits.shape == (4, 5)
    assert logits.isfinite().all()


def test_every_parameter_gets_a_gradient():
    supernet = network(partial_channels=2, edge_normalization=True)
    cross_entropy(supernet(images()), torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in supernet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_reductions_double_the_channels_at_thirds_of_the_depth():
    supernet = network(thin_mask("skip_connect"), cells=8)
    assert [cell.kind == "reduction" for cell in supernet.cells] == [
        index in {2, 5} for index in range(8)
    ]
    assert supernet.classifier.in_features == 4 * 4 * 4
    halved = [isinstance(cell.preprocess0, FactorizedReduction) for cell in supernet.cells]
    assert halved == [index in {3, 6} for index in range(8)]


def test_a_masked_operation_has_no_module_and_no_weight():
    mask = random_mask()
    supernet = network(mask)
    for cell in supernet.cells:
        for row, edge in zip(mask[cell.kind], cell.edges, strict=True):
            assert list(edge) == [n for n, keep in zip(OPERATIONS, row, strict=True) if keep]
    for kind in CELL_TYPES:
        nn.init.normal_(supernet.alpha[kind])
        weights = supernet.mixing(kind)
        assert torch.equal(weights > 0, torch.tensor(mask[kind]))
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(EDGES)))


def test_none_takes_its_share_and_gives_nothing():
    with_none = network(thin_mask("none", "skip_connect"))
    alone = network(thin_mask("skip_connect"))
    alone.load_state_dict(with_none.state_dict())
    halves = {kind: torch.zeros(len(EDGES), len(OPERATIONS)) for kind in CELL_TYPES}
    for rows in halves.values():
        rows[:, SKIP] = 0.5
    torch.testing.assert_close(with_none(images()), alone(images(), halves))


def test_edge_weights_share_one_among_the_edges_into_a_node():
    supernet = network(edge_normalization=True)
    nn.init.normal_(supernet.beta["normal"])
    weights = supernet.edge_weights("normal")
    for node in NODES:
        entering = [e for e, (_, target) in enumerate(EDGES) if target == node]
        assert float(weights[entering].sum().detach()) == pytest.approx(1.0)
    assert torch.equal(network().edge_weights("normal"), torch.ones(len(EDGES)))


def test_partial_channels_leave_the_others_as_they_are():
    supernet = network(thin_mask("skip_connect"), cells=1, partial_channels=4)
    x = images(channels=4)
    ones = torch.ones(len(OPERATIONS))
    torch.testing.assert_close(supernet.cells[0].mix(0, x, ones), x)  # one channel each group
    torch.testing.assert_close(
        shuffle(torch.arange(8.0).reshape(1, 8, 1, 1), 4).flatten(),
        torch.tensor([0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]),
    )


def test_factorized_reduction_reads_the_picture_and_the_shifted_picture():
    reduction = FactorizedReduction(1, 2)
    nn.init.ones_(reduction.first.weight)
    nn.init.ones_(reduction.second.weight)
    reduction.norm = nn.Identity()
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    first, second = reduction(x)[0].tolist()
    assert first == [[1.0, 3.0], [7.0, 9.0]]
    assert second == [[5.0, 0.0], [0.0, 0.0]]
    assert FactorizedReduction(1, 1)(x.expand(2, 1, 3, 3)).shape == (2, 1, 2, 2)


def test_nngp_is_the_frobenius_norm_of_the_correlations():
    logits = torch.randn(6, 5, dtype=torch.float64)
    expected = torch.linalg.matrix_norm(torch.corrcoef(logits))
    assert pruning.nngp_frobenius(logits) == pytest.approx(float(expected))


def test_leave_one_out_scores_every_operation_that_can_go():
    mask = thin_mask("skip_connect")
    mask["normal"][3][NONE] = mask["reduction"][0][NONE] = True
    supernet = network(mask, edge_normalization=True, partial_channels=2)
    batches = [images(seed=seed) for seed in range(2)]
    scores = pruning.leave_one_out_scores(supernet, batches, mask)
    places = [("normal", 3), ("reduction", 0)]
    assert list(scores) == [(*place, o) for place in places for o in (NONE, SKIP)]
    assert all(math.isfinite(score) for score in scores.values())
    # To leave `none` out is to give all of the edge to the other operation.
    mixing = pruning.uniform_mixing(mask, batches[0])
    base = pruning.rank(supernet, batches, mixing)
    mixing["normal"][3] = torch.eye(len(OPERATIONS))[SKIP]
    without = pruning.rank(supernet, batches, mixing)
    assert scores["normal", 3, NONE] == pytest.approx((base - without) / base)


def column_scores(mask):
    """A later operation is the better one."""
    return {
        (kind, edge, o): float(o)
        for kind in CELL_TYPES
        for edge, row in enumerate(mask[kind])
        for o in pruning.remaining(row)
    }


@pytest.mark.parametrize(
    ("xi", "measure", "per_round", "left"),
    [
        (0.5, "architectures", 1, [8, 7]),
        (0.5, "operations", 1, [8, 7, 6, 5, 4]),
        (0.5, "operations", 3, [8, 5, 2]),
        (0.01, "operations", 3, [8, 5, 2, 1]),
        (1.0, "operations", 1, [8]),
    ],
)
def test_algorithm1_stops_at_its_level_and_empties_no_edge(xi, measure, per_round, left):
    masks = pruning.algorithm1(column_scores, full_mask(), xi, measure, per_round)
    assert len(masks) == len(left)
    for mask, count in zip(masks, left, strict=True):
        for kind in CELL_TYPES:
            assert mask[kind] == [[o >= 8 - count for o in range(8)]] * len(EDGES)


def test_one_round_leaves_two_percent_of_the_architectures():
    after = pruning.algorithm1(column_scores, full_mask(), 0.5)[-1]
    assert pruning.level(after, "architectures") == pytest.approx((7 / 8) ** 28)
    assert pruning.level(after, "operations") == pytest.approx(7 / 8)


def test_beta_decay_is_the_mean_of_logsumexp_over_what_remains():
    supernet = network(random_mask())
    counts = [sum(row) for kind in CELL_TYPES for row in supernet.mask[kind]]
    expected = 0.5 * 7 * sum(math.log(count) for count in counts) / len(counts)
    term = search.beta_decay(supernet.alpha, supernet.mask, epoch=7)
    assert float(term.detach()) == pytest.approx(expected)


def test_first_order_steps_are_those_of_torchs_optimizers():
    labels = torch.tensor([0, 1, 2, 3])
    training, validation = (images(seed=1), labels), (images(seed=2), labels.flip(0))
    ours = network(random_mask(), edge_normalization=True).double()
    theirs = copy.deepcopy(ours)
    weight_names, architecture_names = search.split(theirs)
    named = dict(theirs.named_parameters())
    weights = [named[name] for name in weight_names]
    architecture = [named[name] for name in architecture_names]
    sgd = torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=3e-4)
    adam = torch.optim.Adam(architecture, 6e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    velocity, state = [], {}
    for epoch in range(2):
        search.first_order_step(
            ours,
            (training[0].double(), labels),
            (validation[0].double(), validation[1]),
            velocity,
            state,
            epoch=epoch,
            decay_scale=0.5,
        )
        adam.zero_grad()
        loss = cross_entropy(theirs(validation[0].double()), validation[1])
        (loss + search.beta_decay(theirs.alpha, theirs.mask, epoch)).backward()
        adam.step()
        sgd.zero_grad()
        cross_entropy(theirs(training[0].double()), labels).backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        sgd.step()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, named[name], rtol=1e-9, atol=1e-12)


def test_unrolled_gradient_is_the_derivative_through_the_step():
    # L_train = (w − α)² / 2 and L_val = w² / 2: w' = w − ξ(w − α), dL_val/dα = ξ w'.
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (gradient,) = search.unrolled_gradient(
        lambda ws, alphas: (ws[0] - alphas[0]) ** 2 / 2,
        lambda ws, _: ws[0] ** 2 / 2,
        [w],
        [a],
        0.1,
        velocity=[torch.tensor(0.3)],
        weight_decay=0.01,
    )
    ahead = 2.0 - 0.1 * (1.5 + 0.01 * 2.0 + 0.3)
    assert float(gradient) == pytest.approx(0.1 * ahead)


def test_second_order_gradient_is_the_slope_of_the_loss_after_the_step():
    labels = torch.tensor([0, 1, 2, 3])
    supernet = network(random_mask(), cells=1, channels=2, classes=4).double()
    training, validation = ((images(seed=seed).double(), labels) for seed in (1, 2))
    gradient = search.second_order_gradient(supernet, training, validation, xi=0.1)
    direction = torch.randn(len(EDGES), len(OPERATIONS), dtype=torch.float64)

    def after_the_step(shift):
        moved = copy.deepcopy(supernet)
        with torch.no_grad():
            moved.alpha["normal"].add_(shift * direction)
        named = dict(moved.named_parameters())
        weights = [named[name] for name in search.split(moved)[0]]
        loss = cross_entropy(moved(training[0]), labels)
        step = search.gradients(loss, weights)
        with torch.no_grad():
            for weight, g in zip(weights, step, strict=True):
                weight.sub_(0.1 * g)
        return float(cross_entropy(moved(validation[0]), labels).detach())

    slope = (after_the_step(1e-5) - after_the_step(-1e-5)) / 2e-5
    expected = float((gradient["alpha.normal"] * direction).sum())
    assert slope == pytest.approx(expected, rel=1e-5)
    assert not gradient["alpha.reduction"].any()
