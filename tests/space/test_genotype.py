import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zostudy.errors import ArchitectureError
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space

SPACE = search_space("darts")
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@st.composite
def any_genotype(draw):
    names = st.sampled_from([o for o in SPACE.operations if o != "none"])
    cells = {}
    for kind in SPACE.cell_types:
        nodes = []
        for target in SPACE.targets:
            sources = draw(
                st.lists(st.integers(0, target - 1), min_size=2, max_size=2, unique=True)
            )
            nodes.append(tuple((draw(names), source) for source in sources))
        cells[kind] = tuple(nodes)
    return Genotype(SPACE, cells)


@given(any_genotype())
@settings(max_examples=50, deadline=None)
def test_json_and_tuple_notation_round_trip(genotype):
    assert genotypes.from_json(genotype.to_json()) == genotype
    assert genotypes.from_notation(genotype.to_notation()) == genotype
    assert genotypes.from_dict(genotype.to_dict()) == genotype


def test_the_published_notation_is_read():
    genotype = genotypes.from_notation(DARTS_V2)
    assert genotype.cells["normal"][3] == (("skip_connect", 0), ("dil_conv_3x3", 2))
    assert "n3 = skip_connect(c-2)  +  dil_conv_3x3(n0)" in str(genotype)


def test_notation_is_never_evaluated(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(ArchitectureError, match="not in the notation"):
        genotypes.from_notation(f"Genotype(normal=__import__('pathlib').Path('{target}').touch())")
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["normal"][0].pop(), r"normal\[0\]: inputs \[0\]; needs 2 different"),
        (lambda c: c["normal"][1].__setitem__(0, ["sep_conv_3x3", 9]), "input 9 is not allowed"),
        (
            lambda c: c["normal"][1].__setitem__(0, ["sep_conv_33", 2]),
            "did you mean 'sep_conv_3x3'",
        ),
        (lambda c: c["normal"][0].__setitem__(0, ["none", 0]), "operation 'none' is not allowed"),
        (lambda c: c["normal"].pop(), "3 nodes; 'darts' has 4"),
        (lambda c: c.pop("reduction"), "cell types are 'normal'"),
        (lambda c: c["normal"][0].__setitem__(0, ["skip_connect"]), "list of nodes"),
    ],
)
def test_what_does_not_fit_the_space_is_named(change, message):
    data = genotypes.from_notation(DARTS_V2).to_dict()
    change(data["cells"])
    with pytest.raises(ArchitectureError, match=message):
        genotypes.from_dict(data)


def test_text_that_is_no_json_is_named_by_its_line():
    with pytest.raises(ArchitectureError, match="line 2"):
        genotypes.from_json('{"search_space":\n oops}')
