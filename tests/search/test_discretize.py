import pytest
import torch

from zostudy.errors import ArchitectureError
from zostudy.networks.mixing import Mixing
from zostudy.search.discretize import discretize
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
FULL = OperationMask.full(SPACE)


def mixing(operations, edges=None):
    edges = torch.ones(14) if edges is None else edges
    return Mixing(
        dict.fromkeys(SPACE.cell_types, operations), dict.fromkeys(SPACE.cell_types, edges)
    )


def test_the_two_strongest_edges_and_their_best_operations_are_kept():
    weights = torch.full((14, 8), 0.1)
    weights[3, 6] = 0.9  # edge (1, 3): dil_conv_3x3
    weights[4, 1] = 0.8  # edge (2, 3): max_pool_3x3
    weights[2, 4] = 0.7  # edge (0, 3): third best
    genotype = discretize(mixing(weights), FULL)
    assert genotype.cells["normal"][1] == (("dil_conv_3x3", 1), ("max_pool_3x3", 2))


def test_none_is_never_kept_however_strong():
    weights = torch.full((14, 8), 0.1)
    weights[:, 0] = 0.9
    weights[:, 5] = 0.2
    genotype = discretize(mixing(weights), FULL)
    assert all(name == "sep_conv_5x5" for node in genotype.cells["normal"] for name, _ in node)


def test_edge_weights_scale_the_choice_of_edges():
    weights = torch.full((14, 8), 0.1)
    weights[2, 4], weights[3, 4], weights[4, 4] = 0.9, 0.8, 0.7
    edges = torch.ones(14)
    edges[2] = 0.1
    genotype = discretize(mixing(weights, edges), FULL)
    assert genotype.cells["normal"][1] == (("sep_conv_3x3", 1), ("sep_conv_3x3", 2))


def test_ties_go_to_the_earlier_edge_and_operation():
    genotype = discretize(mixing(torch.full((14, 8), 0.125)), FULL)
    assert genotype.cells["normal"][3] == (("max_pool_3x3", 0), ("max_pool_3x3", 1))


def test_a_masked_operation_is_never_kept_and_a_missing_edge_is_named():
    none_only = tuple(o == "none" for o in SPACE.operations)
    row = tuple(o in ("none", "skip_connect") for o in SPACE.operations)
    rows = tuple(none_only if edge == (1, 2) else row for edge in SPACE.edges)
    mask = OperationMask(SPACE, dict.fromkeys(SPACE.cell_types, rows))
    with pytest.raises(ArchitectureError, match=r"normal node 0 has 1 usable edges; .* needs 2"):
        discretize(mixing(torch.rand(14, 8)), mask)
