import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.conftest import pictures
from zostudy.config.search import RegularizerSettings, SearchSettings
from zostudy.config.settings import EvaluateSettings, SupernetSettings
from zostudy.config.training import AugmentSettings
from zostudy.evaluation import training
from zostudy.networks.dry_run import make_state, predicted_peak
from zostudy.networks.memory import LiveBytes, PeakMemory
from zostudy.pruning.mask_sources import PruneContext
from zostudy.pruning.zero_shot import expected_zero_shot_mask, zero_shot
from zostudy.runtime import Runtime
from zostudy.search import bilevel
from zostudy.space.genotype import Genotype, from_notation
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import StageContext

SPACE = search_space("darts")
SUPERNET = SupernetSettings(cells=2, channels=2, partial_channels=2, edge_normalization=True)
MASK = OperationMask(
    SPACE,
    {
        kind: tuple(
            tuple((edge + column + shift) % 3 == 0 for column in range(8)) for edge in range(14)
        )
        for shift, kind in enumerate(SPACE.cell_types)
    },
)
GENOTYPE = Genotype(
    SPACE,
    dict.fromkeys(
        SPACE.cell_types,
        (
            (("sep_conv_3x3", 0), ("skip_connect", 1)),
            (("dil_conv_5x5", 0), ("max_pool_3x3", 2)),
            (("avg_pool_3x3", 1), ("sep_conv_5x5", 3)),
            (("dil_conv_3x3", 0), ("skip_connect", 1)),
        ),
    ),
)


@pytest.fixture
def odd_dataset(small_dataset):
    """Pictures of 13×13, in colour."""
    return dataclasses.replace(
        small_dataset,
        train=pictures(90, 13, 3, 3, 0),
        validation=None,
        test=pictures(9, 13, 3, 3, 1),
        mean=(0.5,) * 3,
        std=(0.3,) * 3,
    )


def runtime(precision="fp32"):
    return Runtime(torch.device("cpu"), precision)


def assert_predicted(measured, predicted):
    assert measured == pytest.approx(predicted, rel=0.01)


def slow(*values):
    """A case that `pytest` leaves to `make test`."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("dataset", "changes", "precision"),
    [
        slow("odd_dataset", {}, "fp32"),
        slow("odd_dataset", {"recompute": "full"}, "bf16"),
        ("odd_dataset", {"recompute": "full", "accumulate": 2}, "fp32"),
        slow("small_dataset", {}, "bf16"),
        ("small_dataset", {"order": "second", "recompute": "partial"}, "fp32"),
        slow("small_dataset", {"order": "second"}, "bf16"),
        slow("small_dataset", {"recompute": "full"}, "fp32"),
        slow("small_dataset", {"accumulate": 4}, "fp32"),
        slow("small_dataset", {"batch_size": 30}, "fp32"),
    ],
)
def test_a_searchs_peak_is_known_beforehand(dataset, changes, precision, request):
    settings = SearchSettings(
        **{
            "epochs": 2,
            "warmup_epochs": 0,
            "batch_size": 44,
            "augment": AugmentSettings(crop_padding=1),
            "regularizer": RegularizerSettings(
                name="beta_decay", options={"weight": 1.0, "schedule": "linear"}
            ),
        }
        | changes
    )
    data = request.getfixturevalue(dataset)
    context = StageContext(runtime(precision), seed=0)
    found = bilevel.search(MASK, data, SUPERNET, settings, context)
    predicted = bilevel.predict_peak(MASK, data, SUPERNET, settings, runtime(precision))
    assert_predicted(found.peak_bytes, predicted)


@pytest.mark.parametrize(
    "changes",
    [
        slow({}),
        slow({"recompute": "partial"}),
        {"recompute": "full", "accumulate": 2},
        slow({"recompute": "full", "precision": "bf16"}),
        slow({"precision": "bf16"}),
    ],
)
def test_the_peak_of_a_search_for_a_topology_is_known_beforehand(odd_dataset, changes):
    own = {k: v for k, v in changes.items() if k != "precision"}
    settings = SearchSettings(epochs=2, warmup_epochs=0, batch_size=22, **own)
    where = runtime(changes.get("precision", "fp32"))
    space = search_space("nasbench201")
    rows = tuple(tuple((edge + c) % 3 > 0 for c in range(5)) for edge in range(6))
    mask = OperationMask(space, {"normal": rows})
    found = bilevel.search(mask, odd_dataset, SUPERNET, settings, StageContext(where, seed=0))
    predicted = bilevel.predict_peak(mask, odd_dataset, SUPERNET, settings, where)
    assert_predicted(found.peak_bytes, predicted)


@pytest.mark.parametrize("auxiliary", [0.0, 0.4])
def test_the_peak_of_training_a_topology_is_known_beforehand(odd_dataset, auxiliary):
    genotype = from_notation(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    )
    settings = EvaluateSettings(
        cells=2, channels=4, epochs=2, batch_size=16, auxiliary_weight=auxiliary
    )
    found = training.evaluate(genotype, odd_dataset, settings, StageContext(runtime(), seed=0))
    predicted = training.predict_peak(genotype, odd_dataset, settings, runtime())
    assert_predicted(found.peak_bytes, predicted)


@pytest.mark.parametrize("precision", ["fp32", slow("bf16")])
@pytest.mark.parametrize(
    "changes", [{}, slow({"auxiliary_weight": 0.0, "drop_path": 0.0}), slow({"epochs": 1})]
)
def test_an_evaluations_peak_is_known_beforehand(odd_dataset, changes, precision):
    sizes = {"cells": 4, "channels": 4, "epochs": 2, "batch_size": 16}
    settings = EvaluateSettings(**(sizes | changes))
    context = StageContext(runtime(precision), seed=0)
    found = training.evaluate(GENOTYPE, odd_dataset, settings, context)
    predicted = training.predict_peak(GENOTYPE, odd_dataset, settings, runtime(precision))
    assert_predicted(found.peak_bytes, predicted)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        slow({"none_operation": "removed", "operations_per_round": 3}),
        slow({"scorer": "exact"}),
        {"ranking": ("entropic_score", "jacobian_covariance", "synflow")},
    ],
)
def test_a_prunings_peak_and_course_are_known_beforehand(odd_dataset, changes):
    options = {
        "xi": 0.8,
        "measure": "operations",
        "operations_per_round": 1,
        "until": "level",
        "none_operation": "candidate",
        "ranking": ("nngp",),
        "scorer": "first_order",
        "images": 20,
        "batch_size": 10,
        "repeats": 1,
    } | changes
    settings = SupernetSettings(cells=1, channels=2)

    def context(dataset, here):
        return PruneContext(SPACE, settings, dataset, dataset.search_parts(0.5)[0], here)

    found = zero_shot(context(odd_dataset, StageContext(runtime(), seed=0)), **options)
    outline = odd_dataset.outline()
    predicted = predicted_peak(
        lambda imaginary: zero_shot(context(outline, StageContext(imaginary, seed=0)), **options),
        runtime(),
    )
    assert_predicted(found.peak_bytes, predicted)
    expected = expected_zero_shot_mask(context(outline, StageContext(runtime(), seed=0)), **options)
    counts = [
        [[sum(row) for row in rows] for rows in mask.rows.values()]
        for mask in (found.mask, expected.mask)
    ]
    assert counts[0] == counts[1]
    assert expected.steps > 0


def test_a_prediction_leaves_the_weights_of_the_search_alone(small_dataset):
    settings = SearchSettings(epochs=1, warmup_epochs=0, batch_size=16)
    context = StageContext(runtime(), seed=0)
    plain = bilevel.search(MASK, small_dataset, SUPERNET, settings, context)
    bilevel.predict_peak(MASK, small_dataset, SUPERNET, settings, runtime())
    again = bilevel.search(MASK, small_dataset, SUPERNET, settings, context)
    assert again.alpha_history == plain.alpha_history


def test_numbers_that_are_asked_for_are_one():
    def work(imaginary):
        images = torch.zeros(3, device=imaginary.device)
        assert float(images.sum()) == 1.0
        assert bool((images > 0).all())
        assert images.cpu().tolist() == [1.0] * 3
        with PeakMemory(imaginary.device).sample(images):
            images + 1
        raise AssertionError("the first sample ends the work")

    assert predicted_peak(work, runtime()) == 2 * 3 * 4


def test_work_that_samples_nothing_needs_nothing():
    assert predicted_peak(lambda _: None, runtime()) == 0


def test_remembered_shapes_are_those_of_torch():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ChannelShuffle(2),
        nn.MaxPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(8 * 49, 5),
    ).to(memory_format=torch.channels_last)

    def step(network, images, labels, optimizer):
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    def peak(device):
        here = network.to(device)
        images = torch.zeros(4, 3, 13, 13, device=device)
        labels = torch.zeros(4, dtype=torch.long, device=device)
        optimizer = torch.optim.SGD(here.parameters(), 0.1, momentum=0.9)
        make_state(optimizer)
        for _ in range(2):
            with LiveBytes(here, optimizer, images, labels) as live:
                step(here, images, labels, optimizer)
        return live.peak

    real = peak("cpu")
    found = []
    predicted_peak(lambda imaginary: found.append(peak(imaginary.device)), runtime())
    assert found == [real]
