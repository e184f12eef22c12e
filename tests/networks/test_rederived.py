"""What a drawn path derives again in the backward pass: the same bits in less memory."""

import contextlib

import pytest
import torch

from tests.methods import SPACES, batch, learner, mask_of, settings
from zostudy.networks import supernet as supernets
from zostudy.networks.memory import LiveBytes
from zostudy.networks.rederived import derived, rederiving


def gradients_and_peak(space, share, *, changes, size, side):
    chosen = settings(relaxation="gdas", **changes)
    found = learner(mask_of(SPACES[space], share), chosen, **size)
    seen = []
    for own in (found.architecture_optimizer, found.weight_optimizer):
        parameters = own.param_groups[0]["params"]
        own.step = lambda given=parameters: seen.append(
            [None if p.grad is None else p.grad.clone() for p in given]
        )
    with LiveBytes(*found.held()) as live:
        figures = found.step(batch(1, side=side), batch(2, side=side), epoch=1)
    return [*figures, *(one for part in seen for one in part)], live.peak


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("share", "changes", "size"),
    [
        ("full", {}, {"channels": 4}),
        ("full", {"drop_path": 0.3, "auxiliary_skip": "linear"}, {"channels": 16}),
        ("half", {"order": "second"}, {"channels": 8, "k": 4, "normalize": True}),
        ("half", {}, {"channels": 32, "k": 2, "split": "attention"}),
    ],
)
def test_the_bits_are_those_of_keeping_everything(space, share, changes, size, monkeypatch):
    given = {"changes": changes, "size": {"cells": 3, **size}, "side": 9}
    ours, less = gradients_and_peak(space, share, **given)
    monkeypatch.setattr(supernets, "rederiving", lambda _: contextlib.nullcontext())
    kept, more = gradients_and_peak(space, share, **given)
    for one, other in zip(ours, kept, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert less < more


def test_a_value_is_computed_again_from_what_is_kept_and_only_in_the_context():
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    x = torch.ones(3, requires_grad=True)
    for inside, count in ((True, 2), (False, 1)):
        calls.clear()
        with rederiving(inside):
            y = derived(double, x)
            z = (y[1:] * y[1:]).sum()
        z.backward()
        assert torch.equal(x.grad, torch.tensor([0.0, 8.0, 8.0]))
        assert len(calls) >= count
        assert (len(calls) == 1) == (not inside)
        x.grad = None


def test_a_derived_value_of_derived_values_keeps_the_first_alone():
    x = torch.rand(1000, requires_grad=True)
    with LiveBytes(x) as live, rederiving(True):
        y = derived(torch.exp, derived(torch.sin, x))
        total = y.sum()
        del y
    assert live.current < 2 * 4000
    total.backward()
    torch.testing.assert_close(x.grad, x.cos() * x.sin().exp())


def test_nothing_is_derived_again_without_a_gradient():
    with torch.no_grad(), rederiving(True):
        assert derived(torch.exp, torch.zeros(2)).tolist() == [1, 1]
