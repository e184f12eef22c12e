"""Networks in float32 and bf16, against the references in float64; tolerances: tests/arithmetic."""

import dataclasses
import random

import pytest
import torch
from torch.nn import functional

from tests.arithmetic import expected, threads
from tests.networks.test_standalone import build as standalone
from tests.networks.test_standalone import random_genotype
from tests.reference import nasbench201, supernet
from tests.reference.pairing import pairs, reference_of
from tests.reference.standalone import Reference, TopologyReference
from zostudy.config.settings import SupernetSettings
from zostudy.networks import operations
from zostudy.networks.standalone import DropPath
from zostudy.networks.supernet import Supernet
from zostudy.registry import find
from zostudy.runtime import Runtime, seeded
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

pytestmark = pytest.mark.arithmetic

#: Which reference has each operation, and under which name.
PLAIN = {
    name: (supernet.build, name)
    for name in supernet.OPERATIONS
    if name not in ("none", "skip_connect")
} | {
    "skip_connect": (supernet.build, "skip_connect"),
    "nor_conv_1x1": (lambda name, channels, _: nasbench201.build(name, channels), "nor_conv_1x1"),
    "nor_conv_3x3": (lambda name, channels, _: nasbench201.build(name, channels), "nor_conv_3x3"),
}


def differentiated(module, images, direction):
    """Output; gradients of the pictures and of every parameter, by their order."""
    leaf = images.detach().requires_grad_()
    output = module(leaf)
    parameters = list(module.parameters())
    found = torch.autograd.grad((output * direction).sum(), [leaf, *parameters])
    names = ["images", *map(str, range(len(parameters)))]
    return {"output": output.detach()}, dict(zip(names, found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", PLAIN)
def test_an_operation_is_that_of_the_reference_but_for_rounding(name, dtype):
    runtime = Runtime(torch.device("cpu"), "fp32" if dtype == torch.float32 else "bf16")
    strides = (1, 2) if PLAIN[name][0] is supernet.build else (1,)
    draws = random.Random(name)
    for number, channels in enumerate(draws.sample(range(1, 33), 4)):
        stride, side = draws.choice(strides), draws.randint(8, 33)
        count = draws.choice([n for n in (1, 2, 5, 8) if n * side * side * channels < 8000] or [1])
        build, own = PLAIN[name]
        plain = build(own, channels, stride).double()
        ours = operations.build(find("operation", name, ""), channels, stride, affine=False)
        with torch.no_grad():
            for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
                theirs.copy_(mine)
        images = torch.randn(count, channels, side, side, generator=seeded("cpu", name, channels))
        half = -(-side // stride)
        direction = torch.randn(count, channels, half, half, generator=seeded("cpu", channels))
        truth = expected(
            lambda net=plain, x=images, d=direction: differentiated(net, x.double(), d.double()),
            dtype,
        )
        laid_out = images.contiguous(memory_format=torch.channels_last)
        with runtime.autocast(), threads(2 if number == 3 else 1):
            found = differentiated(ours, laid_out, direction)
        truth.assert_close(*found)


@dataclasses.dataclass(frozen=True)
class Case:
    """A supernet and the size of a batch."""

    space: str
    seed: int
    cells: int
    channels: int
    partial: int
    side: int
    batch: int
    threads: int
    recompute: str


#: With one picture BN leaves every channel a mean of 0: DARTS then has scores only with channels
#: that pass by (k > 1), NAS-Bench-201 by its last ReLU.
CASES = [
    Case("darts", 3, 2, 1, 1, 8, 4, threads=1, recompute="none"),
    Case("darts", 5, 2, 7, 1, 9, 2, threads=2, recompute="partial"),
    Case("darts", 2, 2, 32, 4, 12, 1, threads=1, recompute="full"),
    Case("darts", 4, 2, 6, 2, 33, 1, threads=1, recompute="partial"),
    Case("darts", 8, 3, 13, 1, 10, 3, threads=1, recompute="full"),
    Case("nasbench201", 0, 1, 1, 1, 10, 5, threads=1, recompute="none"),
    Case("nasbench201", 1, 1, 14, 2, 14, 3, threads=2, recompute="partial"),
    Case("nasbench201", 2, 1, 27, 1, 16, 1, threads=1, recompute="full"),
    Case("nasbench201", 5, 1, 2, 2, 33, 1, threads=1, recompute="none"),
    Case("nasbench201", 4, 1, 21, 1, 9, 2, threads=1, recompute="partial"),
]


def masked(space, seed, share):
    """A part of the operations, at least one an edge."""
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for kind in space.cell_types:
        draws = torch.rand(len(space.edges), len(space.operations), generator=generator)
        kept = draws < share
        kept[torch.arange(len(kept)), draws.argmin(1)] = True
        rows[kind] = tuple(tuple(row) for row in kept.tolist())
    return OperationMask(space, rows)


def built(case, mask=None):
    """The supernet of a case, and the reference of the same numbers in float64."""
    space = search_space(case.space)
    settings = SupernetSettings(
        cells=case.cells,
        channels=case.channels,
        partial_channels=case.partial,
        edge_normalization=case.partial > 1,
    )
    torch.manual_seed(case.seed)
    mask = mask or masked(space, case.seed, (1.0, 0.5, 0.3)[case.seed % 3])
    ours = Supernet(space, mask, settings, in_channels=3, classes=5, recompute=case.recompute)
    with torch.no_grad():
        for parameter in ours.architecture_parameters():
            parameter.copy_(torch.randn_like(parameter))
    return ours, reference_of(ours, settings, 3, 5).double()


def logits_and_gradients(network, images, direction):
    network.zero_grad()
    logits = network(images)
    (logits * direction).sum().backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {"logits": logits.detach()}, found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_supernet_is_the_reference_but_for_rounding(case):
    check_supernet(case, *built(case))


CONVOLUTIONS = {"nasbench201": "nor_conv_3x3", "darts": "dil_conv_3x3"}


@pytest.mark.parametrize("recompute", ["none", "partial", "full"])
@pytest.mark.parametrize(("space", "cells"), [("nasbench201", 1), ("darts", 3)])
def test_a_supernet_with_one_convolution_a_cell_is_the_reference_but_for_rounding(
    space, cells, recompute
):
    """Its scale is of one edge, which torch may give as a view of one number."""
    case = Case(space, 1, cells, 16, 1, 12, 3, threads=1, recompute=recompute)
    found = search_space(space)
    convolution, other = (found.operations.index(n) for n in (CONVOLUTIONS[space], "skip_connect"))
    rows = [
        tuple(column == (other if edge else convolution) for column in range(len(found.operations)))
        for edge in range(len(found.edges))
    ]
    mask = OperationMask(found, dict.fromkeys(found.cell_types, tuple(rows)))
    check_supernet(case, *built(case, mask))


def check_supernet(case, ours, plain):
    """Its logits and every gradient of its weights are the reference's but for rounding."""
    images = torch.randn(case.batch, 3, case.side, case.side, generator=seeded("cpu", "images"))
    direction = torch.randn(case.batch, 5, generator=seeded("cpu", "direction"))
    truth = expected(lambda: logits_and_gradients(plain, images.double(), direction), torch.float32)
    with threads(case.threads):
        logits = ours(images)
        (logits * direction).sum().backward()
    names = {id(p): name for name, p in plain.named_parameters()}
    gradients = {}
    for mine, index, other in pairs(ours, plain):
        if (name := names[id(other)]) in truth.gradients:
            whole = torch.zeros_like(mine) if mine.grad is None else mine.grad
            gradients[name] = whole[index].reshape(other.shape)
    truth.assert_close({"logits": logits}, gradients)


@pytest.mark.parametrize("case", CASES[1::5], ids=str)
def test_a_supernet_in_bf16_is_the_reference_but_for_rounding(case):
    """Its logits; of gradients rounding this coarse leaves their direction, see the operations'."""
    ours, plain = built(case)
    images = torch.randn(case.batch, 3, case.side, case.side, generator=seeded("cpu", "images"))
    truth = expected(lambda: ({"logits": plain(images.double()).detach()}, {}), torch.bfloat16)
    with Runtime(torch.device("cpu"), "bf16").autocast(), torch.no_grad(), threads(case.threads):
        logits = ours(images)
    truth.assert_close({"logits": logits}, {})


class _ByTorch:
    """BN and pools by torch, where noise is added; that they are the reference's, others test."""

    def norm(self, images, place):
        affine = (self.weights[f"{place}.{name}"] for name in ("weight", "bias"))
        return functional.batch_norm(images, None, None, *affine, training=True)

    def operation(self, operation, images, stride, place):
        if operation.endswith("pool_3x3"):
            return operations.pool(operation[:3], images, stride)
        return super().operation(operation, images, stride, place)


class _Cells(_ByTorch, Reference):
    pass


class _Topology(_ByTorch, TopologyReference):
    pass


def topology(seed):
    space, draws = search_space("nasbench201"), random.Random(seed)
    names = [name for name in space.operations if name != space.zero]
    nodes = [tuple((draws.choice(names), s) for s in range(t)) for t in space.targets]
    return Genotype(space, {"normal": tuple(nodes)})


@pytest.mark.parametrize(
    ("space", "cells", "channels", "side", "batch", "auxiliary", "number"),
    [
        ("darts", 1, 2, 8, 3, True, 2),
        ("darts", 3, 7, 9, 3, False, 1),
        ("darts", 2, 13, 11, 1, False, 1),
        ("nasbench201", 1, 5, 9, 2, False, 1),
        ("nasbench201", 1, 16, 8, 3, False, 1),
    ],
)
def test_a_standalone_network_is_the_reference_but_for_rounding(
    space, cells, channels, side, batch, auxiliary, number
):
    genotype = random_genotype(channels) if space == "darts" else topology(channels)
    network = standalone(genotype, cells=cells, channels=channels, auxiliary=auxiliary)
    images = torch.randn(batch, 1, side, side, generator=seeded("cpu", "images"))
    directions = torch.randn(2, batch, 3, generator=seeded("cpu", "direction"))
    named = dict(network.named_parameters())

    def run():
        leaves = {name: p.detach().double().requires_grad_() for name, p in named.items()}
        if space == "darts":
            kinds = genotype.cells["normal"], genotype.cells["reduction"]
            scores = _Cells(*kinds, leaves, training=True).logits(images.double(), cells)
        else:
            plain = _Topology(genotype.cells["normal"], leaves, training=True)
            scores = plain.logits(images.double(), cells), None
        return result(scores, directions, leaves)

    truth = expected(run, torch.float32)
    with threads(number):
        scores = network.forward_training(images, DropPath(0.0, seeded("cpu", 0)))
        found = result(scores, directions, named)
    truth.assert_close(*found)


def result(scores, directions, leaves):
    values = {
        name: s for name, s in zip(("logits", "auxiliary"), scores, strict=True) if s is not None
    }
    total = sum((s * d).sum() for s, d in zip(values.values(), directions, strict=False))
    found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    values = {name: value.detach() for name, value in values.items()}
    return values, dict(zip(leaves, found, strict=True))
