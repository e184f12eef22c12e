"""Random genotypes: allowed by their mask, each equally likely, the same for the same seed."""

from collections import Counter

import pytest

from zostudy.search.random_choice import random_genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_equal_for_the_same_seed_and_draw_only(name):
    mask = OperationMask.full(search_space(name))
    found = {
        (seed, draw): str(random_genotype(mask, seed, draw)) for seed in (0, 1) for draw in (0, 1)
    }
    assert len(set(found.values())) == 4
    assert str(random_genotype(mask, 1, 1)) == found[1, 1]


def test_only_what_the_mask_keeps_is_drawn():
    space = search_space("darts")
    row = tuple(name in ("skip_connect", "sep_conv_3x3") for name in space.operations)
    mask = OperationMask(space, {kind: (row,) * len(space.edges) for kind in space.cell_types})
    names = Counter(
        name
        for draw in range(40)
        for nodes in random_genotype(mask, 0, draw).cells.values()
        for node in nodes
        for name, _ in node
    )
    assert names.keys() == {"skip_connect", "sep_conv_3x3"}


def test_edges_and_operations_are_equally_likely():
    """Of 2,000 draws, shares within four standard deviations of what chance gives."""
    space, draws = search_space("darts"), 2000
    few = tuple(name == "skip_connect" for name in space.operations)
    all_of_them = (True,) * len(space.operations)
    rows = (few, *([all_of_them] * (len(space.edges) - 1)))
    mask = OperationMask(space, dict.fromkeys(space.cell_types, rows))
    nodes = [random_genotype(mask, 0, draw).cells["normal"] for draw in range(draws)]
    pairs = Counter(tuple(source for _, source in found[1]) for found in nodes)
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    assert all(abs(n - draws / 3) < 4 * (draws * 2 / 9) ** 0.5 for n in pairs.values())
    operations = Counter(found[3][0][0] for found in nodes)
    chance = 1 / len(space.keepable)
    spread = (draws * chance * (1 - chance)) ** 0.5
    assert operations.keys() == set(space.keepable)
    assert all(abs(n - draws * chance) < 4 * spread for n in operations.values())
