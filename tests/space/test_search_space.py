import ast
from pathlib import Path

import pytest

import zostudy
from zostudy.registry import components
from zostudy.space.search_space import Position, SearchSpace, Skeleton, search_space


def test_reductions_stand_at_one_and_two_thirds():
    layout = search_space("darts").layout(8)
    assert [p.kind for p in layout].count("reduction") == 2
    assert [i for i, p in enumerate(layout) if p.halves] == [2, 5]
    assert [p.width for p in layout] == [1, 1, 2, 2, 2, 4, 4, 4]
    assert search_space("darts").layout(1) == (Position("normal", 1, halves=False),)


def test_stages_of_as_many_cells_lie_between_residual_blocks():
    layout = search_space("nasbench201").layout(5)
    assert {p.kind for p in layout} == {"normal"}
    assert [p.width for p in layout] == [1] * 5 + [2] * 5 + [4] * 5
    assert [i for i, p in enumerate(layout) if p.halves] == [5, 10]


def test_without_reduction_types_no_cell_halves_the_picture():
    space = SearchSpace("flat", ("only",), (), 2, 1, ("zero", "id"), "zero", 1)
    assert {p.width for p in space.layout(6)} == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": 2}, "cells have one input"),
        ({"output": "nodes"}, "cells have one input"),
        ({"reduction_types": ("a",)}, "leave reduction types nothing to do"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_named(changes, message):
    parts = {
        "name": "odd",
        "cell_types": ("a", "b"),
        "reduction_types": (),
        "inputs": 1,
        "nodes": 2,
        "operations": ("zero", "id"),
        "zero": "zero",
        "kept_edges": 1,
        "output": "last",
        "skeleton": Skeleton("blocks", 1, "norm"),
    }
    SearchSpace(**parts)
    with pytest.raises(ValueError, match=f"'odd': .*{message}"):
        SearchSpace(**parts | changes)


def test_no_code_asks_for_the_name_of_a_search_space():
    """What differs between spaces is in their description."""
    package = Path(zostudy.__file__).parent
    names = set(components("search_space"))
    known = {f"space/{name}.py" for name in names} | {"config/settings.py"}  # declared; a default
    known |= {"config/techniques.py", "study/planning/plan.py"}  # one is a technique's name as well
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert found <= known
