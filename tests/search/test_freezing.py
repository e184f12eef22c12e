"""Operations whose gradients disagree keep their weights: OLES."""

import itertools

import pytest
import torch

from tests.checkpoints import MemoryCheckpoint
from tests.methods import CPU, SPACES, batch, learner, mask_of, settings
from tests.reference.methods import agreement
from zostudy.config.loading import from_document
from zostudy.config.settings import SupernetSettings
from zostudy.errors import ConfigError
from zostudy.search.bilevel import search
from zostudy.search.freezing import operation_early_stop
from zostudy.stage import StageContext

EARLY_STOP = "operation_early_stop"


def rows_of(supernet):
    """For each operation with weights, its place, and where its parts of parameters are."""
    found = []
    for number, cell in enumerate(supernet.cells):
        for source, node in enumerate(cell.nodes):
            for column, rows, parameters in node.by_row():
                found += [
                    ((number, source, column, row), [(p, place, len(rows)) for p in parameters])
                    for place, row in enumerate(rows)
                ]
    return found


def part(tensor, place, count):
    size = len(tensor) // count
    return tensor[place * size : (place + 1) * size]


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("share", "k", "recompute"), [("full", 1, "none"), ("half", 4, "full")])
def test_the_agreement_is_the_mean_cosine_of_the_paper(space, dtype, share, k, recompute, request):
    torch.set_default_dtype(dtype)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    chosen = settings(freezing=EARLY_STOP, recompute=recompute)
    found = learner(mask_of(SPACES[space], share), chosen, cells=2, channels=8, k=k)
    seen = {"training": [], "architecture": []}
    observe = found.freezer.observe

    def observed(of_weights):
        given = {p: torch.zeros_like(p) if p.grad is None else p.grad for p in found.weights}
        seen["training"].append({p: gradient.clone() for p, gradient in given.items()})
        seen["architecture"].append(dict(zip(found.weights, of_weights, strict=True)))
        observe(of_weights)

    found.freezer.observe = observed
    for number in range(3):
        pictures = [batch(2 * number + one) for one in range(2)]
        pictures = [(images.to(dtype), labels) for images, labels in pictures]
        found.step(*pictures, epoch=0)
    expected = [
        agreement(
            *(
                [[part(step[p], place, n).tolist() for p, place, n in parts] for step in seen[side]]
                for side in ("training", "architecture")
            )
        )
        for _, parts in rows_of(found.supernet)
    ]
    precision = 1e-4 if dtype == torch.float32 else 1e-9
    measured = found.freezer.total / found.freezer.steps
    torch.testing.assert_close(measured, torch.tensor(expected), rtol=0, atol=precision)


def test_it_decides_by_the_mean_and_only_when_it_is_asked_to():
    scores = torch.tensor([0.39, 0.41, -1.0])
    assert operation_early_stop(scores, 19) is None
    assert operation_early_stop(scores, 20).tolist() == [True, False, True]
    assert operation_early_stop(scores, 3, threshold=0.0, every=3).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("space", "share", "k", "recompute"),
    [
        *itertools.product(["nasbench201"], ["full", "half", "one"], [1, 4], ["none"]),
        ("nasbench201", "half", 1, "partial"),
        ("darts", "full", 4, "full"),
        *(
            pytest.param("darts", *rest, marks=pytest.mark.slow)
            for rest in itertools.product(
                ["full", "half", "one"], [1, 4], ["none", "partial", "full"]
            )
        ),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(space, share, k, recompute):
    chosen = settings(freezing=(EARLY_STOP, {"every": 2, "threshold": 0.5}), recompute=recompute)
    found = learner(mask_of(SPACES[space], share), chosen, cells=2, channels=8, k=k)
    for number in range(2):
        found.step(batch(number), batch(9 + number), epoch=0)
    frozen = found.freezer.frozen.clone()
    before = {p: p.detach().clone() for p in found.weights}
    figures = found.step(batch(5), batch(6), epoch=0)
    assert all(torch.isfinite(figure).all() for figure in figures)
    for (_, parts), held in zip(rows_of(found.supernet), frozen.tolist(), strict=True):
        for parameter, place, n in parts:
            same = torch.equal(part(parameter, place, n), part(before[parameter], place, n))
            assert same == held  # weight decay moves what has no gradient as well
    assert not torch.equal(
        found.supernet.classifier.weight, before[found.supernet.classifier.weight]
    )


def test_some_are_frozen_and_some_are_not():
    chosen = settings(freezing=(EARLY_STOP, {"every": 1, "threshold": 0.0}))
    found = learner(mask_of(SPACES["nasbench201"], "full"), chosen, cells=2)
    found.step(batch(1), batch(2), epoch=0)
    assert 0 < found.freezer.share < 1


@pytest.mark.parametrize("schedule", ["none", ("shrinking", {"every": 1})])
def test_a_search_says_how_much_is_frozen_and_what_is_stays_so(schedule, small_dataset):
    chosen = settings(
        freezing=(EARLY_STOP, {"every": 1, "threshold": 0.9}),
        schedule=schedule,
        epochs=4,
        batch_size=22,
    )
    kept = MemoryCheckpoint()
    context = StageContext(CPU, 0, kept)
    mask = mask_of(SPACES["nasbench201"], "full")
    result = search(mask, small_dataset, SupernetSettings(cells=1, channels=4), chosen, context)
    shares = [epoch["frozen"] for epoch in result.history]
    assert 0 < shares[0] <= 1
    if schedule == "none":
        assert shares == sorted(shares)
    assert len(kept.state["freezer"]["frozen"]) == len(kept.state["freezer"]["total"])


def test_it_measures_nothing_where_nothing_is_frozen():
    found = learner(mask_of(SPACES["nasbench201"], "full"), settings(), cells=1)
    found.step(batch(1), batch(2), epoch=0)
    assert found.freezer.idle
    assert len(found.freezer.frozen) == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"order": "second"}, r"^search\.freezing\.name: .* search\.order is 'second'; allowed"),
        ({"relaxation": {"name": "gdas"}}, r"^search\.freezing\.name: .* every operation in a"),
        ({"architecture_fraction": 0}, r"^search\.freezing\.name: .* a fraction above 0"),
        ({"freezing": {"threshold": 2}}, r"^search\.freezing\.threshold: 2.* allowed: \[-1, 1\]"),
        ({"freezing": {"name": "olse"}}, r"^search\.freezing\.name: unknown freezing 'olse'"),
    ],
)
def test_what_it_cannot_be_combined_with_is_refused(section, message):
    given = {"study": "s", "dataset": {"name": "digits"}, "technique": "oles", "search": section}
    with pytest.raises(ConfigError, match=message):
        from_document(given).trial({})
