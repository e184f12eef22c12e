import pytest

from tests.reference import pruning as reference
from zostudy.pruning import greedy
from zostudy.pruning.greedy import Round
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
FULL = OperationMask.full(SPACE)


def score_of(place):
    kind, edge, column = place
    return ((edge * 7 + column * 5 + len(kind)) % 11) + column / 100


def next_round(per_round, calls):
    def compute(mask, index):
        calls.append(index)
        counted = {p: score_of(p) for p in mask.places() if sum(mask.rows[p[0]][p[1]]) > 1}
        return Round(mask, counted, greedy.lowest(mask, counted, per_round), 0.5, 10)

    return compute


@pytest.mark.parametrize("measure", ["operations", "architectures"])
@pytest.mark.parametrize("per_round", [1, 3])
@pytest.mark.parametrize("xi", [0.05, 0.25, 0.5, 0.75, 1.0])
def test_masks_are_those_of_algorithm_1_in_plain_loops(measure, per_round, xi):
    def stop(mask):
        return mask.count() == 28 or greedy.reached(mask, xi, measure)

    mask, rounds = greedy.rounds_until(FULL, stop, next_round(per_round, []), [])
    expected = reference.algorithm1(
        lambda m: {
            (k, e, o): score_of((k, e, o))
            for k, rows in m.items()
            for e, row in enumerate(rows)
            for o, kept in enumerate(row)
            if kept
        },
        {kind: [list(row) for row in rows] for kind, rows in FULL.rows.items()},
        xi,
        measure,
        per_round,
    )
    assert len(rounds) == len(expected) - 1
    assert {k: [list(r) for r in rows] for k, rows in mask.rows.items()} == expected[-1]


def test_a_deeper_level_goes_on_from_the_rounds_of_a_shallower_one():
    calls = []
    known = []
    compute = next_round(1, calls)

    def level(xi):
        return lambda mask: greedy.reached(mask, xi, "operations")

    shallow, _ = greedy.rounds_until(FULL, level(0.75), compute, known)
    deep, rounds = greedy.rounds_until(FULL, level(0.25), compute, known)
    again, _ = greedy.rounds_until(FULL, level(0.75), compute, known)
    assert calls == list(range(6))
    assert len(rounds) == 6
    assert again == shallow
    assert deep.level("operations") == 0.25


def test_a_round_survives_json():
    done = next_round(1, [])(FULL, 0)
    assert Round.of(done.to_dict(), FULL) == done


def test_no_edge_ever_loses_its_last_operation_or_its_last_scored_one():
    only = {(kind, edge, 3): 0.0 for kind in SPACE.cell_types for edge in range(14)}
    assert greedy.lowest(FULL, only, 5) == ()
    everything = dict.fromkeys(FULL.places(), 1.0)
    removed = greedy.lowest(FULL, everything, 100)
    assert FULL.changed(remove=removed).count() == 28


def test_what_lasted_longer_is_preferred_when_a_mask_is_repaired():
    first = Round(FULL, {("normal", 0, 1): 9.0, ("normal", 0, 2): 5.0}, (), 0, 0)
    second = Round(FULL, {("normal", 0, 2): 0.1}, (), 0, 0)
    last = greedy.last_scores([first, second])
    assert last["normal", 0, 2] > last["normal", 0, 1]
