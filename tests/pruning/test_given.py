"""Genotypes that a study file names edge by edge."""

import random
import re

import pytest

from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.pruning.given import named
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.space.variation import Variation

OPERATIONS = ["none", "skip_connect", "nor_conv_3x3"]
N2 = {"c-1": "none", "n0": "none", "n1": "skip_connect"}
CELLS = {"normal": {"n0": {"c-1": "skip_connect"}, "n1": {"c-1": "none", "n0": "none"}, "n2": N2}}
SWEEP = {
    "sampler": {"name": "tpe"},
    "trials": 3,
    "parameters": {"prune.cells.normal.n2.n1": OPERATIONS},
    "objectives": [{"metric": "parameters", "direction": "minimize"}],
}
STUDY = {
    "study": "named",
    "search_space": {"name": "nasbench201"},
    "prune": {"source": "given", "cells": CELLS},
    "search": {"strategy": "none"},
}


def cells_of(genotype):
    """A genotype as a study file names it."""
    space, cells = genotype.space, {}
    for kind, source, target, name in genotype.operations():
        node = cells.setdefault(kind, {}).setdefault(space.node_name(target), {})
        node[space.node_name(source)] = name
    return cells


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_every_genotype_can_be_named_and_its_mask_leaves_nothing_else(name):
    full = OperationMask.full(search_space(name))
    variation = Variation(full, random.Random(0))
    for _ in range(20):
        genotype = variation.random()
        assert named(full.space, cells=cells_of(genotype)) == genotype
        assert list(enumeration.genotypes(OperationMask.of(genotype))) == [genotype]


def test_a_sweep_varies_the_operation_of_an_edge():
    file = from_document(STUDY | {"sweep": SWEEP})
    for name in OPERATIONS:
        options = file.trial({"prune.cells.normal.n2.n1": name}).prune.options
        genotype = named(search_space("nasbench201"), cells=options["cells"])
        assert genotype.to_notation() == (
            f"|skip_connect~0|+|none~0|none~1|+|none~0|none~1|{name}~2|"
        )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (7, "prune.cells: 7 is of type int; allowed: dict"),
        ({"reduction": {}}, "prune.cells.reduction: unknown key; known: normal"),
        ({"normal": []}, "prune.cells.normal: []; needs keys among n0, n1, n2"),
        ({"normal": {"n3": {}}}, "prune.cells.normal.n3: unknown key; known: n0, n1, n2"),
        ({"normal": {}}, "prune.cells.normal.n0: 0 edges have an operation; 'nasbench201' keeps 1"),
        ({"normal": {"n0": {"n0": "none"}}}, "prune.cells.normal.n0.n0: unknown key; known: c-1"),
        (
            {"normal": {"n0": {"c-1": "skip"}}},
            "prune.cells.normal.n0.c-1: operation 'skip' is not allowed; allowed: none, skip_conn",
        ),
        (
            {"normal": {"n0": {"c-1": ["none"]}}},
            "prune.cells.normal.n0.c-1: operation ['none'] is not allowed; did you mean 'none'",
        ),
    ],
)
def test_what_is_no_genotype_is_one_line_when_the_settings_are_read(cells, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        from_document(STUDY | {"prune": {"source": "given", "cells": cells}})


def test_a_node_that_keeps_too_many_edges_is_named():
    cells = {"normal": {"n0": {"c-2": "skip_connect"}}}
    with pytest.raises(ConfigError, match=r"normal\.n0: 1 edges have .* keeps 2, from c-2, c-1$"):
        named(search_space("darts"), cells=cells)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"search": {}}, r"^prune\.source: 'given' leaves nothing to search; set search\.strategy"),
        (
            {"prune": {"source": "none"}},
            r"prune\.source 'given' or prune\.source 'zero_shot' with until 'genotype'",
        ),
        ({"prune": {"source": "given"}}, r"^prune\.cells: 'given' needs this option \(dict\)"),
        (
            {"sweep": SWEEP | {"parameters": {"prune.cells.normal.n2.n1": ["none", "skip"]}}},
            r"^prune\.cells\.normal\.n2\.n1: operation 'skip' is not allowed",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        from_document(STUDY | changed)
