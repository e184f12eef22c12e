import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zostudy.data.splits import stratified
from zostudy.errors import DataError

counts = st.lists(st.integers(2, 40), min_size=1, max_size=6)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)


def labels_of(counts, seed=0):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def names(counts):
    return tuple(f"class{index}" for index in range(len(counts)))


@given(counts, fractions, seeds)
def test_rest_and_part_are_disjoint_and_together_everything(counts, fraction, seed):
    labels = labels_of(counts)
    rest, part = stratified(labels, fraction, (seed,), part="test", classes=names(counts))
    assert sorted(rest.tolist() + part.tolist()) == list(range(len(labels)))
    assert rest.tolist() == sorted(rest.tolist())
    assert part.tolist() == sorted(part.tolist())


@given(counts, fractions, seeds)
def test_every_class_gives_its_share_within_one_picture(counts, fraction, seed):
    labels = labels_of(counts)
    rest, part = stratified(labels, fraction, (seed,), part="test", classes=names(counts))
    for label, count in enumerate(counts):
        taken = int((labels[part] == label).sum())
        assert abs(taken - count * fraction) <= 1
        assert taken >= 1
        assert int((labels[rest] == label).sum()) == count - taken >= 1


@given(st.lists(st.integers(4, 20), min_size=2, max_size=4), fractions)
def test_the_rest_keeps_as_many_of_each_class_as_asked(counts, fraction):
    labels = labels_of(counts)
    rest, _ = stratified(labels, fraction, (0,), part="test", classes=names(counts), leave=3)
    assert int(torch.bincount(labels[rest]).min()) >= 3


def test_the_seed_alone_fixes_the_split():
    labels = labels_of([30, 50])

    def part(*seeds):
        return stratified(labels, 0.3, seeds, part="test", classes=("a", "b"))[1].tolist()

    state = torch.random.get_rng_state()
    assert part(7, 1) == part(7, 1)
    assert part(7, 1) != part(8, 1)
    assert part(7, 1) != part(7, 2)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("count", "leave", "needed"), [(1, 1, 2), (0, 1, 2), (3, 3, 4)])
def test_a_class_too_small_to_split_is_named_with_its_count(count, leave, needed):
    labels = labels_of([9, count])
    message = rf"'rare' has {count} pictures?; needs at least {needed} .* validation part"
    with pytest.raises(DataError, match=message):
        stratified(labels, 0.5, (0,), part="validation", classes=("often", "rare"), leave=leave)
