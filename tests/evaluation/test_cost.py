import random

import pytest
import torch
from torch import nn

from tests.methods import SPACES, mask_of
from zostudy.config.settings import EvaluateSettings
from zostudy.evaluation.cost import Costs, of_genotype, parameters
from zostudy.evaluation.training import standalone
from zostudy.networks.macs import macs
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.space import enumeration
from zostudy.space.genotype import from_notation
from zostudy.space.variation import Variation

#: Genotypes evaluated at 20 cells, C = 36, on 32×32 pictures of ten classes. Published for P-DARTS:
#: 3,433,798 parameters and 532 million multiply-accumulates; for DARTS (second order) 3.3 million
#: parameters, its multiply-accumulates are ours.
DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
P_DARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), "
    "('dil_conv_5x5', 4)], normal_concat=range(2, 6), reduce=[('avg_pool_3x3', 0), "
    "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)

#: NAS-Bench-201 cells with (classes, side of the pictures, millions of parameters, of FLOPs) as
#: published: issues 18, 24 and 36 of github.com/D-X-Y/NATS-Bench.
#: The benchmark counts the classifier's bias as well: as many FLOPs more than ours as classes.
TOPOLOGIES = [
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
        [(10, 32, 0.802, 113.95), (100, 32, 0.808, 113.96), (120, 16, 0.810, 28.50)],
    ),
    (
        "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        [(10, 32, 0.802426, 113.95137)],
    ),
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        [(10, 32, None, 15.64737), (100, 32, None, 15.65322), (120, 16, None, 3.91948)],
    ),
]


def published_network(notation, **changes):
    sizes = {"cells": 20, "channels": 36, "classes": 10, "in_channels": 3, "auxiliary": True}
    with torch.device("meta"):
        return StandaloneNetwork(from_notation(notation), **sizes | changes)


def test_macs_of_convolutions_and_linear_layers_are_those_counted_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),  # 9·3 a pixel and channel
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False),  # depthwise: 25
        nn.Conv2d(8, 4, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(4 * 2 * 3, 5),
    )
    expected = 8 * 8 * 10 * 27 + 8 * 4 * 5 * 25 + 4 * 4 * 5 * 8 + 24 * 5
    assert macs(network, 3, 8, 10) == expected


def test_parameters_leave_out_the_auxiliary_head():
    assert parameters(published_network(DARTS)) == 3_349_342
    assert parameters(published_network(DARTS, auxiliary=False)) == 3_349_342
    assert parameters(published_network(P_DARTS)) == 3_433_798


@pytest.mark.parametrize(("notation", "millions"), [(DARTS, 528), (P_DARTS, 532)])
def test_known_genotypes_have_the_known_macs(notation, millions):
    assert round(macs(published_network(notation), 3, 32, 32) / 1e6) == millions


@pytest.mark.parametrize(("notation", "published"), TOPOLOGIES)
def test_known_topologies_have_the_published_parameters_and_macs(notation, published):
    for classes, side, millions, flops in published:
        sizes = {"cells": 5, "channels": 16, "classes": classes, "auxiliary": False}
        network = published_network(notation, **sizes)
        if millions is not None:
            assert parameters(network) / 1e6 == pytest.approx(millions, abs=places(millions))
        found = (macs(network, 3, side, side) + classes) / 1e6
        assert found == pytest.approx(flops, abs=places(flops))


def places(number):
    """Half of the last decimal place that is given."""
    return 0.5001 * 10.0 ** -len(str(number).split(".")[1])


def test_counting_macs_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    macs(network, 1, 8, 8)
    assert network.training
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("space", "cells"), [("darts", 1), ("darts", 2), ("darts", 7), ("nasbench201", 2)]
)
def test_costs_without_a_network_are_those_of_the_network(space, cells, small_dataset):
    steps = Variation(mask_of(SPACES[space], "full"), random.Random(0))
    settings = EvaluateSettings(cells=cells, channels=3)
    costs = Costs(SPACES[space], small_dataset, settings)
    for genotype in [steps.random() for _ in range(3)]:
        network = standalone(genotype, small_dataset, settings)
        expected = of_genotype(genotype, network, small_dataset)
        assert costs(genotype, ["parameters", "macs"]) == expected


@pytest.mark.slow
def test_the_least_costs_are_those_of_the_cheapest_architecture(small_dataset):
    space = SPACES["darts"]
    mask = mask_of(space, "single").changed(add=[("reduction", 3, 1), ("normal", 4, 3)])
    costs = Costs(space, small_dataset, EvaluateSettings(cells=3, channels=2))
    every = [costs(one, ["parameters", "macs"]) for one in enumeration.genotypes(mask)]
    assert len(every) > 1
    assert costs.least(mask) == {name: min(one[name] for one in every) for name in every[0]}
