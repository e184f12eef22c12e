"""Ranking functions of layers, weights and cells: other search spaces, precisions, limits."""

import copy

import pytest
import torch

from tests.methods import SPACES, mask_of
from tests.proxies.test_rankings import DRAWING, bound, expected, value
from tests.pruning.test_exact import batch
from tests.reference import rankings as reference
from tests.reference.pairing import reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.errors import NumericalError
from zostudy.networks.dry_run import predicted_peak
from zostudy.networks.macs import macs
from zostudy.networks.memory import PeakMemory
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs
from zostudy.proxies.values import stand_alone, values
from zostudy.pruning.scoring import uniform_mixing
from zostudy.runtime import Runtime
from zostudy.space.genotype import from_notation
from zostudy.space.mask import OperationMask

AZ = ("az_expressivity", "az_progressivity", "az_trainability", "az_complexity")
NAMES = ("gradient_snr", "sweet_gradient", "knas", "meco", *AZ)
SIZE = SupernetSettings(cells=1, channels=4)


def network_of(space, **size):
    mask = OperationMask.full(SPACES[space])
    settings = SupernetSettings(**{"cells": 1, "channels": 4} | size)
    made = Supernet(SPACES[space], mask, settings, in_channels=1, classes=5)
    return made.kaiming_normal_(torch.Generator().manual_seed(0)) or made, settings


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("double")
def test_a_ranking_of_nasbench201_is_that_of_an_independent_formulation(name):
    supernet, settings = network_of("nasbench201")
    given, options = batch(8), {"side": 32} if name == "meco" else {}
    plain = reference_of(supernet, settings, 1, 5)
    run = reference.Run(plain, given.images, given.labels, None)
    run.supernet = supernet
    found = float(value(supernet, bound(name, options), given).detach())
    assert found == pytest.approx(expected(name, run, given, options), rel=1e-5)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_a_ranking_is_the_same_in_float32_and_float64(name, space):
    single, _ = network_of(space, cells=2)
    double = copy.deepcopy(single).double()
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 1, 16, 16, generator=generator), torch.arange(8) % 5
    found, exact = (
        float(value(made, bound(name, {}), ProxyInputs(own, labels)).detach())
        for made, own in ((single, images), (double, images.double()))
    )
    assert found == pytest.approx(exact, rel=2e-3, abs=1e-5)


def cell(*operations):
    names = iter(operations)
    nodes = ["|".join(f"{next(names)}~{source}" for source in range(k)) for k in (1, 2, 3)]
    return from_notation("+".join(f"|{node}|" for node in nodes))


SKIPS = cell("skip_connect", "none", "none", "none", "none", "skip_connect")
NOTHING = cell("none", "none", "none", "none", "none", "none")
CONVOLUTIONS = cell(*["nor_conv_3x3"] * 6)


def of_cell(genotype, name, given, size=SIZE, **options):
    torch.manual_seed(0)
    made, mixing = stand_alone(genotype, size, in_channels=1, classes=5)
    return float(value(made, bound(name, options), given, mixing).detach())


@pytest.mark.parametrize(
    ("name", "genotype", "message"),
    [
        ("az_expressivity", NOTHING, "the same everywhere"),
        ("az_progressivity", NOTHING, "the same everywhere"),
        ("gradient_snr", CONVOLUTIONS, "a batch of 6 pictures has no 4 parts"),
    ],
)
def test_what_means_nothing_is_refused(name, genotype, message):
    with pytest.raises(NumericalError, match=f"{name}: .*{message}"):
        of_cell(genotype, name, batch(6))


def test_a_cell_that_hands_on_what_it_reads_is_refused_by_trainability():
    chain = cell("skip_connect", "none", "skip_connect", "none", "none", "skip_connect")
    with pytest.raises(NumericalError, match="az_trainability: a cell hands on what it reads"):
        of_cell(chain, "az_trainability", batch(6))
    assert of_cell(NOTHING, "az_trainability", batch(6)) < of_cell(
        CONVOLUTIONS, "az_trainability", batch(6)
    )


@pytest.mark.parametrize("other", [SKIPS, cell(*["nor_conv_1x1"] * 3, *["avg_pool_3x3"] * 3)])
def test_complexity_differs_as_the_multiply_accumulates_of_networks_do(other):
    counted, found = [], []
    for genotype in (CONVOLUTIONS, other):
        whole = StandaloneNetwork(
            genotype, cells=2, channels=4, classes=5, in_channels=1, auxiliary=False
        )
        counted.append(macs(whole, 1, 8, 8))
        size = SupernetSettings(cells=2, channels=4)
        found.append(of_cell(genotype, "az_complexity", batch(2), size))
    assert found[0] - found[1] == counted[0] - counted[1]


def test_fewer_channels_stand_for_all_and_a_constant_channel_correlates_with_none():
    every, some = (of_cell(CONVOLUTIONS, "meco", batch(2), channels=count) for count in (0, 3))
    assert every > 0
    assert every != some
    assert of_cell(CONVOLUTIONS, "meco", batch(2), channels=100) == every


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_what_a_ranking_needs_is_known_without_numbers(name, space):
    given = batch(8)

    def peak(runtime):
        mask = mask_of(SPACES[space])
        made = Supernet(SPACES[space], mask, SIZE, in_channels=1, classes=5)
        made.requires_grad_(requires_grad=False).to(runtime.device)
        images, labels = (own.to(runtime.device) for own in (given.images, given.labels))
        memory = PeakMemory(runtime.device)
        with memory.sample(made, images, labels), torch.no_grad():
            inputs = ProxyInputs(images, labels)
            values(made, uniform_mixing(made), [bound(name, {})], inputs, twice=False)
        return memory.peak_bytes

    runtime = Runtime(torch.device("cpu"))
    measured = peak(runtime)
    assert measured <= predicted_peak(peak, runtime) * 1.001


def test_those_that_draw_are_told_a_generator():
    assert {name for name in NAMES if "generator" in bound(name, {}).reads} == set(DRAWING)
