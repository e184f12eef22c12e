import random

import pytest
import torch
from torch import nn

from tests.reference.standalone import Reference, TopologyReference
from zostudy.networks.standalone import DropPath, StandaloneNetwork
from zostudy.runtime import seeded
from zostudy.space.genotype import Genotype, from_notation
from zostudy.space.search_space import search_space

EVERY_OPERATION = from_notation(
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 2), ('avg_pool_3x3', 1), ('sep_conv_5x5', 3), ('dil_conv_5x5', 2), "
    "('skip_connect', 4)], normal_concat=range(2, 6), reduce=[('skip_connect', 0), "
    "('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('dil_conv_5x5', 1), ('avg_pool_3x3', 1), "
    "('skip_connect', 2), ('sep_conv_3x3', 0), ('dil_conv_3x3', 4)], reduce_concat=range(2, 6))"
)

#: Genotypes with their number of parameters at 20 cells and C = 36 on ten classes, without and with
#: the auxiliary head. Both of P-DARTS are published; of DARTS (second order), 3.3 million without.
PUBLISHED = {
    "darts": (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])",
        3_349_342,
        3_825_768,
    ),
    "p-darts": (
        "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), "
        "('dil_conv_5x5', 4)], normal_concat=range(2, 6), reduce=[('avg_pool_3x3', 0), "
        "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
        "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], "
        "reduce_concat=range(2, 6))",
        3_433_798,
        3_910_224,
    ),
}


def build(genotype=EVERY_OPERATION, *, cells=3, channels=2, auxiliary=True, in_channels=1, seed=0):
    torch.manual_seed(seed)
    return StandaloneNetwork(
        genotype,
        cells=cells,
        channels=channels,
        classes=3,
        in_channels=in_channels,
        auxiliary=auxiliary,
    )


def pictures(*shape, seed=0):
    return torch.randn(shape, generator=seeded("cpu", seed))


def no_drop():
    return DropPath(0.0, seeded("cpu", 0))


def random_genotype(seed):
    draw = random.Random(seed)
    space = search_space("darts")
    operations = [name for name in space.operations if name != space.zero]
    cells = {
        kind: tuple(
            tuple((draw.choice(operations), source) for source in draw.sample(range(target), 2))
            for target in space.targets
        )
        for kind in space.cell_types
    }
    return Genotype(space, cells)


def perturb(network):
    """Give BN statistics and affine parameters that are not their defaults."""
    generator = seeded("cpu", 5)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.uniform_(-1, 1, generator=generator)
    return network


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("cells", "channels", "height", "width"),
    [(1, 3, 8, 8), (2, 1, 9, 8), (3, 2, 8, 11), (5, 2, 13, 10), (6, 3, 16, 16)],
)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_logits_equal_those_of_the_definition(seed, cells, channels, height, width, training):
    genotype = EVERY_OPERATION if seed is None else random_genotype(seed)
    network = perturb(
        build(genotype, cells=cells, channels=channels, in_channels=2, auxiliary=False)
    ).double()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    reference = Reference(
        genotype.cells["normal"], genotype.cells["reduction"], weights, training=training
    )
    images = pictures(4, 2, height, width).double()
    expected, _ = reference.logits(images, cells)

    network.train(training)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("cells", "height", "width"), [(1, 8, 8), (2, 9, 8), (1, 13, 11)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_logits_of_a_topology_equal_those_of_the_definition(seed, cells, height, width, training):
    space, draw = search_space("nasbench201"), random.Random(seed)
    nodes = [tuple((draw.choice(space.operations), s) for s in range(t)) for t in space.targets]
    genotype = Genotype(space, {"normal": tuple(nodes)})
    network = build(genotype, cells=cells, channels=3, in_channels=2, auxiliary=False)
    perturb(network).double()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    reference = TopologyReference(genotype.cells["normal"], weights, training=training)
    images = pictures(4, 2, height, width).double()
    expected = reference.logits(images, cells)

    network.train(training)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


def test_auxiliary_logits_equal_those_of_the_definition_at_8x8():
    network = perturb(build(cells=4, auxiliary=True)).double()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cells = EVERY_OPERATION.cells
    reference = Reference(cells["normal"], cells["reduction"], weights, training=True)
    images = pictures(4, 1, 32, 32).double()
    expected = reference.logits(images, 4)

    logits = network.forward_training(images, no_drop())

    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotypes_have_the_published_number_of_parameters(name):
    notation, without, with_auxiliary = PUBLISHED[name]
    with torch.device("meta"):
        network = StandaloneNetwork(
            from_notation(notation),
            cells=20,
            channels=36,
            classes=10,
            in_channels=3,
            auxiliary=True,
        )
    assert sum(p.numel() for p in network.parameters()) == with_auxiliary
    network.auxiliary = None
    assert sum(p.numel() for p in network.parameters()) == without


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (11, 8), (45, 34)])
def test_any_picture_size_and_number_of_cells_gives_finite_scores(cells, size):
    network = build(cells=cells, channels=1)
    logits, auxiliary = network.forward_training(pictures(2, 1, *size), no_drop())
    assert logits.shape == auxiliary.shape == (2, 3)
    assert logits.isfinite().all()
    assert auxiliary.isfinite().all()


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_every_parameter_gets_a_gradient(cells):
    network = build(cells=cells)
    logits, auxiliary = network.forward_training(pictures(4, 1, 8, 8), no_drop())
    (logits.square().sum() + auxiliary.square().sum()).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_weights_from_which_nothing_reaches_the_output_take_part_in_a_step():
    dead = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"
    network = build(from_notation(dead), auxiliary=False)
    network(pictures(4, 1, 8, 8)).square().sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert not any(g.any() for name, g in gradients.items() if ".nodes." in name)


def test_reductions_halve_the_picture_and_double_the_channels():
    network = build(cells=6, channels=4)
    shapes = []
    for cell in network.cells:
        cell.register_forward_hook(
            lambda _module, _inputs, out: shapes.append(tuple(out.shape[1:]))
        )
    network(pictures(1, 1, 16, 16))
    assert shapes == [
        (16, 16, 16),
        (16, 16, 16),
        (32, 8, 8),
        (32, 8, 8),
        (64, 4, 4),
        (64, 4, 4),
    ]


def test_auxiliary_head_does_not_change_the_scores_nor_the_other_weights():
    with_head, without = build(auxiliary=True), build(auxiliary=False, seed=1)
    kept = {n: t for n, t in with_head.state_dict().items() if not n.startswith("auxiliary.")}
    without.load_state_dict(kept)
    images = pictures(4, 1, 8, 8)
    logits, _ = with_head.forward_training(images, no_drop())
    alone, missing = without.forward_training(images, no_drop())
    assert missing is None
    assert torch.equal(logits, alone)


def test_drop_path_zero_draws_nothing():
    generator = seeded("cpu", 0)
    before = generator.get_state()
    images = pictures(4, 1, 8, 8)
    assert DropPath(0.0, generator)(images) is images
    assert torch.equal(generator.get_state(), before)


def test_drop_path_zeroes_whole_pictures_and_keeps_the_mean():
    dropped = DropPath(0.25, seeded("cpu", 0))(torch.ones(20_000, 2, 2, 2))
    values = dropped.flatten(1)
    assert torch.equal(values.amin(1), values.amax(1))
    assert sorted(set(values[:, 0].tolist())) == pytest.approx([0, 4 / 3])
    assert values.mean().item() == pytest.approx(1, abs=0.02)


def test_drop_path_spares_the_identity_and_only_the_identity():
    class Counting(DropPath):
        calls = 0

        def __call__(self, images):
            Counting.calls += 1
            return images

    network = build(cells=3)  # one normal cell, then two reductions
    network.forward_training(pictures(2, 1, 8, 8), Counting(0.5, seeded("cpu", 0)))
    # In a reduction cell the skip connection from an input node is a factorized reduction.
    assert Counting.calls == (8 - 2) + 2 * (8 - 1)


def test_drop_path_repeats_with_the_seed():
    network = build(cells=4)
    images = pictures(4, 1, 8, 8)
    first, again, other = (
        network.forward_training(images, DropPath(0.5, seeded("cpu", seed)))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


TOPOLOGY = from_notation(
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
)


@pytest.mark.parametrize(
    "genotype",
    [
        pytest.param(EVERY_OPERATION, id="darts", marks=pytest.mark.slow),
        pytest.param(TOPOLOGY, id="nasbench201"),
    ],
)
def test_network_exports_with_any_batch_size(genotype):
    network = build(genotype, cells=3, channels=1, auxiliary=True).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        network, (pictures(2, 1, 8, 8),), dynamic_shapes={"images": {0: batch}}
    ).module()
    images = pictures(5, 1, 8, 8)
    torch.testing.assert_close(program(images), network(images))


def test_channels_last_gives_the_same_scores():
    network = perturb(build(cells=4)).eval()
    images = pictures(3, 1, 12, 12)
    expected = network(images)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected)
