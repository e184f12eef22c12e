import pytest
import torch

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
