import io
import math

import pytest
import torch

from zostudy.config.settings import EvaluateSettings
from zostudy.config.training import AugmentSettings, SGDSettings
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.errors import NumericalError
from zostudy.evaluation.training import accuracy, evaluate, standalone
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.runtime import Runtime, seeded
from zostudy.space.genotype import from_notation
from zostudy.stage import StageContext

CPU = Runtime(torch.device("cpu"))

GENOTYPE = from_notation(
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 2), ('avg_pool_3x3', 1), ('skip_connect', 2), ('dil_conv_5x5', 2), "
    "('skip_connect', 4)], normal_concat=range(2, 6), reduce=[('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('avg_pool_3x3', 1), "
    "('skip_connect', 2), ('sep_conv_3x3', 0), ('dil_conv_3x3', 4)], reduce_concat=range(2, 6))"
)


class InterruptionError(Exception):
    pass


class FileCheckpoint:
    """A checkpoint as on disk: whole, and read back without unpickling."""

    def __init__(self):
        self.bytes = None

    def load(self):
        if self.bytes is None:
            return None
        return torch.load(io.BytesIO(self.bytes), weights_only=True)

    def save(self, state):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.bytes = buffer.getvalue()


def striped(count, seed, *, channels=1, side=8):
    """Pictures of horizontal (0) and vertical (1) stripes under noise."""
    generator = seeded("cpu", seed)
    labels = torch.arange(count) % 2
    stripes = (torch.arange(side) % 2 * 120).expand(side, side)
    images = torch.stack([stripes.T if label == 0 else stripes for label in labels])
    images = images[:, None].expand(count, channels, side, side)
    noise = torch.randint(0, 130, images.shape, generator=generator)
    return Pictures((images + noise).to(torch.uint8), labels)


def dataset(*, validation=True, channels=1, train=26):
    return Dataset(
        name="stripes",
        classes=("horizontal", "vertical"),
        train=striped(train, 0, channels=channels),
        validation=striped(10, 1, channels=channels) if validation else None,
        test=striped(14, 2, channels=channels),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        seed=0,
        splits={},
        digest="",
    )


def settings(**changes):
    chosen = {
        "cells": 2,
        "channels": 2,
        "epochs": 3,
        "batch_size": 8,
        "weights": SGDSettings(learning_rate=0.05),
        "augment": AugmentSettings(crop_padding=1, flip=True, cutout=2),
    }
    return EvaluateSettings(**chosen | changes)


def context(checkpoint=None, report=lambda _progress: None, seed=0):
    return StageContext(CPU, seed, checkpoint or FileCheckpoint(), report)


def assert_same(first, second):
    assert first.weights.keys() == second.weights.keys()
    for name, tensor in first.weights.items():
        assert torch.equal(tensor, second.weights[name]), name
    assert first.history == second.history
    assert first.validation_accuracy == second.validation_accuracy
    assert first.test_accuracy == second.test_accuracy


def test_learns_to_tell_stripes_apart():
    result = evaluate(
        GENOTYPE,
        dataset(train=64),
        settings(epochs=10, drop_path=0.1, augment=AugmentSettings(flip=False, crop_padding=0)),
        context(),
    )
    assert result.test_accuracy >= 90
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] / 2


def test_a_network_that_nothing_passes_is_trained_to_a_constant():
    nothing = from_notation("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    chosen = settings(cells=1, channels=4, auxiliary_weight=0.0)
    result = evaluate(nothing, dataset(), chosen, context())
    assert result.test_accuracy == 50
    assert result.history[-1]["train_loss"] == pytest.approx(0.69, abs=0.05)


def test_result_holds_cost_figures_and_weights_of_the_network_without_auxiliary_head():
    data = dataset(channels=3)
    result = evaluate(GENOTYPE, data, settings(epochs=1), context())
    network = standalone(GENOTYPE, data, settings())
    network.load_state_dict(result.weights)
    assert accuracy(network, data, data.test, 5, CPU) == result.test_accuracy
    assert result.costs["parameters"] == sum(p.numel() for p in network.parameters())
    assert result.costs["macs"] > 0
    assert result.seconds > 0
    assert all(t.is_contiguous() and t.device.type == "cpu" for t in result.weights.values())
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    assert result.peak_bytes > 3 * weights  # weights, gradients and momentum are all alive


def test_same_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = (
        evaluate(GENOTYPE, dataset(), settings(epochs=2), context(seed=seed)) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert first.history != other.history


@pytest.mark.parametrize(
    ("stops", "precision"),
    [
        ((1, 2), "fp32"),
        *(pytest.param((epoch,), "fp32", marks=pytest.mark.slow) for epoch in (1, 2, 3)),
        pytest.param((2,), "bf16", marks=pytest.mark.slow),
    ],
)
def test_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(stops, precision):
    runtime = Runtime(torch.device("cpu"), precision)
    undisturbed = evaluate(GENOTYPE, dataset(), settings(), StageContext(runtime, 0))
    checkpoint, left = FileCheckpoint(), list(stops)

    def interrupt(progress):
        if left and progress.done == left[0]:
            left.pop(0)
            raise InterruptionError

    seconds = []
    for _ in stops:
        with pytest.raises(InterruptionError):
            evaluate(
                GENOTYPE, dataset(), settings(), StageContext(runtime, 0, checkpoint, interrupt)
            )
        seconds.append(checkpoint.load()["seconds"])
        torch.rand(3)  # whatever else draws from the global generator in between
    resumed = evaluate(
        GENOTYPE, dataset(), settings(), StageContext(runtime, 0, checkpoint, interrupt)
    )

    assert_same(resumed, undisturbed)
    assert seconds == sorted(seconds)
    assert resumed.seconds > seconds[-1]
    assert resumed.peak_bytes >= undisturbed.peak_bytes


def test_every_epoch_is_reported_and_the_test_part_is_not():
    reports = []
    result = evaluate(GENOTYPE, dataset(), settings(), context(report=reports.append))
    assert [(p.phase, p.done, p.total) for p in reports] == [("evaluate", n, 3) for n in (1, 2, 3)]
    assert [dict(p.metrics) for p in reports] == result.history
    for metrics in result.history:
        assert set(metrics) == {
            "train_loss",
            "train_accuracy",
            "learning_rate",
            "validation_accuracy",
        }
    assert result.validation_accuracy == result.history[-1]["validation_accuracy"]


def test_without_validation_part_there_is_no_validation_accuracy():
    result = evaluate(GENOTYPE, dataset(validation=False), settings(epochs=1), context())
    assert result.validation_accuracy is None
    assert "validation_accuracy" not in result.history[0]


def test_without_auxiliary_weight_there_is_no_auxiliary_head():
    checkpoint = FileCheckpoint()
    evaluate(GENOTYPE, dataset(), settings(epochs=1, auxiliary_weight=0), context(checkpoint))
    assert not [n for n in checkpoint.load()["network"] if n.startswith("auxiliary")]


def test_drop_path_rises_linearly_from_zero(monkeypatch):
    seen = []
    forward = StandaloneNetwork.forward_training

    def spy(self, images, drop_path):
        seen.append(drop_path.probability)
        return forward(self, images, drop_path)

    monkeypatch.setattr(StandaloneNetwork, "forward_training", spy)
    evaluate(GENOTYPE, dataset(train=8), settings(epochs=4, drop_path=0.4), context())
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_learning_rate_falls_by_a_cosine():
    chosen = SGDSettings(learning_rate=0.3, minimum_learning_rate=0.1)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], 0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, 0.1)
    for epoch in range(10):
        assert chosen.learning_rate_at(epoch, 10) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_step_is_that_of_clipped_momentum_sgd_on_the_weighted_loss():
    """One epoch of one batch, against the step written out."""
    data = dataset(train=8)
    chosen = settings(
        epochs=1,
        auxiliary_weight=0.7,
        augment=AugmentSettings(crop_padding=0, flip=False),
        weights=SGDSettings(learning_rate=0.05, weight_decay=0.01, clip_norm=0.5),
    )
    result = evaluate(GENOTYPE, data, chosen, context(seed=4))

    torch.manual_seed(4)
    network = StandaloneNetwork(
        GENOTYPE, cells=2, channels=2, classes=2, in_channels=1, auxiliary=True
    )
    images = (data.train.images / 255 - 0.5) / 0.25
    stem = network.stem(images)
    states = stem, stem
    for cell in network.cells:  # with two cells the head reads the last one
        states = states[1], cell(states)
    entropy = torch.nn.functional.cross_entropy
    loss = entropy(network.classifier(states[1].mean((2, 3))), data.train.labels)
    loss = loss + 0.7 * entropy(network.auxiliary(states[1]), data.train.labels)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    assert norm > 0.5
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        expected = parameter - 0.05 * (gradient * 0.5 / norm + 0.01 * parameter)
        if name in result.weights:
            torch.testing.assert_close(result.weights[name], expected, rtol=1e-4, atol=1e-6)


def test_loss_that_is_not_finite_fails_with_phase_epoch_and_value():
    with pytest.raises(NumericalError, match=r"evaluate: epoch \d of 3: .* is (nan|inf)"):
        evaluate(
            GENOTYPE,
            dataset(),
            settings(weights=SGDSettings(learning_rate=1000, clip_norm=1e9, weight_decay=1000)),
            context(),
        )


def test_score_that_is_not_finite_has_no_accuracy():
    data = dataset()
    network = StandaloneNetwork(
        GENOTYPE, cells=1, channels=1, classes=2, in_channels=1, auxiliary=False
    )
    torch.nn.init.constant_(network.classifier.bias, math.nan)
    with pytest.raises(NumericalError, match="class score is not finite"):
        accuracy(network, data, data.test, 8, CPU)


def test_unequal_last_batch_counts_by_its_pictures():
    data = dataset()
    network = StandaloneNetwork(
        GENOTYPE, cells=1, channels=1, classes=2, in_channels=1, auxiliary=False
    )
    torch.nn.init.zeros_(network.classifier.weight)
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
    expected = 100 * (data.test.labels == 0).float().mean().item()
    for batch_size in (2, 3, 4, 14, 50):
        assert accuracy(network, data, data.test, batch_size, CPU) == pytest.approx(expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
def test_trains_on_cuda_and_resumes():
    runtime = Runtime(torch.device("cuda"), "bf16")
    checkpoint = FileCheckpoint()

    def interrupt(progress):
        if progress.done == 2:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        evaluate(GENOTYPE, dataset(), settings(), StageContext(runtime, 0, checkpoint, interrupt))
    result = evaluate(GENOTYPE, dataset(), settings(), StageContext(runtime, 0, checkpoint))
    assert len(result.history) == 3
    assert result.peak_bytes > 0
