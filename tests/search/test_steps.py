import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods import SPACES, learner, mask_of, settings
from tests.methods import batch as methods_batch
from tests.reference import methods as methods_reference
from tests.reference import search as reference
from tests.reference.pairing import pairs, reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.networks.mixing import Mixing, masked_softmax
from zostudy.networks.supernet import Supernet
from zostudy.search import steps
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
SETTINGS = SupernetSettings(cells=1, channels=2, partial_channels=2, edge_normalization=True)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 1, 8, 8, generator=generator), torch.arange(6) % 3


def network():
    torch.manual_seed(0)
    supernet = Supernet(SPACE, OperationMask.full(SPACE), SETTINGS, in_channels=1, classes=3)
    with torch.no_grad():
        for parameter in supernet.architecture_parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return supernet


def losses(supernet, training, validation):
    return (
        lambda: iter([cross_entropy(supernet(validation[0]), validation[1])]),
        lambda: iter([cross_entropy(supernet(training[0]), training[1])]),
    )


@pytest.mark.usefixtures("double")
def test_second_order_is_the_exact_unrolled_gradient_up_to_the_finite_difference(monkeypatch):
    monkeypatch.setattr(steps, "_FINITE_STEP", 1e-6)
    supernet, training, validation = network(), batch(1), batch(2)
    plain = reference_of(supernet, SETTINGS, 1, 3)
    weights, architecture = supernet.weight_parameters(), supernet.architecture_parameters()
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=3e-4)
    before = [w.detach().clone() for w in weights]
    found, _ = steps.second_order(
        *losses(supernet, training, validation), architecture, weights, optimizer
    )
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
    expected = reference.second_order_gradient(plain, training, validation, 0.05, weight_decay=3e-4)
    names = {id(p): name for name, p in plain.named_parameters()}
    theirs = {
        id(mine): expected[names[id(other)]]
        for mine, _, other in pairs(supernet, plain)
        if names[id(other)] in expected
    }
    first, _ = steps.gradients(losses(supernet, training, validation)[0], architecture)
    scale = max(float(theirs[id(p)].abs().max()) for p in architecture)
    for parameter, gradient, plain_gradient in zip(architecture, found, first, strict=True):
        error = float((gradient - theirs[id(parameter)]).abs().max())
        assert error < 1e-5 * scale
        assert error <= float((plain_gradient - theirs[id(parameter)]).abs().max())


@pytest.mark.usefixtures("double")
def test_momentum_is_part_of_the_unrolled_step():
    supernet, training, validation = network(), batch(1), batch(2)
    weights, architecture = supernet.weight_parameters(), supernet.architecture_parameters()
    optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
    without, _ = steps.second_order(
        *losses(supernet, training, validation), architecture, weights, optimizer
    )
    for weight in weights:
        optimizer.state[weight]["momentum_buffer"] = torch.randn_like(weight)
    with_momentum, _ = steps.second_order(
        *losses(supernet, training, validation), architecture, weights, optimizer
    )
    assert not torch.allclose(without[0], with_momentum[0])


@pytest.mark.usefixtures("double")
def test_the_first_order_gradient_is_that_of_the_per_edge_formulation():
    supernet, validation = network(), batch(2)
    plain = reference_of(supernet, SETTINGS, 1, 3)
    cross_entropy(plain(validation[0]), validation[1]).backward()
    found, _ = steps.gradients(
        losses(supernet, validation, validation)[0], supernet.architecture_parameters()
    )
    theirs = {id(mine): other.grad for mine, _, other in pairs(supernet, plain)}
    for parameter, gradient in zip(supernet.architecture_parameters(), found, strict=True):
        expected = theirs[id(parameter)]
        expected = torch.zeros_like(gradient) if expected is None else expected
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


class Harmony:
    """A supernet of three cells of one type, and its loss under offsets."""

    def __init__(self, recompute="none"):
        self.mask = mask_of(SPACES["nasbench201"])
        self.supernet = learner(self.mask, settings(recompute=recompute), channels=2).supernet
        self.images, self.labels = methods_batch(1, 8)

    def loss(self, alpha, offsets):
        weights = {"normal": masked_softmax(alpha, self.supernet.mask_of("normal"))}
        mixing = Mixing(weights, self.supernet.edge_weights(), offsets=offsets)
        return cross_entropy(self.supernet(self.images, mixing), self.labels)

    def gradient(self, strength, groups=((0, 1, 2),)):
        alpha = self.supernet.alpha["normal"]
        found, loss = steps.harmonized(
            lambda offsets: iter([self.loss(alpha, offsets)]),
            [alpha],
            self.supernet.weight_parameters(),
            [alpha.detach()] * 3,
            groups,
            strength,
        )
        return found[0], loss

    def exact(self, strength, groups=((0, 1, 2),)):
        alpha = self.supernet.alpha["normal"].detach().clone().requires_grad_()
        zeros = [torch.zeros_like(alpha)] * 3
        return methods_reference.harmonized_gradient(self.loss, zeros, alpha, groups, strength)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("groups", [((0, 1, 2),), ((0, 2), (1,))])
def test_harmonized_is_the_exact_gradient_up_to_the_finite_difference(monkeypatch, groups):
    """With a step so short that no ReLU switches within it, whose kinks the derivative ignores."""
    monkeypatch.setattr(steps, "_AGREEMENT_STEP", 1e-7)
    own, strength = Harmony(), 0.125
    plain, expected = own.exact(0.0, groups), own.exact(strength, groups)
    found, _ = own.gradient(strength, groups)
    share = (expected - plain).norm()
    assert float(share) > 1e-3 * float(plain.norm())
    assert float((found - expected).norm()) < 1e-4 * float(share)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("recompute", ["partial", "full"])
def test_harmonized_needs_no_second_derivative(recompute):
    own = Harmony(recompute)
    torch.testing.assert_close(own.gradient(0.125)[0], Harmony().gradient(0.125)[0])


@pytest.mark.parametrize("groups", [((0, 1, 2),), ((0,), (1,), (2,))])
def test_harmonized_without_agreement_is_the_first_order_bit_for_bit(groups):
    own = Harmony()
    alpha = own.supernet.alpha["normal"]
    first, loss = steps.gradients(lambda: iter([own.loss(alpha, ())]), [alpha])
    strength = 0.0 if len(groups) == 1 else 0.5  # a cell alone agrees with itself
    found, harmonized_loss = own.gradient(strength, groups)
    assert torch.equal(found, first[0])
    assert torch.equal(loss, harmonized_loss)
