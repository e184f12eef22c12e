import itertools

import pytest

from tests.tables import SPACE
from zostudy.space.enumeration import count, genotypes
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space


def test_the_full_spaces_have_as_many_architectures_as_published():
    assert count(OperationMask.full(search_space("nasbench201"))) == 5**6
    darts = count(OperationMask.full(search_space("darts")))
    assert darts == (7**2 * 7**2 * 3 * 7**2 * 6 * 7**2 * 10) ** 2  # more than 10^18


@pytest.mark.parametrize("removed", [(), (0,), (0, 4), (1, 5, 8)])
def test_every_architecture_of_a_mask_comes_once_and_none_other(removed):
    places = [("normal", edge, column) for edge, column in itertools.product(range(3), range(3))]
    mask = OperationMask.full(SPACE).changed(remove=[places[index] for index in removed])
    found = list(genotypes(mask))
    assert len(found) == len(set(found)) == count(mask)
    for genotype in found:
        for target, node in zip(SPACE.targets, genotype.cells["normal"], strict=True):
            for name, source in node:
                edge = SPACE.edges.index((source, target))
                assert mask.rows["normal"][edge][SPACE.operations.index(name)]


def test_where_a_node_keeps_two_edges_every_pair_of_them_counts():
    space = search_space("darts")
    lean = OperationMask.full(space).changed(
        remove=[
            (kind, edge, column)
            for kind in space.cell_types
            for edge in range(len(space.edges))
            for column in range(len(space.operations))
            if column != 3
        ]
    )
    assert count(lean) == (1 * 3 * 6 * 10) ** 2
    assert len(set(itertools.islice(genotypes(lean), 1000))) == 1000
