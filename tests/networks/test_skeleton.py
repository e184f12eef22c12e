"""Networks of search spaces that differ in what their descriptions say."""

import pytest
import torch
from torch.nn import functional

from zostudy.config.settings import SupernetSettings
from zostudy.errors import ArchitectureError
from zostudy.networks.skeleton import ResidualBlock
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import values
from zostudy.pruning import exact
from zostudy.pruning.scoring import uniform_mixing
from zostudy.runtime import seeded
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace, Skeleton

OPERATIONS = ("none", "skip_connect", "nor_conv_3x3", "max_pool_3x3")


def space_of(**changes):
    parts = {
        "name": "odd",
        "cell_types": ("normal", "reduction"),
        "reduction_types": ("reduction",),
        "inputs": 2,
        "nodes": 3,
        "operations": OPERATIONS,
        "zero": "none",
        "kept_edges": "all",
        "keeps_zero": True,
        "identity": "skip_connect",
    }
    return SearchSpace(**parts | changes)


ONE_TYPE = {"cell_types": ("only",), "reduction_types": ()}
SPACES = {
    "one input, nodes side by side": space_of(inputs=1),
    "two inputs, the last node": space_of(output="last"),
    "BN before pooling": space_of(skeleton=Skeleton(head="norm", stem=2)),
    "nothing halves": space_of(**ONE_TYPE, output="last"),
    "blocks, nothing before pooling": space_of(
        **ONE_TYPE, inputs=1, output="last", skeleton=Skeleton("blocks", 1, "pool")
    ),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def pictures(*shape):
    return torch.randn(shape, generator=seeded("cpu", 1))


def supernet_of(space, mask=None, **options):
    torch.manual_seed(0)
    settings = SupernetSettings(cells=3, channels=4, **options)
    mask = mask or OperationMask.full(space)
    return Supernet(space, mask, settings, in_channels=2, classes=3)


@every_space
@pytest.mark.parametrize("side", [8, 13])
@pytest.mark.parametrize("k", [1, 2])
def test_every_parameter_of_a_supernet_gets_a_gradient(space, side, k):
    supernet = supernet_of(space, partial_channels=k, edge_normalization=True)
    supernet(pictures(4, 2, side, side)).square().sum().backward()
    silent = [n for n, p in supernet.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@every_space
def test_one_operation_an_edge_is_the_network_of_that_genotype(space):
    """With default BN parameters and statistics of the batch, the two compute the same."""
    names = ["nor_conv_3x3", "skip_connect", "nor_conv_3x3", "none", "nor_conv_3x3"]
    row = [names[edge % len(names)] for edge in range(len(space.edges))]
    rows = tuple(tuple(name == own for name in OPERATIONS) for own in row)
    supernet = supernet_of(space, OperationMask(space, dict.fromkeys(space.cell_types, rows)))
    nodes = tuple(
        tuple((row[edge], space.edges[edge][0]) for edge in space.incoming(target))
        for target in space.targets
    )
    genotype = Genotype(space, dict.fromkeys(space.cell_types, nodes))
    torch.manual_seed(1)
    network = StandaloneNetwork(
        genotype, cells=3, channels=4, classes=3, in_channels=2, auxiliary=False
    )
    with torch.no_grad():
        for part in ("stem", "head", "classifier"):
            own = getattr(network, part).state_dict()
            kept = getattr(supernet, part).state_dict()
            getattr(network, part).load_state_dict(own | kept)
        for ours, theirs in zip(supernet.cells, network.cells, strict=True):
            theirs.preprocess.load_state_dict(
                theirs.preprocess.state_dict() | ours.preprocess.state_dict()
            )
            load_cell(ours, theirs)
    images = pictures(4, 2, 9, 9)
    torch.testing.assert_close(network.train()(images), supernet(images), rtol=1e-4, atol=1e-5)


def load_cell(ours, theirs):
    """Give a stand-alone cell the weights of a supernet's that keeps one operation an edge."""
    rows = {}
    for source, edges in ours.outgoing.items():
        for name, module in ours.nodes[source].shared.items():
            for place, row in enumerate(ours.nodes[source]._shared_rows[name][1]):
                rows[edges[row]] = (module, place)
    space = ours.space
    for target, node in zip(space.targets, theirs.nodes, strict=True):
        for source, operation in zip(node.sources, node.operations, strict=True):
            edge = space.edges.index((source, target))
            if edge not in rows:
                continue
            module, place = rows[edge]
            if hasattr(module, "weight"):
                channels = operation.convolution.out_channels
                part = module.weight[place * channels : (place + 1) * channels]
                operation.convolution.weight.copy_(part)
            else:  # a factorized reduction
                operation.first.weight.copy_(module.first[place][..., None, None])
                operation.second.weight.copy_(module.second[place][..., None, None])


@every_space
def test_exact_scores_are_those_of_full_passes(space):
    supernet = supernet_of(space, edge_normalization=True).double()
    supernet.kaiming_normal_(seeded("cpu", 0))
    supernet.requires_grad_(requires_grad=False)
    batch = ProxyInputs(pictures(6, 2, 8, 8).double(), torch.arange(6) % 3)
    ranking = Ranking("size", lambda logits: logits.square().sum(), 1)
    scores = exact.operation_scores(supernet, [ranking], [batch])

    def rank(without=None):
        mixing = uniform_mixing(supernet, without=without)
        return float(values(supernet, mixing, [ranking], batch, twice=False)[0])

    whole = rank()
    for place in list(scores)[::5]:
        assert scores[place] == pytest.approx((whole - rank(place)) / whole, abs=1e-9)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_residual_block_halves_the_picture_and_rounds_up(size):
    block = ResidualBlock(3, 6, searched=False)
    images = pictures(2, 3, *size)
    expected = tuple(-(-side // 2) for side in size)
    assert block(images).shape == (2, 6, *expected)
    shortcut = block(images) - block.second(block.first(images))
    corner = functional.conv2d(
        images[:, :, :2, :2].mean((2, 3), keepdim=True), block.shortcut.weight
    )
    torch.testing.assert_close(shortcut[:, :, :1, :1], corner, rtol=1e-4, atol=1e-5)


def test_more_than_two_inputs_are_refused():
    space = space_of(inputs=3, **ONE_TYPE)
    with pytest.raises(ArchitectureError, match="'odd': cells have 3 inputs; networks can have"):
        supernet_of(space)
