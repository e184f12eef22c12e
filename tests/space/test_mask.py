import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zostudy.errors import ArchitectureError
from zostudy.networks.mixing import Mixing
from zostudy.search.discretize import discretize
from zostudy.space import mask as masks
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
FULL = OperationMask.full(SPACE)


@st.composite
def any_mask(draw):
    row = st.lists(st.booleans(), min_size=8, max_size=8).filter(any).map(tuple)
    rows = st.lists(row, min_size=14, max_size=14).map(tuple)
    return OperationMask(SPACE, {kind: draw(rows) for kind in SPACE.cell_types})


@given(any_mask())
@settings(max_examples=40, deadline=None)
def test_json_round_trip_is_the_identity(mask):
    assert masks.from_dict(mask.to_dict(), SPACE) == mask


@given(any_mask())
@settings(max_examples=40, deadline=None)
def test_a_repaired_mask_always_has_a_genotype_and_an_unbroken_one_is_left_alone(mask):
    added = mask.repairs({})
    assert len(added) == sum(mask.missing_edges().values())
    repaired = mask.changed(add=added)
    assert not repaired.missing_edges()
    uniform = torch.ones(14, 8) / 8
    mixing = Mixing(
        dict.fromkeys(SPACE.cell_types, uniform), dict.fromkeys(SPACE.cell_types, uniform[:, 0])
    )
    genotype = discretize(mixing, repaired)
    for kind, nodes in genotype.cells.items():
        for target, node in zip(SPACE.targets, nodes, strict=True):
            for name, source in node:
                edge = SPACE.edges.index((source, target))
                assert repaired.rows[kind][edge][SPACE.operations.index(name)]


def test_repairs_bring_back_what_is_preferred():
    none_only = tuple(o == "none" for o in SPACE.operations)
    row = (True,) * 8
    rows = tuple(none_only if target == 2 else row for _, target in SPACE.edges)
    mask = OperationMask(SPACE, {"normal": rows, "reduction": (row,) * 14})
    assert mask.missing_edges() == {("normal", 2): 2}
    preference = {("normal", 0, 5): 2.0, ("normal", 0, 4): 1.0, ("normal", 1, 3): 0.5}
    assert set(mask.repairs(preference)) == {("normal", 0, 5), ("normal", 1, 3)}


def test_levels_of_the_full_mask_and_after_one_operation_an_edge():
    one_less = FULL.changed(remove=[(k, e, 0) for k in SPACE.cell_types for e in range(14)])
    assert FULL.level("operations") == FULL.level("architectures") == 1
    assert one_less.level("operations") == 7 / 8
    assert one_less.level("architectures") == pytest.approx((7 / 8) ** 28)
    assert math.isclose(one_less.count(), 196)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("cells"), "needs exactly the keys"),
        (lambda d: d.update(search_space="other"), "'other'; the study has 'darts'"),
        (lambda d: d["cells"].pop("normal"), "cell types are 'reduction'"),
        (lambda d: d["cells"]["normal"].pop(), r"mask\.cells\.normal: 13 edges; 'darts' has 14"),
        (lambda d: d["cells"]["normal"][3].append("conv"), r"normal\[3\]: operation 'conv'"),
        (lambda d: d["cells"]["normal"][2].clear(), r"normal\[2\]: keeps no operation"),
        (lambda d: d["cells"].update(normal=7), "needs a list of lists"),
        (lambda d: d.update(level=0.5), "exactly the keys .*; there are .*'level'"),
        (lambda d: d["cells"].update(extra=[]), "cell types are 'normal', 'reduction', 'extra'"),
        (lambda d: d["cells"]["normal"].append(["none"]), "15 edges; 'darts' has 14"),
        (lambda d: d["cells"]["normal"][0].append("none"), "'none' is there twice"),
        (lambda d: d["cells"]["normal"][0].append([]), r"operation \[\] is not in"),
        (lambda d: d["cells"]["normal"].__setitem__(0, "none"), "needs a list of lists"),
    ],
)
def test_what_does_not_fit_the_space_is_named(change, message):
    data = FULL.to_dict()
    change(data)
    with pytest.raises(ArchitectureError, match=message):
        masks.from_dict(data, SPACE)
