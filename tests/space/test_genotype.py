import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zostudy.errors import ArchitectureError
from zostudy.registry import components
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace, search_space

SPACES = {name: search_space(name) for name in components("search_space")}
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@st.composite
def any_genotype(draw, space):
    names = st.sampled_from(space.keepable)
    cells = {}
    for kind in space.cell_types:
        nodes = []
        for target in space.targets:
            count = space.kept(target)
            some = st.lists(st.integers(0, target - 1), min_size=count, max_size=count, unique=True)
            nodes.append(tuple((draw(names), source) for source in draw(some)))
        cells[kind] = tuple(nodes)
    return Genotype(space, cells)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_json_and_notation_round_trip(space, data):
    genotype = data.draw(any_genotype(space))
    assert genotypes.from_json(genotype.to_json()) == genotype
    assert genotypes.from_notation(genotype.to_notation()) == genotype
    assert genotypes.parse(genotype.to_notation(), space) == genotype
    assert genotypes.from_dict(genotype.to_dict()) == genotype


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_file_is_read_in_json_and_in_every_notation(space, tmp_path):
    node = [tuple((space.keepable[-1], s) for s in range(space.kept(t))) for t in space.targets]
    genotype = Genotype(space, dict.fromkeys(space.cell_types, tuple(node)))
    for text in (genotype.to_json(), f"\n{genotype.to_notation()}\n"):
        (tmp_path / "genotype").write_text(text)
        assert genotypes.read(tmp_path / "genotype") == genotype
    (tmp_path / "genotype").write_text("[]")
    with pytest.raises(
        ArchitectureError, match=r"begins with '\[\]'; known notations: .*\(darts\)"
    ):
        genotypes.read(tmp_path / "genotype")


def test_a_space_without_notation_says_so():
    space = SearchSpace("plain", ("only",), (), 1, 1, ("none", "id"), "none", 1)
    with pytest.raises(ArchitectureError, match="'plain' has no notation"):
        Genotype(space, {"only": ((("id", 0),),)}).to_notation()
    with pytest.raises(ArchitectureError, match="'plain' has no notation"):
        genotypes.parse("|id~0|", space)


def test_nodes_that_change_places_leave_the_canonical_form_as_it_is():
    first = (("sep_conv_3x3", 0), ("max_pool_3x3", 1))
    second = (("dil_conv_3x3", 0), ("skip_connect", 1))
    last = (("sep_conv_5x5", 2), ("avg_pool_3x3", 3))
    swapped = (("avg_pool_3x3", 2), ("sep_conv_5x5", 3))
    space = SPACES["darts"]
    cell, other = (first, second, last, last), (second, first, swapped, swapped)
    one, two = (
        Genotype(space, dict.fromkeys(space.cell_types, cell)),
        Genotype(space, dict.fromkeys(space.cell_types, other)),
    )
    assert one != two
    assert one.canonical() == two.canonical()
    different = Genotype(space, {"normal": cell, "reduction": (first, second, last, swapped)})
    assert different.canonical() != one.canonical()


def test_a_skip_that_halves_the_picture_is_not_taken_for_the_identity():
    space = SPACES["darts"]
    skips = (("skip_connect", 0), ("skip_connect", 1))
    genotype = Genotype(space, dict.fromkeys(space.cell_types, (skips,) * 4))
    normal, reduction = genotype.canonical().split(" | ")
    assert normal == "0+1; 0+1; 0+1; 0+1"
    assert reduction.startswith("(0)@skip_connect+(1)@skip_connect; ")


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
