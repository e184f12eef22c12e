import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.reference import search as reference
from tests.reference.pairing import pairs, reference_of
from zostudy.config.settings import SupernetSettings
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
