import dataclasses
import itertools

import pytest
import torch

from tests.methods import CPU, SPACES, batch, learner, mask_of, settings
from zostudy.config.settings import SupernetSettings
from zostudy.networks.mixing import Mixing
from zostudy.registry import components
from zostudy.search import curvature, schedules, session
from zostudy.search.bilevel import search
from zostudy.search.discretize import discretize
from zostudy.search.schedules import Restage, SearchRecord, Stop
from zostudy.search.session import Session
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext

SPACE = SPACES["nasbench201"]
FULL = OperationMask.full(SPACE)
SUPERNET = SupernetSettings(cells=1, channels=2)
SKIP = SPACE.operations.index("skip_connect")


def strengths(skips=0, learned=(0.3, 0.4)):
    """The 1×1 and 3×3 convolutions of these strengths; that many edges prefer the skip."""
    return {
        "normal": [
            [0.1, 0.9 if edge < skips else 0.2, *learned, 0.15] for edge in range(len(SPACE.edges))
        ]
    }


def record(history, *, epochs=50, warmup=0, mask=FULL, cells=1, eigenvalues=()):
    as_tensors = [{kind: torch.tensor(rows) for kind, rows in own.items()} for own in history]
    edges = dict.fromkeys(SPACE.cell_types, torch.ones(len(SPACE.edges)))
    genotypes = [discretize(Mixing(own, edges), mask) for own in as_tensors]
    return SearchRecord(
        len(history), epochs, warmup, mask, cells, history, genotypes, list(eigenvalues)
    )


def test_none_goes_on():
    assert schedules.none(record([strengths(6)])) is None


@pytest.mark.parametrize(("skips", "stops"), [(1, False), (2, True), (5, True)])
def test_too_many_skip_connections_stop_a_search_with_the_genotype_before(skips, stops):
    decided = schedules.skip_stop(record([strengths()] * 3 + [strengths(skips)]), stable_epochs=0)
    expected = Stop(f"a cell has {skips} skip connections", 3) if stops else None
    assert decided == expected


def test_skip_connections_of_the_warm_up_stop_nothing():
    history = [strengths(6)] * 3
    assert schedules.skip_stop(record(history, warmup=3)) is None
    assert schedules.skip_stop(record(history, warmup=2)) is None  # no epoch before
    assert schedules.skip_stop(record([*history, strengths(6)], warmup=2)).epoch == 3
    assert schedules.skip_stop(record(history), skips=0) is None


def test_a_ranking_that_stays_the_same_stops_a_search():
    """Only of operations with parameters, and for that many epochs, not for states."""
    other, same = strengths(learned=(0.4, 0.3)), [strengths(skips) for skips in (0, 1, 0, 1)]
    options = {"skips": 0, "stable_epochs": 3}
    assert schedules.skip_stop(record([other, *same[:3]]), **options) is None
    assert schedules.skip_stop(record([other, *same]), **options) == Stop(
        "the ranking was the same for 3 epochs", 5
    )
    assert schedules.skip_stop(record([same[0], other], warmup=0), stable_epochs=1) is None
    assert schedules.skip_stop(record([other, *same]), skips=0, stable_epochs=0) is None


@pytest.mark.parametrize(
    ("eigenvalues", "stops"),
    [
        ([1, 1, 1, 1], False),
        ([1, 1, 1.3, 1.3], False),
        ([1, 1, 1.4, 1.4], True),
        ([9, 1, 1, 1.4, 1.4], True),
        ([1, 1, 2], False),
        ([-1, -1, 2, 2], False),
    ],
)
def test_a_rising_eigenvalue_stops_a_search_with_the_genotype_before_the_rise(eigenvalues, stops):
    history = [strengths()] * (len(eigenvalues) + 3)
    given = record(history, warmup=3, eigenvalues=eigenvalues)
    decided = schedules.eigenvalue_stop(given, window=2)
    if not stops:
        assert decided is None
        return
    assert decided.epoch == len(history) - 2
    assert decided.reason == "the largest eigenvalue rose from 1 to 1.4"


def test_shrinking_removes_the_weakest_operation_of_each_edge_every_few_epochs():
    given, mask = [strengths()], FULL
    for epoch, left in ((1, None), (2, None), (3, 4), (4, None), (5, 3), (7, 2), (9, None)):
        decided = schedules.shrinking(
            record(given * epoch, warmup=1, mask=mask), every=2, operations_left=2
        )
        if left is None:
            assert decided is None
            continue
        assert isinstance(decided, Restage)
        assert (decided.fresh, decided.cells) == (False, 1)
        assert all(sum(row) == left for row in decided.mask.rows["normal"])
        mask = decided.mask
    convolutions = tuple(name.startswith("nor_conv") for name in SPACE.operations)
    assert mask.rows["normal"] == (convolutions,) * 6


def test_an_operation_that_a_genotype_may_keep_stays_on_every_edge():
    space = SPACES["darts"]
    rows = [[1.0, *[0.1] * 6, 0.2]] * len(space.edges)
    found = schedules.strongest(
        OperationMask.full(space), dict.fromkeys(space.cell_types, rows), lambda _: 1
    )
    assert not found.missing_edges()
    assert all(row.index(True) == 7 and sum(row) == 1 for row in found.rows["normal"])


def test_progressive_grows_deeper_and_keeps_a_share_rounded_up():
    mask, cells = OperationMask.full(SPACES["darts"]), 5
    rows = {kind: [list(range(8))] * 14 for kind in SPACES["darts"].cell_types}
    for stage, left in ((1, 5), (2, 3)):
        given = dataclasses.replace(
            record([strengths()]), epoch=25 * stage, epochs=75, mask=mask, cells=cells
        )
        given = dataclasses.replace(given, strengths=[rows])
        decided = schedules.progressive(given, cells_added=6)
        mask, cells = decided.mask, decided.cells
        assert decided.fresh
        assert all(sum(row) == left for row in mask.rows["normal"])
    assert cells == 17  # as in the paper
    assert schedules.progressive(dataclasses.replace(given, epoch=26)) is None
    announced = schedules.progressive_stages(
        OperationMask.full(SPACES["darts"]), 5, rows, stages=3, cells_added=6, kept=0.6
    )
    assert [(stage.mask, stage.cells) for stage in announced][-1] == (mask, cells)


@pytest.mark.parametrize(("operations", "kept", "left"), [(20, 0.55, 11), (5, 0.6, 3), (3, 0.4, 2)])
def test_a_share_is_not_rounded_up_for_a_rounding_error(monkeypatch, operations, kept, left):
    seen = []
    monkeypatch.setattr(schedules, "strongest", lambda *given: seen.append(given[2](operations)))
    schedules._next_stage(FULL, 1, strengths(), kept)
    assert seen == [left]


SEARCHES = {
    "none": {},
    "skip_stop": {"skips": 1},
    "eigenvalue_stop": {"window": 1, "largest_rise": 1.0001},
    "shrinking": {"every": 1},
    "progressive": {"cells_added": 1},
}


def test_every_schedule_is_searched_with():
    assert set(SEARCHES) == set(components("search_schedule"))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("share", ["full", "half"])
def test_a_search_with_a_schedule_ends_with_a_genotype_of_its_mask(
    name, share, small_dataset, monkeypatch
):
    monkeypatch.setattr(curvature, "_ITERATIONS", 2)
    monkeypatch.setattr(session, "_SAMPLED", 0)
    mask = mask_of(SPACE, share)
    chosen = settings(epochs=6, batch_size=30, schedule=(name, SEARCHES[name]))
    found = Session(mask, small_dataset, SUPERNET, chosen, StageContext(CPU, seed=0))
    found.resume()
    stages = [(0, found.supernet.mask, found.supernet_settings.cells)]
    while not found.ended:
        found.train_epoch()
        now = found.supernet.mask, found.supernet_settings.cells
        if now != stages[-1][1:]:
            stages.append((found.epoch, *now))
    assert_stages(name, stages, mask)
    genotype = found.genotype()
    for kind, nodes in genotype.cells.items():
        for target, node in zip(SPACE.targets, nodes, strict=True):
            for operation, source in node:
                row = stages[-1][1].rows[kind][SPACE.edges.index((source, target))]
                assert row[SPACE.operations.index(operation)]
    if share == "full":
        return
    result = search(mask, small_dataset, SUPERNET, chosen, StageContext(CPU, seed=0))
    assert (result.genotype, len(result.history)) == (genotype, found.epoch)
    assert any("the search ended after epoch" in note for note in result.notes) == (found.epoch < 6)


def assert_stages(name, stages, mask):
    if name == "progressive":
        assert [(epoch, cells) for epoch, _, cells in stages] == [(0, 1), (2, 2), (4, 3)]
    elif name == "shrinking":
        assert {cells for _, _, cells in stages} == {1}
        assert all(
            sum(row) == min(2, sum(before))
            for row, before in zip(stages[-1][1].rows["normal"], mask.rows["normal"], strict=True)
        )
    else:
        assert len(stages) == 1
    for (_, before, _), (_, after, _) in itertools.pairwise(stages):
        assert set(after.places()) <= set(before.places())


def without(mask, name):
    column = mask.space.operations.index(name)
    return mask.changed(remove=[place for place in mask.places() if place[2] == column])


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("auxiliary", ["none", "cosine"])
@pytest.mark.parametrize("removed", ["skip_connect", "avg_pool_3x3", "some"])
def test_what_stays_keeps_its_weights(space, auxiliary, removed):
    """The logits are those from before where what was removed had weight 0."""
    before, chosen = OperationMask.full(space), settings(auxiliary_skip=auxiliary)
    after = mask_of(space) if removed == "some" else without(before, removed)
    cells = 3 if space.name == "darts" else 1
    old = learner(before, chosen, cells=cells, k=2, normalize=True)
    new = learner(after, chosen, cells=cells, k=2, normalize=True, seed=1)
    new.supernet.inherit_(old.supernet)
    for own, theirs in zip(new.architecture, old.architecture, strict=True):
        assert torch.equal(own, theirs)
    new.mixer.begin(1)
    mixing, images = new.mixer.mixing(), batch(1)[0]
    torch.testing.assert_close(
        new.supernet(images, mixing), old.supernet(images, mixing), rtol=1e-4, atol=1e-5
    )
