import functools

import pytest
import torch

from tests.reference import methods as reference
from zostudy.networks.mixing import masked_softmax
from zostudy.registry import components
from zostudy.search import relaxations

EDGES, OPERATIONS = 9, 6
RELAXATIONS = components("relaxation")
every_relaxation = pytest.mark.parametrize("name", RELAXATIONS)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
PRECISION = {torch.float32: 2e-5, torch.float64: 1e-9}


def given(dtype=torch.float64, scale=1.0):
    """α, and a mask that leaves all, some and one of the operations."""
    generator = torch.Generator().manual_seed(1)
    alpha = scale * torch.randn(EDGES, OPERATIONS, generator=generator, dtype=torch.float64)
    mask = torch.rand(EDGES, OPERATIONS, generator=generator) < 0.6
    mask[0], mask[1] = True, False
    mask[:, 3] = True
    return (alpha * mask).to(dtype).requires_grad_(), mask


def draw(seed=5):
    return torch.Generator().manual_seed(seed)


def uniform():
    return torch.rand(EDGES, OPERATIONS, generator=draw(), dtype=torch.float64)


def upstream():
    generator = torch.Generator().manual_seed(9)
    return torch.randn(EDGES, OPERATIONS, generator=generator, dtype=torch.float64)


def pulled_back(weights, alpha):
    return torch.autograd.grad((weights * upstream().to(weights)).sum(), alpha)[0]


def assert_near(ours, theirs, dtype=torch.float64):
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    torch.testing.assert_close(
        ours.detach().double(), theirs, rtol=PRECISION[dtype], atol=PRECISION[dtype]
    )


@every_relaxation
@both_precisions
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_masked_weights_are_exactly_0_and_so_are_their_gradients(name, dtype, progress):
    alpha, mask = given(dtype)
    weights = RELAXATIONS[name].load()(alpha, mask, progress, draw())
    assert weights.dtype == dtype
    assert torch.all(weights[~mask] == 0)
    assert torch.all(weights >= 0)
    if name != "sigmoid":
        torch.testing.assert_close(weights.sum(1), torch.ones(EDGES, dtype=dtype))
    if weights.requires_grad:
        gradient = pulled_back(weights, alpha)
        assert torch.isfinite(gradient).all()
        assert torch.all(gradient[~mask] == 0)


@every_relaxation
@pytest.mark.parametrize("value", [-100.0, -20.0, 30.0])
@both_precisions
def test_extreme_parameters_give_finite_weights_and_gradients(name, value, dtype):
    alpha = torch.zeros(3, 5, dtype=dtype)
    alpha[0], alpha[1, 0] = value, value
    alpha.requires_grad_()
    mask = torch.tensor([[True] * 5, [True] * 5, [True] + [False] * 4])
    weights = RELAXATIONS[name].load()(alpha, mask, 1.0, draw())
    assert torch.isfinite(weights).all()
    strength = RELAXATIONS[name].facts.get("strength")
    if strength:
        assert torch.isfinite(RELAXATIONS[name].sibling(strength)(alpha, mask)).all()
    if weights.requires_grad:
        (gradient,) = torch.autograd.grad((weights * torch.arange(5)).sum(), alpha)
        assert torch.isfinite(gradient).all()


@every_relaxation
def test_the_same_generator_draws_the_same(name):
    alpha, mask = given()
    relax = functools.partial(RELAXATIONS[name].load(), alpha, mask, 0.3)
    assert torch.equal(relax(draw()), relax(draw()))
    drawn = name not in ("softmax", "sigmoid")
    assert drawn != torch.equal(relax(draw()), relax(draw(6)))


@every_relaxation
def test_a_path_is_one_1_an_edge_where_the_declaration_says_so(name):
    alpha, mask = given(torch.float32)
    weights = RELAXATIONS[name].load()(alpha, mask, 0.5, draw())
    exact = torch.all((weights == 0) | (weights == 1)) and torch.all(weights.sum(1) == 1)
    assert bool(exact) == bool(RELAXATIONS[name].facts.get("paths"))


@both_precisions
def test_softmax_is_that_of_the_supernet_bit_for_bit(dtype):
    alpha, mask = given(dtype)
    weights = relaxations.softmax(alpha, mask, 0.5, draw())
    assert torch.equal(weights, masked_softmax(alpha, mask))
    assert_near(weights, reference.softmax(alpha.tolist(), mask.tolist()), dtype)


@both_precisions
def test_sigmoid_does_not_compete(dtype):
    alpha, mask = given(dtype)
    weights = relaxations.sigmoid(alpha, mask, 0.5, draw())
    assert_near(weights, reference.sigmoid(alpha.tolist(), mask.tolist()), dtype)
    slopes = torch.where(mask, weights * (1 - weights), 0).detach()
    assert_near(pulled_back(weights, alpha), slopes.double() * upstream(), dtype)


@both_precisions
@pytest.mark.parametrize(("progress", "temperature"), [(0, 1.0), (0.5, 0.03**0.5), (1, 0.03)])
def test_snas_is_the_concrete_distribution_at_a_temperature_that_falls(
    dtype, progress, temperature
):
    alpha, mask = given(dtype)
    weights = relaxations.snas(alpha, mask, progress, draw())
    expected = reference.concrete(alpha.tolist(), mask.tolist(), uniform(), temperature)
    slopes = [reference.softmax_slope(row, temperature) for row in expected]
    gradient = reference.pulled_back(slopes, upstream().tolist())
    rounding = PRECISION[dtype] / temperature**2
    torch.testing.assert_close(
        weights.double().detach(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=0,
        atol=rounding,
    )
    torch.testing.assert_close(
        pulled_back(weights, alpha).double(),
        torch.tensor(gradient, dtype=torch.float64),
        rtol=0,
        atol=rounding,
    )


@both_precisions
@pytest.mark.parametrize(("progress", "temperature"), [(0, 10.0), (0.5, 5.05), (1, 0.1)])
def test_gdas_draws_a_path_and_has_the_gradient_of_the_soft_one(dtype, progress, temperature):
    alpha, mask = given(dtype)
    weights = relaxations.gdas(alpha, mask, progress, draw())
    soft = reference.concrete(alpha.tolist(), mask.tolist(), uniform(), temperature)
    assert weights.tolist() == reference.path(soft)
    gradient = reference.gdas_gradient(
        alpha.tolist(), mask.tolist(), uniform(), temperature, upstream().tolist()
    )
    rounding = PRECISION[dtype] / min(1, temperature) ** 2
    torch.testing.assert_close(
        pulled_back(weights, alpha).double(),
        torch.tensor(gradient, dtype=torch.float64),
        rtol=0,
        atol=rounding,
    )


@both_precisions
@pytest.mark.parametrize("temperature", [1.0, 1.3, 5.0])
def test_reinmax_has_the_gradient_of_its_second_algorithm(dtype, temperature):
    alpha, mask = given(dtype)
    weights = relaxations.reinmax(alpha, mask, 0.5, draw(), temperature=temperature)
    soft = reference.concrete(alpha.tolist(), mask.tolist(), uniform(), 1.0)
    assert weights.tolist() == reference.path(soft)
    gradient = reference.reinmax_gradient(
        alpha.tolist(), mask.tolist(), weights.tolist(), temperature, upstream().tolist()
    )
    assert_near(pulled_back(weights, alpha), gradient, dtype)


def test_paths_are_drawn_with_the_probabilities_of_the_softmax():
    row, mask = torch.tensor([[1.0, 0.0, -1.0, 0.5]]), torch.tensor([[True, True, True, False]])
    count = 20_000
    many, masks = row.expand(count, 4), mask.expand(count, 4)
    expected = torch.tensor(reference.softmax(row.tolist(), mask.tolist()))[0]
    for relax in (relaxations.gdas, relaxations.reinmax):
        share = relax(many, masks, 0.7, draw()).mean(0)
        torch.testing.assert_close(share, expected, rtol=0, atol=0.015)
    share = relaxations.uniform_path(many, masks, 0.7, draw()).mean(0)
    torch.testing.assert_close(share, mask[0] / 3, rtol=0, atol=0.015)


def test_reinmax_is_nearer_to_the_true_gradient_than_straight_through():
    """Of the mean of a quadratic function of the path, which is known exactly."""
    generator = torch.Generator().manual_seed(2)
    row = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    costs = torch.randn(4, generator=generator, dtype=torch.float64)
    bend = torch.randn(4, 4, generator=generator, dtype=torch.float64)

    def value(weights):
        return weights @ costs + ((weights @ bend) * weights).sum(1)

    share = row[0].softmax(0)
    per_path = value(torch.eye(4, dtype=torch.float64))
    truth = share * (per_path - (share * per_path).sum())
    alpha = row.expand(40_000, 4).clone().requires_grad_()
    mask = torch.ones(40_000, 4, dtype=torch.bool)
    errors = {}
    for name, options in (("reinmax", {}), ("gdas", {"last_temperature": 1.0})):
        weights = RELAXATIONS[name].load()(alpha, mask, 1.0, draw(), **options)
        (gradient,) = torch.autograd.grad(value(weights).sum(), alpha)
        errors[name] = float((gradient.mean(0) - truth).norm())
    assert errors["reinmax"] < 0.03 * float(truth.norm())
    assert errors["reinmax"] < 0.3 * errors["gdas"]


@both_precisions
def test_dirichlet_is_a_ratio_of_gamma_variates_with_their_implicit_gradient(dtype):
    alpha, mask = given(dtype)
    weights = relaxations.dirichlet(alpha, mask, 0.5, draw())
    concentrations = [[reference.concentration(v) for v in row] for row in alpha.tolist()]
    gamma = torch._standard_gamma(
        torch.tensor(concentrations, dtype=torch.float64), generator=draw()
    )
    assert_near(weights, reference.dirichlet(alpha.tolist(), mask.tolist(), gamma), dtype)
    expected = reference.dirichlet_gradient(
        alpha.tolist(), mask.tolist(), gamma, upstream().tolist()
    )
    found, expected = (
        pulled_back(weights, alpha).double(),
        torch.tensor(expected, dtype=torch.float64),
    )
    # torch's own approximation of the derivative is good to some 10⁻⁴.
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4)


def test_the_mean_of_dirichlet_draws_and_of_their_gradient_is_known():
    row = torch.tensor([[0.8, -0.7, 0.0, 0.3]], dtype=torch.float64)
    kept = torch.tensor([[True, True, True, False]])
    count = 40_000
    alpha = row.expand(count, 4).clone().requires_grad_()
    weights = relaxations.dirichlet(alpha, kept.expand(count, 4), 0.5, draw())
    mean = relaxations.dirichlet_mean(row, kept)
    torch.testing.assert_close(weights.detach().mean(0), mean[0], rtol=0, atol=0.005)
    (gradient,) = torch.autograd.grad((weights[:, 0] ** 2).sum(), alpha)
    one = row.clone().requires_grad_()
    own = torch.nn.functional.elu(one[0, :3]) + 1
    second_moment = own[0] * (own[0] + 1) / (own.sum() * (own.sum() + 1))
    (expected,) = torch.autograd.grad(second_moment, one)
    torch.testing.assert_close(gradient.mean(0), expected[0], rtol=0, atol=0.005)
