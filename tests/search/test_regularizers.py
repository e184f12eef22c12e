import pytest
import torch

from tests.reference import methods
from tests.reference import search as reference
from zostudy.registry import components
from zostudy.search import regularizers


def alpha_and_mask():
    generator = torch.Generator().manual_seed(0)
    alpha = torch.randn(28, 8, generator=generator)
    mask = torch.rand(28, 8, generator=generator) < 0.5
    mask[:, 2] = True
    return alpha.requires_grad_(), mask


@pytest.mark.parametrize("name", components("regularizer"))
def test_every_regularizer_is_a_finite_scalar_that_leaves_masked_entries_alone(name):
    alpha, mask = alpha_and_mask()
    term = components("regularizer")[name].load()(alpha, mask, 3, 10)
    assert term.shape == ()
    assert torch.isfinite(term)
    if term.requires_grad:
        term.backward()
        assert torch.all(alpha.grad[~mask] == 0)
        assert torch.isfinite(alpha.grad).all()


@pytest.mark.parametrize("epoch", [0, 1, 30])
@pytest.mark.parametrize("epochs", [8, 50, 100])
def test_beta_decay_has_the_public_schedule_whatever_the_length_of_the_search(epoch, epochs):
    alpha, mask = alpha_and_mask()
    ours = regularizers.beta_decay(alpha, mask, epoch, epochs)
    theirs = reference.beta_decay(
        {"normal": alpha[:14], "reduction": alpha[14:]},
        {"normal": mask[:14].tolist(), "reduction": mask[14:].tolist()},
        epoch,
        scale=0.5,
    )
    assert float(ours.detach()) == pytest.approx(float(torch.as_tensor(theirs).detach()), rel=1e-5)


def test_a_constant_schedule_does_not_depend_on_the_epoch():
    alpha, mask = alpha_and_mask()
    first = regularizers.beta_decay(alpha, mask, 0, 50, weight=2.0, schedule="constant")
    last = regularizers.beta_decay(alpha, mask, 49, 50, weight=2.0, schedule="constant")
    assert torch.equal(first, last)
    assert float(first.detach()) > 0


def lists(alpha, mask):
    return alpha.double().tolist(), mask.tolist()


def test_zero_one_is_the_formula_of_fairdarts():
    alpha, mask = alpha_and_mask()
    term = regularizers.zero_one(alpha, mask, 3, 10, weight=7.0)
    assert float(term.detach()) == pytest.approx(
        7 * methods.zero_one(*lists(alpha, mask)), rel=1e-5
    )
    term.backward()
    away = torch.where(mask, alpha.sign(), 0)  # a step against the gradient leaves ½ further behind
    assert torch.all((-alpha.grad * away) >= 0)


def test_the_anchor_is_the_divergence_from_the_flat_dirichlet():
    alpha, mask = alpha_and_mask()
    mask[0] = torch.tensor([column == 2 for column in range(8)])
    term = regularizers.dirichlet_anchor(alpha, mask, 3, 10, weight=0.5)
    expected = 0.5 * methods.dirichlet_anchor(*lists(alpha, mask))
    assert float(term.detach()) == pytest.approx(expected, rel=1e-4)
    flat = regularizers.dirichlet_anchor(torch.zeros(28, 8), mask, 3, 10)
    assert float(flat) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [-100.0, -20.0, 30.0])
def test_the_anchor_of_extreme_parameters_is_finite(value):
    alpha = torch.full((2, 5), value, requires_grad=True)
    term = regularizers.dirichlet_anchor(alpha, torch.ones(2, 5, dtype=torch.bool), 0, 1)
    term.backward()
    assert torch.isfinite(term)
    assert torch.isfinite(alpha.grad).all()


@pytest.mark.parametrize("epoch", [0, 4, 10])
def test_entropy_rises_with_the_epochs_and_lets_edges_decide(epoch):
    alpha, mask = alpha_and_mask()
    term = regularizers.entropy(alpha, mask, epoch, 10, weight=2.0)
    expected = 2 * epoch / 10 * methods.entropy(*lists(alpha, mask))
    assert float(term.detach()) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(term, alpha)
    moved = alpha.detach() - 0.1 * gradient
    after = regularizers.entropy(moved, mask, epoch, 10, weight=2.0)
    assert float(after) < float(term.detach()) or epoch == 0


@pytest.mark.parametrize("epoch", [0, 5, 20])
def test_the_linear_schedule_reaches_its_weight_at_the_end(epoch):
    alpha, mask = alpha_and_mask()
    constant = regularizers.beta_decay(alpha, mask, epoch, 20, weight=3.0, schedule="constant")
    linear = regularizers.beta_decay(alpha, mask, epoch, 20, weight=3.0, schedule="linear")
    assert float(linear.detach()) == pytest.approx(epoch / 20 * float(constant.detach()))
