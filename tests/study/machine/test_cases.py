import dataclasses

import pytest
import torch

from tests.conftest import pictures
from zostudy.config.loading import from_document
from zostudy.evaluation.training import standalone
from zostudy.networks import operations, skeleton
from zostudy.networks.node_operations import NodeOperations
from zostudy.networks.standalone import AuxiliaryHead
from zostudy.networks.supernet import Supernet
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.study.machine.cases import Case, of_every_space, of_study, of_trial
from zostudy.study.planning.outlook import some_genotype

PARTS = {
    operations.ReLUConvBN: "preprocessing",
    operations.FactorizedReduction: "factorized reduction",
    skeleton.ResidualBlock: "residual block",
    AuxiliaryHead: "auxiliary head",
}


def config(space: str, **sections):
    return from_document(
        {
            "study": "s",
            "search_space": {"name": space},
            "supernet": {"cells": 5, "channels": 8, "partial_channels": 2},
            "evaluate": {"cells": 7, "channels": 5},
        }
        | sections
    ).config


@pytest.fixture(params=[(8, 8), (9, 13)])
def dataset(request, small_dataset):
    height, width = request.param
    train = pictures(90, 16, 3, 3, 0)
    train = dataclasses.replace(train, images=train.images[:, :, :height, :width].contiguous())
    return dataclasses.replace(small_dataset, train=train)


def met(network: torch.nn.Module, kinds: dict[type, str], shape) -> list[tuple]:
    """Kind and shape of what enters each part of a network, as it runs."""
    found: list[tuple] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda module, given: found.append((module, given[0].shape[1:]))
        )
        for module in network.modules()
        if type(module) in kinds
    ]
    network(torch.randn(2, *shape))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("space_name", ["darts", "nasbench201"])
def test_every_shape_of_a_supernet_is_a_case(space_name, dataset):
    trial = config(space_name)
    space = search_space(space_name)
    cases = [c for c in of_trial(trial, dataset) if c.network == "supernet"]
    network = Supernet(space, OperationMask.full(space), trial.supernet, in_channels=3, classes=3)
    known = {(c.part, c.entering, c.height, c.width) for c in cases}
    nodes = {
        (c.entering // c.partial, c.height, c.width, c.stride, c.operation)
        for c in cases
        if c.operation
    }
    for module, (channels, *side) in met(
        network, PARTS | {NodeOperations: ""}, dataset.train.images.shape[1:]
    ):
        if isinstance(module, NodeOperations):
            for name in set(space.operations) - {space.zero}:
                assert (channels, *side, module.stride, space.component(name)) in nodes
        else:
            assert (PARTS[type(module)], channels, *side) in known
    assert sum(case.operation == space.component(space.zero) for case in cases) == 1


@pytest.mark.parametrize("space_name", ["darts", "nasbench201"])
def test_every_shape_of_a_standalone_network_is_a_case(space_name, dataset):
    trial = config(space_name)
    genotype = some_genotype(OperationMask.full(search_space(space_name)))
    network = standalone(genotype, dataset, trial.evaluate, auxiliary=True)
    known = {
        (c.entering, c.height, c.width)
        for c in of_trial(trial, dataset)
        if c.network == "stand-alone network"
    }
    kinds = dict.fromkeys({type(module) for module in network.modules()} & set(PARTS), "")
    kinds |= {operations.Pool: "", operations.SeparableConvolution: ""}
    shapes = met(network, kinds, dataset.train.images.shape[1:])
    assert shapes
    for _, shape in shapes:
        assert tuple(shape) in known


def test_each_case_is_there_once_and_its_batch_is_a_few_pictures():
    cases = of_every_space()
    assert len(set(cases)) == len(cases)
    assert {case.space for case in cases} == {"darts", "nasbench201"}
    assert all(case.batch >= 2 and case.batch * case.entering <= 4096 for case in cases)


def test_a_sweep_adds_its_shapes_and_nothing_else():
    document = {"study": "s", "supernet": {"cells": 1, "channels": 8}}
    plain = of_study(from_document(document))
    sweep = {"parameters": {"supernet.channels": [8, 12], "search.epochs": [50, 60]}}
    swept = of_study(from_document(document | {"sweep": sweep}))
    assert set(plain) < set(swept)
    assert {case.entering for case in set(swept) - set(plain) if case.operation} == {12}


def test_a_study_that_looks_accuracies_up_has_no_standalone_network(small_dataset):
    table = {"by": "table", "path": "t.csv", "column": "c"}
    trial = config("nasbench201", evaluate=table, sweep={"objectives": []})
    assert {case.network for case in of_trial(trial, small_dataset)} == {"supernet"}


def test_a_case_says_its_operation_and_shape():
    case = Case(
        "supernet", "skip_connect", 16, 16, 8, 8, 4, "darts", operation="skip_connect", stride=2
    )
    assert str(dataclasses.replace(case, partial=4, rows=4, recompute="full")) == (
        "operation skip_connect of the supernet (4 of 16 channels, 8×8 pixels, stride 2, 4 edges, "
        "recompute full, batch 4)"
    )
