import pytest
import torch
from torch.nn import functional

from tests.reference.pairing import pairs, reference_of
from zostudy.config.settings import SupernetSettings
from zostudy.networks.memory import LiveBytes
from zostudy.networks.node_operations import NodeOperations, SharedDense
from zostudy.networks.supernet import Supernet
from zostudy.registry import components
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACES = {name: search_space(name) for name in components("search_space")}
SPACE = SPACES["darts"]
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_mask(seed, keep=0.5, space=SPACE):
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for kind in space.cell_types:
        drawn = torch.rand(len(space.edges), len(space.operations), generator=generator)
        kept = drawn < keep
        kept[torch.arange(len(kept)), drawn.argmin(1)] = True
        rows[kind] = tuple(tuple(bool(v) for v in row) for row in kept)
    return OperationMask(space, rows)


def supernet_of(mask, settings, seed=0, **options):
    torch.manual_seed(seed)
    supernet = Supernet(mask.space, mask, settings, in_channels=3, classes=5, **options)
    with torch.no_grad():
        for kind, alpha in supernet.alpha.items():
            alpha.copy_(torch.randn_like(alpha) * supernet.mask_of(kind))
        for beta in supernet.beta.values():
            beta.copy_(torch.randn_like(beta))
    return supernet


def relative(ours, theirs):
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))


CASES = [
    # space, cells, channels, k, edge normalization, side, kept share
    ("darts", 5, 4, 1, False, 16, 1.0),
    ("darts", 5, 4, 4, True, 16, 1.0),
    ("darts", 4, 8, 2, True, 9, 0.5),
    ("darts", 3, 4, 2, False, 11, 0.4),
    ("darts", 2, 4, 1, True, 8, 0.3),
    ("darts", 5, 8, 4, True, 13, 0.5),
    ("darts", 1, 2, 2, True, 8, 0.2),
    ("darts", 6, 1, 1, False, 8, 0.5),
    ("nasbench201", 3, 4, 1, False, 16, 1.0),
    ("nasbench201", 2, 4, 4, True, 16, 1.0),
    ("nasbench201", 1, 8, 2, True, 9, 0.6),
    ("nasbench201", 2, 4, 2, False, 11, 0.4),
    ("nasbench201", 1, 1, 1, False, 13, 0.6),
]


def with_recomputation():
    """Every case with every level of it; `pytest` alone runs one level of each."""
    for number, case in enumerate(CASES):
        for seed, recompute in ((1, "none"), (2, "partial"), (3, "full")):
            left = () if number % 3 == seed - 1 else (pytest.mark.slow,)
            yield pytest.param(case, seed, recompute, marks=left)


@pytest.mark.parametrize(("case", "seed", "recompute"), list(with_recomputation()))
def test_logits_and_every_gradient_are_those_of_the_per_edge_formulation(case, seed, recompute):
    name, cells, channels, k, normalization, side, keep = case
    space = SPACES[name]
    settings = SupernetSettings(
        cells=cells, channels=channels, partial_channels=k, edge_normalization=normalization
    )
    mask = OperationMask.full(space) if keep == 1.0 else random_mask(seed, keep, space)
    ours = supernet_of(mask, settings, seed, recompute=recompute)
    theirs = reference_of(ours, settings, 3, 5)
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(seed))
    assert_alike(ours, theirs, images)


def assert_alike(ours, theirs, images, precision=1e-9):
    """Logits and every gradient of ours are those of the reference."""
    direction = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).to(images)
    logits, expected = ours(images), theirs(images)
    assert relative(logits, expected) < precision
    (logits * direction).sum().backward()
    (expected * direction).sum().backward()
    scale = max(float(p.grad.abs().max()) for p in theirs.parameters() if p.grad is not None)
    compared = 0
    for mine, index, other in pairs(ours, theirs):
        if other.grad is None or mine.grad is None:
            assert other.grad is None or float(other.grad.abs().max()) < 1e-12 * scale
            assert mine.grad is None or float(mine.grad.abs().max()) < 1e-12 * scale
            continue
        difference = (mine.grad[index].reshape(other.shape) - other.grad).abs().max()
        assert float(difference) < precision * scale
        compared += 1
    assert compared == sum(1 for p in theirs.parameters() if p.grad is not None)


@every_space
def test_every_parameter_of_ours_is_one_of_the_reference(space):
    settings = SupernetSettings(cells=3, channels=4, partial_channels=2, edge_normalization=True)
    ours = supernet_of(random_mask(3, space=space), settings)
    theirs = reference_of(ours, settings, 3, 5)
    ours_count, theirs_count = (sum(p.numel() for p in net.parameters()) for net in (ours, theirs))
    assert ours_count == theirs_count
    assert {id(mine) for mine, _, _ in pairs(ours, theirs)} == {id(p) for p in ours.parameters()}


@every_space
def test_a_masked_operation_has_no_parameter_and_no_gradient(space):
    mask = random_mask(4, keep=0.3, space=space)
    supernet = supernet_of(mask, SupernetSettings(cells=3, channels=4))
    supernet(torch.randn(2, 3, 8, 8)).sum().backward()
    for kind, alpha in supernet.alpha.items():
        assert torch.all(alpha.grad[~supernet.mask_of(kind)] == 0)
        assert torch.all(supernet.mixing().operations[kind][~supernet.mask_of(kind)] == 0)
    full = supernet_of(OperationMask.full(space), SupernetSettings(cells=3, channels=4))
    assert len(list(supernet.parameters())) < len(list(full.parameters()))
    for cell, kind in zip(supernet.cells, supernet.sequence, strict=True):
        for edges, node in zip(cell.outgoing.values(), cell.nodes, strict=True):
            for column, name in enumerate(space.operations):
                rows = [edge for edge in edges if mask.rows[kind][edge][column]]
                if name in node.shared:
                    first = next(node.shared[name].parameters())
                    dense = isinstance(node.shared[name], SharedDense)
                    assert first.shape[0] == len(rows) * (node.channels if dense else 1)


@every_space
@pytest.mark.parametrize("k", [1, 2])
def test_an_edge_of_none_alone_passes_nothing(space, k):
    none_only = tuple(name == space.zero for name in space.operations)
    everything = (True,) * len(space.operations)
    rows = tuple(none_only if target == 3 else everything for _, target in space.edges)
    mask = OperationMask(space, dict.fromkeys(space.cell_types, rows))
    settings = SupernetSettings(cells=3, channels=4, partial_channels=k)
    ours = supernet_of(mask, settings)
    theirs = reference_of(ours, settings, 3, 5)
    images = torch.randn(4, 3, 8, 8)
    assert relative(ours(images), theirs(images)) < 1e-9


def test_an_operation_of_an_extension_runs_edge_by_edge(tmp_path, monkeypatch):
    (tmp_path / "my_operations.py").write_text(
        "from torch import nn\n"
        "from zostudy.registry import operation\n"
        '@operation("conv_1x1")\n'
        "def conv_1x1(channels, stride, affine):\n"
        "    return nn.Conv2d(channels, channels, 1, stride)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mask = [[True, True], [True, False]]
    space = search_space("darts", ("my_operations",))
    operations = [space.operation(name) for name in ("skip_connect", "conv_1x1")]
    node = NodeOperations(operations, mask, 4, 1)
    images, weights = torch.randn(2, 4, 8, 8), torch.rand(2, 2)
    outputs = [torch.zeros_like(images), torch.zeros_like(images)]
    for row, term, weight, _ in node(images, node.weights(weights)):
        outputs[row] += term * weight
    first, second = outputs
    module = node.single["conv_1x1_0"]
    torch.testing.assert_close(first, weights[0, 0] * images + weights[0, 1] * module(images))
    torch.testing.assert_close(second, weights[1, 0] * images)


def test_kaiming_initialization_has_the_fan_out_of_each_edges_convolution():
    supernet = supernet_of(OperationMask.full(SPACE), SupernetSettings(cells=1, channels=64))
    supernet.kaiming_normal_(torch.Generator().manual_seed(0))
    shared = supernet.cells[0].nodes[0].shared["sep_conv_5x5"]
    assert float(shared.depthwise[0].detach().std()) == pytest.approx(
        (2 / (64 * 25)) ** 0.5, rel=0.05
    )
    assert float(shared.pointwise[0].detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert float(supernet.stem[0].weight.detach().std()) == pytest.approx(
        (2 / (192 * 9)) ** 0.5, rel=0.05
    )


@every_space
def test_recomputing_more_takes_less_memory(space):
    settings = SupernetSettings(cells=3, channels=8, partial_channels=2, edge_normalization=True)
    images = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    peaks = []
    for option in ("none", "partial", "full"):
        supernet = supernet_of(random_mask(2, space=space), settings, recompute=option)
        with LiveBytes(supernet, images) as live:
            supernet(images).square().sum().backward()
        peaks.append(live.peak)
    assert peaks[2] < 0.8 * peaks[1] < 0.8**2 * peaks[0]


@pytest.mark.parametrize("recompute", ["partial", "full"])
@pytest.mark.parametrize("group", ["architecture_parameters", "weight_parameters"])
@every_space
def test_gradients_of_one_group_are_the_same_when_the_other_is_frozen(space, recompute, group):
    settings = SupernetSettings(cells=3, channels=4, partial_channels=2, edge_normalization=True)
    images = torch.randn(4, 3, 11, 11, generator=torch.Generator().manual_seed(0))
    found = []
    for option in ("none", recompute):
        supernet = supernet_of(random_mask(2, space=space), settings, recompute=option)
        wanted = getattr(supernet, group)()
        supernet.requires_grad_(option == "none")
        for parameter in wanted:
            parameter.requires_grad_(True)
        loss = supernet(images).square().sum()
        found.append(torch.autograd.grad(loss, wanted, allow_unused=True))
    for plain, again in zip(*found, strict=True):
        assert (plain is None and again is None) or torch.allclose(plain, again, rtol=1e-10)


@every_space
def test_recomputing_under_autocast_gives_the_gradients_of_autocast(space):
    torch.set_default_dtype(torch.float32)
    settings = SupernetSettings(cells=3, channels=4, partial_channels=2)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for option in ("none", "partial", "full"):
        supernet = supernet_of(random_mask(2, space=space), settings, recompute=option)
        with torch.autocast("cpu", torch.bfloat16):
            loss = supernet(images).float().square().sum()
        loss.backward()
        found.append(
            torch.cat([p.grad.flatten() for p in supernet.parameters() if p.grad is not None])
        )
    plain, *others = found
    for again in others:
        assert functional.cosine_similarity(plain, again, dim=0) > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recompute", ["none", "partial", "full"])
@every_space
@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
def test_gradients_on_cuda_are_those_on_the_cpu(space, recompute):
    settings = SupernetSettings(cells=3, channels=8, partial_channels=2, edge_normalization=True)
    images = torch.randn(8, 3, 13, 13, generator=torch.Generator().manual_seed(0))
    found = []
    for device, option in (("cpu", "none"), ("cuda", recompute)):
        supernet = supernet_of(random_mask(2, space=space), settings, recompute=option).to(device)
        supernet(images.to(device)).square().sum().backward()
        found.append([p.grad for p in supernet.parameters()])
    for plain, again in zip(*found, strict=True):
        assert (plain is None) == (again is None)
        if plain is not None:
            torch.testing.assert_close(again.cpu(), plain, rtol=1e-6, atol=1e-9)


def test_the_same_seed_gives_the_same_bits():
    settings = SupernetSettings(cells=2, channels=4, partial_channels=2)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (supernet_of(random_mask(1), settings)(images) for _ in range(2))
    assert torch.equal(first, second)
