import itertools

import pytest
import torch

from tests.methods import CPU, SPACES, batch, learner, mask_of, settings
from zostudy.config.settings import SupernetSettings
from zostudy.networks.mixing import Mixing
from zostudy.registry import components
from zostudy.search import selections, session
from zostudy.search.bilevel import search
from zostudy.search.discretize import discretize
from zostudy.search.schedules import skip_connections
from zostudy.search.selections import Searched
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext

SELECTIONS = components("selection")
TOPOLOGY = SPACES["nasbench201"]
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
every_selection = pytest.mark.parametrize("name", SELECTIONS)


def strengths_of(mask, seed=0, **liked):
    """Random strengths; some operations have more."""
    generator, space = torch.Generator().manual_seed(seed), mask.space
    operations, edges = {}, {}
    for kind, rows in mask.rows.items():
        values = torch.rand(len(rows), len(space.operations), generator=generator)
        for name, more in liked.items():
            values[:, space.operations.index(name)] += more
        operations[kind] = values * torch.tensor(rows)
        edges[kind] = 0.5 + torch.rand(len(rows), generator=generator)
    return Mixing(operations, edges)


def preferences(space, seed=3):
    """A table of how much each operation of each edge adds to the accuracy."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(space.edges), len(space.operations)
    return {kind: torch.rand(shape, generator=generator) for kind in space.cell_types}


def searched(mask, strengths=None, table=None, seed=0):
    table = table or preferences(mask.space)
    seen = []

    def accuracy(mixing):
        seen.append(mixing)
        return sum(
            float((rows * mixing.edges[kind][:, None] * table[kind]).sum())
            for kind, rows in mixing.operations.items()
        )

    found = Searched(mask, strengths or strengths_of(mask), accuracy, seed)
    return found, seen


def assert_of_mask(genotype, mask):
    assert isinstance(genotype, Genotype)
    for kind, nodes in genotype.cells.items():
        for target, node in zip(mask.space.targets, nodes, strict=True):
            for name, source in node:
                row = mask.rows[kind][mask.space.edges.index((source, target))]
                assert row[mask.space.operations.index(name)]


def best_of(table, mask):
    """For each edge, the preferred operation among those that are left (every edge is kept)."""
    rows = {kind: torch.tensor(rows) * (table[kind] + 1e-6) for kind, rows in mask.rows.items()}
    return discretize(Mixing(rows, {kind: torch.ones(6) for kind in rows}), mask)


@every_selection
@every_space
@pytest.mark.parametrize("share", ["full", "half", "one"])
def test_every_selection_gives_a_genotype_of_the_mask(name, space, share):
    mask = mask_of(space, share)
    options = {"evolution": {"population": 6, "generations": 2}, "validated": {"candidates": 4}}
    chosen = searched(mask)[0]
    before = {kind: rows.clone() for kind, rows in chosen.strengths.operations.items()}
    select = SELECTIONS[name].load()
    genotype = select(chosen, **options.get(name, {}))
    assert_of_mask(genotype, mask)
    assert select(searched(mask)[0], **options.get(name, {})) == genotype
    for kind, rows in chosen.strengths.operations.items():
        assert torch.equal(rows, before[kind])


@every_space
def test_the_largest_is_that_of_discretization(space):
    chosen = searched(mask_of(space))[0]
    assert selections.largest(chosen) == discretize(chosen.strengths, chosen.mask)


@every_space
@pytest.mark.parametrize("share", ["full", "half"])
@pytest.mark.parametrize("limit", [0, 1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_the_limit_of_skip_connections_holds_unless_an_edge_has_nothing_else(
    space, share, limit, seed
):
    mask = mask_of(space, share, seed)
    strengths = strengths_of(mask, seed, skip_connect=0.7)
    genotype = selections.skip_limit(searched(mask, strengths)[0], skips=limit)
    column = space.operations.index("skip_connect")
    usable = [space.operations.index(name) for name in space.keepable]
    for kind, count in skip_connections(genotype).items():
        forced = sum(
            row[column] and not any(row[c] for c in usable if c != column)
            for row in mask.rows[kind]
        )
        assert count <= max(limit, forced)
    generous = selections.skip_limit(searched(mask, strengths)[0], skips=1000)
    assert generous == discretize(strengths, mask)


def test_the_limit_holds_where_all_others_have_no_strength():
    space = SPACES["darts"]
    mask = OperationMask.full(space)
    rows = torch.zeros(14, 8)
    rows[:, 3] = 1
    own = Mixing(
        dict.fromkeys(space.cell_types, rows), dict.fromkeys(space.cell_types, torch.ones(14))
    )
    genotype = selections.skip_limit(searched(mask, own)[0], skips=2)
    assert set(skip_connections(genotype).values()) == {2}


def test_the_weakest_skip_connections_go_first():
    mask = OperationMask.full(TOPOLOGY)
    rows = torch.full((6, 5), 0.1)
    rows[:, 1] = torch.tensor([0.9, 0.3, 0.8, 0.4, 0.5, 0.2])
    own = Mixing({"normal": rows}, {"normal": torch.ones(6)})
    genotype = selections.skip_limit(searched(mask, own)[0], skips=2)
    edges = [
        (source, target)
        for target, node in zip(TOPOLOGY.targets, genotype.cells["normal"], strict=True)
        for name, source in node
        if name == "skip_connect"
    ]
    assert sorted(TOPOLOGY.edges.index(edge) for edge in edges) == [0, 2]


@pytest.mark.parametrize("share", ["full", "half"])
@pytest.mark.parametrize("seed", range(3))
def test_perturbation_keeps_what_the_supernet_needs_however_strong_others_are(share, seed):
    mask, table = mask_of(TOPOLOGY, share), preferences(TOPOLOGY, seed)
    equal = {kind: torch.tensor(rows).float() for kind, rows in mask.rows.items()}
    chosen, seen = searched(mask, Mixing(equal, {"normal": torch.ones(6)}), table, seed)
    assert selections.perturbation(chosen) == best_of(table, mask)
    choices = sum(sum(row) for row in mask.rows["normal"] if sum(row) > 1)
    assert len(seen) == choices


def test_perturbation_keeps_the_edges_that_the_supernet_needs():
    space = SPACES["darts"]
    mask = OperationMask.full(space)
    table = {kind: torch.full((14, 8), 0.01) for kind in space.cell_types}
    needed = (3, 4), (1, 3), (1, 2), (0, 5), (4, 5), (0, 2), (0, 3), (2, 4)
    for kind in space.cell_types:
        for edge in needed:
            table[kind][space.edges.index(edge), 6] = 1.0
    equal = {kind: torch.full((14, 8), 0.125) for kind in space.cell_types}
    ones = dict.fromkeys(space.cell_types, torch.ones(14))
    genotype = selections.perturbation(searched(mask, Mixing(equal, ones), table)[0])
    for nodes in genotype.cells.values():
        for target, node in zip(space.targets, nodes, strict=True):
            assert {name for name, _ in node} == {"dil_conv_3x3"}
            assert {(source, target) for _, source in node} <= set(needed)


@pytest.mark.parametrize("share", ["full", "half"])
def test_evolution_finds_the_best_path(share):
    mask, table = mask_of(TOPOLOGY, share), preferences(TOPOLOGY)
    chosen, seen = searched(mask, table=table)
    found = selections.evolution(chosen, population=24, generations=30)
    assert found == best_of(table, mask)
    assert len(seen) < 24 * 31  # what is known is not tried again
    for mixing in seen[:20]:
        for row, weights in zip(
            mixing.active["normal"], mixing.operations["normal"].tolist(), strict=True
        ):
            assert sorted(weights) == [0, 0, 0, 0, 1]
            assert row == tuple(weight > 0 for weight in weights)


def test_validated_finds_the_best_of_all_that_it_tries():
    mask, table = mask_of(TOPOLOGY, "half"), preferences(TOPOLOGY)
    count = 1
    for row in mask.rows["normal"]:
        count *= sum(row)
    equal = {kind: torch.tensor(rows).float() for kind, rows in mask.rows.items()}
    chosen, seen = searched(mask, Mixing(equal, {"normal": torch.ones(6)}), table)
    found = selections.validated(chosen, candidates=20 * count)
    assert len(seen) == count  # each once
    assert found == best_of(table, mask)
    one, seen = searched(mask, table=table)
    assert selections.validated(one, candidates=1) == selections.largest(one)
    assert len(seen) == 1


def test_validated_prefers_what_is_strong():
    mask = OperationMask.full(TOPOLOGY)
    rows = torch.full((6, 5), 0.01)
    rows[:, 3] = 1
    own = Mixing({"normal": rows}, {"normal": torch.ones(6)})
    chosen, seen = searched(mask, own)
    selections.validated(chosen, candidates=10)
    share = torch.stack([mixing.operations["normal"][:, 3] for mixing in seen]).mean()
    assert float(share) > 0.7


@every_space
def test_a_genotype_alone_is_all_that_is_computed(space):
    mask = mask_of(space)
    own = strengths_of(mask)
    chosen = searched(mask, own)[0]
    genotype = selections.largest(chosen)
    mixing = selections.alone(genotype, chosen)
    assert discretize(mixing, mask) == genotype
    for kind, nodes in genotype.cells.items():
        kept = sum(len(node) for node in nodes)
        assert int(mixing.operations[kind].sum()) == kept
        assert sum(map(sum, mixing.active[kind])) == kept
        on = mixing.operations[kind].sum(1) > 0
        assert torch.equal(mixing.edges[kind], own.edges[kind] * on)
    supernet = learner(mask, settings(), cells=3 if space.name == "darts" else 1).supernet
    images = batch(1)[0]
    torch.testing.assert_close(
        supernet(images, mixing), supernet(images, Mixing(mixing.operations, mixing.edges))
    )


@pytest.mark.parametrize(
    ("selection", "auxiliary"),
    [*itertools.product(["evolution", "perturbation"], ["none", "linear"]), ("validated", "none")],
)
def test_a_search_ends_with_a_selection_on_the_supernet(
    selection, auxiliary, small_dataset, monkeypatch
):
    monkeypatch.setattr(session, "_SAMPLED", 0)
    options = {"evolution": {"population": 4, "generations": 2}, "validated": {"candidates": 4}}
    chosen = settings(
        epochs=1,
        batch_size=30,
        auxiliary_skip=auxiliary,
        selection=(selection, options.get(selection, {})),
    )
    mask = mask_of(TOPOLOGY)
    size = SupernetSettings(cells=1, channels=2)
    result = search(mask, small_dataset, size, chosen, StageContext(CPU, seed=0))
    assert_of_mask(result.genotype, mask)
