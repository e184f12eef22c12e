import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.methods import SPACES, batch, learner, mask_of, settings
from zostudy.networks.mixing import Mixing, masked_softmax
from zostudy.search import curvature


def quadratic(values, parts=(2, 3)):
    """Parameters, and the gradient of a quadratic form of these eigenvalues."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    form = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    parameters = [nn.Parameter(torch.randn(part, dtype=torch.float64)) for part in parts]

    def gradient():
        return list(torch.split(form @ torch.cat([*parameters]).detach(), parts))

    return parameters, gradient


@pytest.mark.parametrize("values", [(5, 1, 0.5, 0, -2), (-4, 1, 1.5, 0.5, 0), (3, 0, 0, 0, 0)])
def test_the_eigenvalue_of_the_largest_size_is_found_with_its_sign(values):
    parameters, gradient = quadratic(values)
    before = [parameter.detach().clone() for parameter in parameters]
    assert curvature.largest_eigenvalue(gradient, parameters) == pytest.approx(values[0], rel=0.02)
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_a_loss_that_does_not_depend_on_the_parameters_has_none_and_moves_none():
    parameters, _ = quadratic((1, 1, 1, 1, 1))
    before = [parameter.detach().clone() for parameter in parameters]
    zeros = [torch.zeros_like(parameter) for parameter in parameters]
    assert curvature.largest_eigenvalue(lambda: zeros, parameters) == 0
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_an_error_of_the_gradient_leaves_the_parameters_where_they_were():
    parameters, _ = quadratic((1, 1, 1, 1, 1))
    before = [parameter.detach().clone() for parameter in parameters]

    def failing():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        curvature.largest_eigenvalue(failing, parameters)
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


@pytest.mark.usefixtures("double")
def test_it_is_the_eigenvalue_of_the_hessian_of_a_supernets_loss(monkeypatch):
    monkeypatch.setattr(curvature, "_ITERATIONS", 60)
    monkeypatch.setattr(curvature, "_STEP", 1e-7)  # between kinks of the ReLUs
    found = learner(mask_of(SPACES["nasbench201"]), settings(batch_size=8))
    supernet, (images, labels) = found.supernet, batch(1, 8)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    value = found.largest_eigenvalue((images, labels), epoch=0)
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name])

    def loss(alpha):
        weights = {"normal": masked_softmax(alpha, supernet.mask_of("normal"))}
        return cross_entropy(supernet(images, Mixing(weights, supernet.edge_weights())), labels)

    alpha = supernet.alpha["normal"].detach()
    hessian = torch.autograd.functional.hessian(loss, alpha).reshape(alpha.numel(), -1)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert value == pytest.approx(float(eigenvalues[eigenvalues.abs().argmax()]), rel=0.01)


@pytest.mark.parametrize("name", ["uniform_path", "gdas"])
def test_it_can_be_asked_of_paths(name):
    found = learner(mask_of(SPACES["nasbench201"]), settings(relaxation=name, batch_size=8))
    before = found.supernet.alpha["normal"].detach().clone()
    value = found.largest_eigenvalue(batch(1, 8), epoch=0)
    assert torch.isfinite(torch.tensor(value))
    assert torch.equal(found.supernet.alpha["normal"], before)
    assert (value == 0) == (name == "uniform_path")
