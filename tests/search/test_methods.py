"""Every relaxation on every mask, with partial channels, each recompute level and space."""

import dataclasses
import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.methods import SPACES, batch, learner, mask_of, settings
from zostudy.networks.mixing import Mixing
from zostudy.networks.node_operations import SharedDense
from zostudy.registry import components

RELAXATIONS = components("relaxation")
CHOICES = (
    tuple(RELAXATIONS),
    ("full", "half", "one"),
    (1, 4),
    ("none", "partial", "full"),
    ("darts", "nasbench201"),
)
PRODUCT = list(itertools.product(*CHOICES))


def pairs_of(case):
    return set(itertools.combinations(enumerate(case), 2))


def covering():
    """Cases of the product in which every two choices meet, found greedily."""
    left, found = set().union(*map(pairs_of, PRODUCT)), []
    while left:
        found.append(max(PRODUCT, key=lambda case: len(pairs_of(case) & left)))
        left -= pairs_of(found[-1])
    return found


COVERING = covering()
CASES = [
    *COVERING,
    *(pytest.param(*c, marks=pytest.mark.slow) for c in PRODUCT if c not in COVERING),
]


def living_nodes(space, kept, k):
    """The nodes of a cell that reach its output, under what is computed on its edges."""
    alive = set(space.targets if space.output == "nodes" else space.targets[-1:])
    for edge in reversed(range(len(space.edges))):
        source, target = space.edges[edge]
        if target in alive and passes(space, kept[edge], k):
            alive.add(source)
    return alive


def passes(space, row, k):
    return k > 1 or any(on and o != space.zero for on, o in zip(row, space.operations, strict=True))


def living_edges(supernet, kept, k):
    """(cell, edge) of the edges whose target reaches the logits."""
    space, cells = supernet.space, len(supernet.sequence)
    alive, found = {cells - 1}, set()
    for cell in reversed(range(cells)):
        if cell not in alive:
            continue
        nodes = living_nodes(space, kept[supernet.sequence[cell]], k)
        found |= {(cell, e) for e, (_, target) in enumerate(space.edges) if target in nodes}
        alive |= {cell - space.inputs + s for s in range(space.inputs) if s in nodes}
    return found


def kept_rows(found):
    """What is computed in a pass, by cell type."""
    return found.mixer.mixing().active or found.supernet.mask.rows


def captured(found):
    """What the optimizers of a learner are given, and what was computed then."""
    seen = {}
    for name in ("architecture", "weight"):

        def step(name=name):
            parameters = found.architecture if name == "architecture" else found.weights
            gradients = {p: None if p.grad is None else p.grad.clone() for p in parameters}
            seen[name] = gradients, kept_rows(found)

        getattr(found, f"{name}_optimizer").step = step
    return seen


def rows_of_parameters(supernet):
    """(cell, edge, column, a parameter's part) of every weight of an operation of the space."""
    for number, cell in enumerate(supernet.cells):
        for edges, node in zip(cell.outgoing.values(), cell.nodes, strict=True):
            for name, module in node.shared.items():
                column, rows = node._shared_rows[name]
                width = node.channels if isinstance(module, SharedDense) else 1
                for parameter in module.parameters():
                    for place, row in enumerate(rows):
                        if parameter.numel():
                            part = slice(place * width, (place + 1) * width)
                            yield number, edges[row], column, parameter, part


@pytest.mark.parametrize(("name", "share", "k", "recompute", "space"), CASES)
def test_a_step_reaches_what_it_computes_and_nothing_else(name, share, k, recompute, space):
    chosen = settings(relaxation=name, recompute=recompute)
    mask = mask_of(SPACES[space], share)
    cells = 3 if space == "darts" else 1
    found = learner(mask, chosen, cells=cells, channels=4 * k if k == 1 else 8, k=k)
    seen = captured(found)
    figures = found.step(batch(1), batch(2), epoch=0)
    assert all(torch.isfinite(figure).all() for figure in figures)
    assert_weights(found.supernet, *seen["weight"], k)
    assert_architecture(found.supernet, name, *seen["architecture"], k)


def assert_weights(supernet, gradients, kept, k):
    alive = living_edges(supernet, kept, k)
    for cell, edge, column, parameter, part in rows_of_parameters(supernet):
        gradient = gradients[parameter]
        if kept[supernet.sequence[cell]][edge][column] and (cell, edge) in alive:
            assert torch.isfinite(gradient[part]).all()
            assert bool((gradient[part] != 0).any())
        else:
            assert gradient is None or torch.all(gradient[part] == 0)
    assert bool((gradients[supernet.classifier.weight] != 0).any())


def assert_architecture(supernet, name, gradients, kept, k):
    """α of an edge has a gradient where a choice between its operations changes the logits."""
    alive, space = living_edges(supernet, kept, k), supernet.space
    for kind, alpha in supernet.alpha.items():
        gradient, mask = gradients[alpha], supernet.mask_of(kind)
        assert torch.isfinite(gradient).all()
        assert torch.all(gradient[~mask] == 0)
        if name == "uniform_path":
            assert torch.all(gradient == 0)
            continue
        for edge in {e for cell, e in alive if supernet.sequence[cell] == kind}:
            if not passes(space, kept[kind][edge], k=1):
                continue
            if name == "sigmoid":  # the zero operation has a weight that changes nothing
                reached = mask[edge].clone()
                reached[space.zero_index] = False
            elif int(mask[edge].sum()) > 1:
                reached = mask[edge]
            else:
                continue
            assert torch.all(gradient[edge][reached] != 0)


def test_the_covering_selection_has_every_two_choices():
    assert set().union(*map(pairs_of, COVERING)) == set().union(*map(pairs_of, PRODUCT))
    assert len(COVERING) < 40


def one_hot(mask, seed):
    """Weights of one operation an edge, drawn among those that the mask leaves."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for kind, rows in mask.rows.items():
        drawn = torch.rand(len(rows), len(rows[0]), generator=generator)
        best = drawn.masked_fill(~torch.tensor(rows), -1).argmax(1)
        found[kind] = torch.nn.functional.one_hot(best, len(rows[0])).to(torch.get_default_dtype())
    return found


EXTENSION = """
from torch import nn
from zostudy.registry import operation

@operation("my_convolution")
def my_convolution(channels, stride, affine):
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine, track_running_stats=False),
    )
"""


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """NAS-Bench-201 with a convolution of an extension in place of the 1×1."""
    (tmp_path / "operations_of_methods.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    return dataclasses.replace(
        SPACES["nasbench201"],
        operations=("none", "skip_connect", "my_convolution", "nor_conv_3x3", "avg_pool_3x3"),
        extensions=("operations_of_methods",),
    )


@pytest.mark.parametrize("space", ["darts", "nasbench201", "extended"])
@pytest.mark.parametrize("recompute", ["none", "partial", "full"])
@pytest.mark.parametrize("auxiliary", ["none", "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_has_no_weight_need_not_be_computed(space, recompute, auxiliary, dtype, request):
    torch.set_default_dtype(dtype)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    own = request.getfixturevalue("extended") if space == "extended" else SPACES[space]
    mask = mask_of(own, "full")
    chosen = settings(recompute=recompute, auxiliary_skip=auxiliary)
    supernet = learner(mask, chosen, cells=3 if space == "darts" else 1, k=2).supernet
    images, labels = batch(1)
    images = images.to(dtype)
    results = []
    for sparse in (False, True):
        weights = {kind: rows.requires_grad_() for kind, rows in one_hot(mask, 4).items()}
        columns = weights
        if auxiliary != "none":
            columns = {
                kind: torch.cat([rows, torch.full((len(rows), 1), 0.7)], 1)
                for kind, rows in weights.items()
            }
        active = {
            kind: tuple(tuple(v > 0 for v in row) for row in rows.tolist())
            for kind, rows in columns.items()
        }
        mixing = Mixing(columns, supernet.edge_weights(), active if sparse else {})
        logits = supernet(images, mixing)
        supernet.zero_grad(set_to_none=True)
        cross_entropy(logits, labels).backward()
        gradients = [None if p.grad is None else p.grad.clone() for p in supernet.parameters()]
        results.append((logits, gradients, weights))
    assert_same(*results, precision=1e-4 if dtype == torch.float32 else 1e-9)


def assert_same(dense, sparse, precision):
    torch.testing.assert_close(sparse[0], dense[0], rtol=precision, atol=precision)
    scale = max(float(g.abs().max()) for g in dense[1] if g is not None)
    for whole, part in zip(dense[1], sparse[1], strict=True):
        if part is None:
            assert whole is None or float(whole.abs().max()) == 0
        else:
            torch.testing.assert_close(part, whole, rtol=0, atol=precision * scale)
    for kind, weights in dense[2].items():
        expected = torch.where(weights > 0, weights.grad, 0)  # of what is not computed: none
        torch.testing.assert_close(sparse[2][kind].grad, expected, rtol=0, atol=precision * scale)
