import functools
import itertools
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.checkpoints import MemoryCheckpoint
from tests.reference import search as reference
from tests.reference.pairing import reference_of
from zostudy.config.search import ArchitectureOptimizerSettings, RegularizerSettings, SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.config.training import AugmentSettings, SGDSettings
from zostudy.data.batches import training_batches
from zostudy.errors import NumericalError
from zostudy.networks.mixing import Mixing
from zostudy.registry import components
from zostudy.runtime import Runtime, seeded
from zostudy.search import learner, session
from zostudy.search.bilevel import search
from zostudy.search.discretize import discretize
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import NoCheckpoint, StageContext, silent

SPACE = search_space("darts")
SUPERNET = SupernetSettings(cells=3, channels=2, partial_channels=2, edge_normalization=True)


def mask_of(space, thirds=2):
    """A share of the operations, each of them somewhere."""
    rows = {
        kind: tuple(
            tuple((edge + column + shift) % 3 < thirds for column in range(len(space.operations)))
            for edge in range(len(space.edges))
        )
        for shift, kind in enumerate(space.cell_types)
    }
    return OperationMask(space, rows)


MASK = mask_of(SPACE, thirds=1)


def settings(**changes):
    return SearchSettings(
        **{
            "epochs": 3,
            "warmup_epochs": 1,
            "batch_size": 16,
            "architecture": ArchitectureOptimizerSettings(learning_rate=0.05),
            "regularizer": RegularizerSettings(
                name="beta_decay", options={"weight": 1.0, "schedule": "linear"}
            ),
            "augment": AugmentSettings(crop_padding=1, flip=True),
        }
        | changes
    )


def context(checkpoint=None, report=silent, precision="fp32", seed=0):
    runtime = Runtime(torch.device("cpu"), precision)
    return StageContext(runtime, seed, checkpoint or NoCheckpoint(), report)


@pytest.fixture(scope="module")
def undisturbed(small_dataset):
    """Whole searches by their order, and their checkpoints."""

    @functools.cache
    def run(order="first"):
        checkpoint = MemoryCheckpoint()
        chosen = settings(order=order)
        return search(MASK, small_dataset, SUPERNET, chosen, context(checkpoint)), checkpoint

    return run


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "darts"))
        for name in components("search_space")
    ],
)
@pytest.mark.usefixtures("double")
def test_five_epochs_are_those_of_the_plain_formulas(name, small_dataset):
    mask = mask_of(search_space(name))
    chosen = settings(epochs=5, warmup_epochs=2)
    result = search(mask, small_dataset, SUPERNET, chosen, context())
    expected = plain_search(mask, small_dataset, chosen)
    assert result.genotype == discretize(expected, mask)
    for kind in mask.rows:
        ours = torch.tensor(result.alpha_history[-1][kind])
        torch.testing.assert_close(ours, expected.operations[kind].detach(), rtol=1e-6, atol=1e-9)


def plain_search(mask, dataset, chosen):
    """The same search by the per-edge supernet and formulas of tests/reference."""
    ours = session.Session(mask, dataset, SUPERNET, chosen, context())
    network = reference_of(ours.supernet, SUPERNET, 1, 3)
    parts = dataset.search_parts(0.5)
    weights, architecture = (
        (part, seeded("cpu", 0, stream))
        for part, stream in zip(
            parts, (session._WEIGHT_BATCHES, session._ARCHITECTURE_BATCHES), strict=True
        )
    )

    def batches(part):
        pictures, generator = part
        device = torch.device("cpu")
        return training_batches(
            dataset, pictures, chosen.batch_size, chosen.augment, generator, device
        )

    velocity, state = [], {}
    for epoch in range(chosen.epochs):
        rate = 0.1 * (1 + math.cos(math.pi * epoch / chosen.epochs)) / 2
        others = itertools.chain.from_iterable(batches(architecture) for _ in itertools.count())
        for batch in batches(weights):
            if epoch >= chosen.warmup_epochs:
                reference.architecture_step(
                    network,
                    next(others),
                    state,
                    epoch=epoch,
                    decay_scale=1.0 / chosen.epochs,
                    lr=chosen.architecture.learning_rate,
                )
            reference.weight_step(network, batch, velocity, lr=rate)
    return Mixing(
        {kind: network.mixing(kind) for kind in mask.rows},
        {kind: network.edge_weights(kind) for kind in mask.rows},
    )


def test_warm_up_leaves_alpha_alone_and_the_search_then_moves_it(undisturbed):
    result, _ = undisturbed()
    first, second, third = result.alpha_history
    for kind in SPACE.cell_types:
        before = torch.tensor(first[kind])
        counts = torch.tensor(MASK.rows[kind]).sum(1, keepdim=True)
        torch.testing.assert_close(
            before, torch.tensor(MASK.rows[kind]) / counts, rtol=0, atol=1e-3
        )
        assert not torch.allclose(torch.tensor(second[kind]), torch.tensor(third[kind]))
    assert "architecture_loss" not in result.history[0]
    assert "architecture_loss" in result.history[1]
    assert result.peak_bytes > 0


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_mask_that_lets_nothing_through_leaves_alpha_as_it_is(order, small_dataset):
    space = search_space("nasbench201")
    only_zero = tuple(name == space.zero for name in space.operations)
    rows = tuple(only_zero if target == 3 else (True,) * 5 for _, target in space.edges)
    mask = OperationMask(space, {"normal": rows})
    chosen = settings(epochs=2, regularizer=RegularizerSettings(), order=order)
    chosen = chosen.model_copy(
        update={"architecture": ArchitectureOptimizerSettings(weight_decay=0)}
    )
    supernet = SupernetSettings(cells=1, channels=2)
    result = search(mask, small_dataset, supernet, chosen, context())
    first, last = (torch.tensor(epoch["normal"]) for epoch in result.alpha_history)
    torch.testing.assert_close(first, last, rtol=0, atol=0)
    assert result.genotype.cells["normal"][2] == (("none", 0), ("none", 1), ("none", 2))


@pytest.mark.parametrize("order", ["first", pytest.param("second", marks=pytest.mark.slow)])
def test_an_interrupted_search_goes_on_bit_for_bit(small_dataset, undisturbed, order):
    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.done == 2:
            raise StoppedError

    chosen = settings(order=order)
    checkpoint = MemoryCheckpoint()
    with pytest.raises(StoppedError):
        search(MASK, small_dataset, SUPERNET, chosen, context(checkpoint, stop))
    torch.manual_seed(99)  # what happened in between leaves no trace
    resumed = search(MASK, small_dataset, SUPERNET, chosen, context(checkpoint))
    expected, whole = undisturbed(order)
    assert resumed.genotype == expected.genotype
    assert resumed.alpha_history == expected.alpha_history
    assert resumed.history == expected.history
    assert resumed.peak_bytes == expected.peak_bytes
    for name, tensor in whole.state["supernet"].items():
        assert torch.equal(tensor, checkpoint.state["supernet"][name])


def test_another_seed_gives_another_search(small_dataset, undisturbed):
    one, _ = undisturbed()
    two = search(MASK, small_dataset, SUPERNET, settings(), context(seed=1))
    assert one.alpha_history != two.alpha_history


@pytest.mark.usefixtures("double")
def test_micro_batches_follow_the_mean_of_their_gradients(small_dataset):
    generator = torch.Generator().manual_seed(0)
    batch, other = (
        (torch.randn(16, 1, 8, 8, generator=generator), torch.arange(16) % 3) for _ in range(2)
    )

    def gradients(accumulate, part):
        """Of weights and α, as the optimizers find them."""
        chosen = settings(accumulate=accumulate, batch_size=16, weights=SGDSettings(clip_norm=1e9))
        found = session.Session(MASK, small_dataset, SUPERNET, chosen, context()).learner
        seen = []
        for optimizer, parameters in (
            (found.weight_optimizer, found.weights),
            (found.architecture_optimizer, found.architecture),
        ):
            optimizer.step = lambda held=parameters: seen.extend(p.grad.clone() for p in held)
        losses, _ = found.step(*((x[part], y[part]) for x, y in (batch, other)), epoch=1)
        return seen, losses

    whole, losses = gradients(2, slice(16))
    halves = [gradients(1, part) for part in (slice(8), slice(8, 16))]
    assert losses.tolist() == pytest.approx(
        ((halves[0][1] + halves[1][1]) * torch.tensor([0.5, 1, 1])).tolist()
    )
    for one, first, second in zip(whole, halves[0][0], halves[1][0], strict=True):
        torch.testing.assert_close(one, (first + second) / 2)


@pytest.mark.parametrize("order", ["first", pytest.param("second", marks=pytest.mark.slow)])
def test_micro_batches_search_in_less_memory(small_dataset, order):
    sizes = {"order": order, "epochs": 2, "batch_size": 44}
    whole, micro = (
        search(MASK, small_dataset, SUPERNET, settings(**sizes, accumulate=n), context())
        for n in (1, 4)
    )
    assert micro.peak_bytes < 0.6 * whole.peak_bytes
    assert all(math.isfinite(figures["train_loss"]) for figures in micro.history)


def test_without_a_half_of_its_own_alpha_sees_the_pictures_of_the_weights(small_dataset):
    result = search(MASK, small_dataset, SUPERNET, settings(architecture_fraction=0.0), context())
    assert len(result.history) == 3


def test_bf16_searches_too(small_dataset):
    result = search(MASK, small_dataset, SUPERNET, settings(), context(precision="bf16"))
    assert all(math.isfinite(figures["train_loss"]) for figures in result.history)


def test_a_loss_that_is_not_finite_is_an_error_that_names_its_epoch(small_dataset, monkeypatch):
    monkeypatch.setattr(
        learner.functional, "cross_entropy", lambda *a: cross_entropy(*a) * torch.nan
    )
    with pytest.raises(NumericalError, match="search: the loss is nan in epoch 1"):
        search(MASK, small_dataset, SUPERNET, settings(), context())
