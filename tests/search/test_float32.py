"""Steps of the search in float32 against float64; tolerances: tests/arithmetic."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.arithmetic import expected, threads
from tests.networks.test_float32 import Case, built
from tests.reference import search as reference
from tests.reference.pairing import pairs
from tests.search.test_bilevel import settings
from zostudy.config.search import ArchitectureOptimizerSettings
from zostudy.runtime import Runtime
from zostudy.search import steps
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer

pytestmark = pytest.mark.arithmetic

CASES = [
    Case("darts", 5, 2, 3, 1, 9, 3, threads=1, recompute="none"),
    Case("darts", 2, 2, 12, 4, 8, 3, threads=1, recompute="partial"),
    Case("nasbench201", 5, 1, 7, 1, 13, 3, threads=2, recompute="full"),
    Case("nasbench201", 4, 1, 16, 2, 8, 6, threads=1, recompute="none"),
]

#: So small that where Adam's step has the sign of a slope that is all rounding, nothing follows.
_RATE = 1e-7


def batch(case, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(case.batch, 3, case.side, case.side, generator=generator)
    return images, torch.arange(case.batch) % 5


def learner(supernet):
    chosen = settings(architecture=ArchitectureOptimizerSettings(learning_rate=_RATE))
    return Learner(
        supernet, Mixer(supernet, chosen, torch.Generator()), chosen, Runtime(torch.device("cpu"))
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_momenta_of_a_step_are_those_of_the_reference_but_for_rounding(case):
    ours, plain = built(case)
    training, validation = batch(case, 1), batch(case, 2)
    weight_names, architecture_names = reference.split(plain)

    def run():
        network, velocity, state = copy.deepcopy(plain), [], {}
        double = [(images.double(), labels) for images, labels in (training, validation)]
        reference.first_order_step(
            network, *double, velocity, state, epoch=1, decay_scale=1 / 3, lr=_RATE
        )
        names = (*weight_names, *architecture_names)
        return {}, dict(zip(names, (*velocity, *state["first"]), strict=True))

    truth = expected(run, torch.float32)
    steps_of = learner(ours)
    with threads(case.threads):
        steps_of.step(training, validation, epoch=1)
    names, found = {id(p): name for name, p in plain.named_parameters()}, {}
    momenta = {
        parameter: state.get("momentum_buffer", state.get("exp_avg"))
        for optimizer in (steps_of.weight_optimizer, steps_of.architecture_optimizer)
        for parameter, state in optimizer.state.items()
    }
    for mine, index, other in pairs(ours, plain):
        momentum = momenta.get(mine)
        whole = torch.zeros_like(mine) if momentum is None else momentum
        found[names[id(other)]] = whole[index].reshape(other.shape)
    missing = truth.gradients.keys() - found.keys()  # β, where edges are not normalized
    truth.assert_close({}, found | {name: truth.gradients[name] for name in missing})


@pytest.mark.parametrize("case", CASES[2:], ids=str)
def test_a_second_order_gradient_is_that_of_float64_but_for_rounding(case):
    """By the same differences; in float64 they are compared with the derivative itself."""
    ours, _ = built(case)
    batches = SimpleNamespace(training=batch(case, 1), validation=batch(case, 2))

    def gradient(supernet):
        dtype = supernet.classifier.weight.dtype

        def loss(pair):
            return lambda: iter([cross_entropy(supernet(pair[0].to(dtype)), pair[1])])

        weights, architecture = supernet.weight_parameters(), supernet.architecture_parameters()
        optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=3e-4)
        found, _ = steps.second_order(
            loss(batches.validation), loss(batches.training), architecture, weights, optimizer
        )
        return {str(number): tensor for number, tensor in enumerate(found)}

    plain = built(Case(**{**vars(case), "recompute": "none"}))[0].double()
    truth = expected(lambda: ({}, gradient(plain)), torch.float32)
    with threads(case.threads):
        found = gradient(ours)
    truth.assert_close({}, found)
