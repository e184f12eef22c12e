import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import mutations
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


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_every_way_to_write_a_genotype_is_read_as_the_same(seed):
    cells = mutations.genotype_cells(random.Random(seed))
    texts = mutations.genotype_texts(cells)
    read = {genotypes.from_json(t) for t in texts if t.startswith("{")}
    read |= {genotypes.from_notation(t) for t in texts if not t.startswith("{")}
    wanted = {kind: tuple(map(tuple, nodes)) for kind, nodes in cells.items()}
    assert read == {Genotype(SPACES["darts"], wanted)}


EDGES = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("l_concat=[2, 3, 4, 5]", "l_concat=[4, 5]", r"normal_concat: \[4, 5\]; .* join \[2, 3, 4"),
        ("e_concat=[2, 3, 4, 5]", "e_concat=range(2, 7)", r"reduce_concat: \[2, 3, 4, 5, 6\]; the"),
        ("l_concat=[2, 3, 4, 5]", "l_concat=[5, 4, 3, 2]", r"normal_concat: \[5, 4, 3, 2\]; the"),
        ("l_concat=[2, 3, 4, 5]", "l_concat=[2, 3, 4, '5']", "normal_concat: "),
        ("l_concat=[2, 3, 4, 5]", "l_concat=None", "normal_concat: None; the cells"),
        ("reduce_concat=", "drop_path=0.2, reduce_concat=", "the field 'drop_path' says what"),
        ("reduce_concat=", "reduce_conat=", "'reduce_conat' .*; did you mean 'reduce_concat'"),
        ("reduce_concat=", "connectN=1, reduce_concat=", "the field 'connectN' says what"),
        ("normal=", "reduce=", "reduce is given more than once"),
        ("('sep_conv_3x3', 0), ('sep_conv_3x3', 1)", "('sep_conv_3x3', 0), ('max_pool_3x3', 0)",
         r"normal\[0\]: inputs \[0, 0\]; needs 2 different ones"),
        ("[('sep_conv_3x3', 0), ", "[", r"genotype\.normal: 7 \(.*\) pairs; 'darts' has 8"),
        ("[('sep_conv_3x3', 0), ", "[('skip_connect', 0), ('sep_conv_3x3', 0), ", "normal: 9 "),
        ("('sep_conv_3x3', 0)", "('sep_conv_3x3', 0, 0.5)", r"normal: not in the notation .* 0.5"),
        ("('sep_conv_3x3', 0)", "('sep_conv_3x3', 0, 1)", r"\['sep_conv_3x3', 0, 1\] is not"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "input 5 is not allowed"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)", "input -1 is not allowed"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "True"),
        ("'dil_conv_3x3'", "'nor_conv_3x3'", "operation 'nor_conv_3x3' is not allowed"),
        ("'dil_conv_3x3'", "'none'", "operation 'none' is not allowed"),
        ("Genotype(", "Genotype(*[], ", "genotype"),
        ("Genotype(", "Genotype(**{}, ", "hidden"),
        ("Genotype(", "Genotype([], ", "normal is given more than once"),
    ],
)  # fmt: skip
def test_what_a_text_says_that_the_space_cannot_build_is_refused_and_named(old, new, message):
    assert old in DARTS_V2
    with pytest.raises(ArchitectureError, match=message) as caught:
        genotypes.from_notation(DARTS_V2.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"{DARTS_V2} x", f"{DARTS_V2}\n{DARTS_V2}", f"{DARTS_V2}; 1", f"{EDGES} x", f"{EDGES}|",
        f"{EDGES}+|none~0|", f"{EDGES}\n{EDGES}", EDGES.replace("~2", "~1"),
        f"A = {DARTS_V2}\n7", f"A = {DARTS_V2}\nif A:\n  pass", EDGES.replace("none", "conv"),
        EDGES.replace("~2", "~" + "9" * 5000), f"A = {DARTS_V2}\nprint(A)", "Genotype()",
        "Genotype", "Genotype(" * 5000, "Genotype(" + "-" * 10**5, f"A = {DARTS_V2}" + ")" * 9,
        "Genotype(normal=" + "[" * 150 + "]" * 150 + ")", "(" * 10**5 + "|",
    ],
    ids=range(20),
)  # fmt: skip
def test_what_follows_a_genotype_and_what_is_none_is_refused(text):
    with pytest.raises(ArchitectureError) as caught:
        genotypes.from_notation(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_of_several_genotypes_in_a_file_one_is_named(tmp_path):
    other = DARTS_V2.replace("dil_conv_3x3", "dil_conv_5x5")
    nasnet = "NASNet = Genotype(normal=[('sep_conv_7x7', 0)], normal_concat=[4, 5, 6], reduce=[])\n"
    path = tmp_path / "genotypes.py"
    path.write_text(
        "from collections import namedtuple\n\n"
        "Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')\n"
        "PRIMITIVES = [\n    'none',\n    'max_pool_3x3',  # BN follows\n]\n\n"
        f"{nasnet}V1 = {other}\nV2 = {DARTS_V2}\n\nDARTS = V2\nEDGES = '{EDGES}'\n"
    )
    with pytest.raises(
        ArchitectureError, match=r"are several \('NASNet', 'V1', 'V2', 'DARTS', 'EDGES'\)"
    ):
        genotypes.read(path)
    assert genotypes.read(path, name="V1") == genotypes.from_notation(other)
    assert genotypes.read(path, name="DARTS") == genotypes.from_notation(DARTS_V2)
    assert genotypes.read(path, name="EDGES", space="nasbench201").to_notation() == EDGES
    for name, message in (
        ("EDGES", "is of the search space 'nasbench201'; the study has 'darts'"),
        ("NASNet", r"normal_concat: \[4, 5, 6\]; the cells of 'darts' join"),
        ("V3", "none is named 'V3'; there are 'NASNet', 'V1', 'V2'"),
        ("PRIMITIVES", "none is named 'PRIMITIVES'"),
    ):
        with pytest.raises(ArchitectureError, match=message):
            genotypes.read(path, name=name, space="darts")
    path.write_text(path.read_text() + f"V1 = {DARTS_V2}\n")
    with pytest.raises(ArchitectureError, match="'V1' is given a value in the lines 10, 15"):
        genotypes.read(path, name="V1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("reduce"), "the field 'reduce' is missing"),
        (lambda d: d.update(depth=20), "the field 'depth' says what 'darts' has not"),
        (lambda d: d.update(normal_concat=[4, 5]), r"normal_concat: \[4, 5\]; the cells"),
        (lambda d: d.update(cells={}), "the field 'cells' says what"),
        (lambda d: d.update(normal=5), "5 is no list"),
        (lambda d: d["normal"].append({"sep_conv_3x3": 0}), "is no list"),
    ],
)
def test_json_of_the_same_fields_is_held_to_them(change, message):
    cells = mutations.genotype_cells(random.Random(0))
    data = json.loads(mutations.genotype_texts(cells)[1])
    change(data)
    with pytest.raises(ArchitectureError, match=message):
        genotypes.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("reduce/op_3_1"), "the key 'reduce/op_3_1' is missing"),
        (
            lambda d: d.update({"normal/op_6_0": "none"}),
            "'normal/op_6_0' says what 'darts' has not",
        ),
        (lambda d: d.update(width=36), "'width' says what 'darts' has not"),
        (lambda d: d.update({"normal/input_2_0": [0, 1]}), r"normal/op_2_0: \["),
        (lambda d: d.update({"normal/input_2_0": 1, "normal/input_2_1": 1}), r"inputs \[1, 1\]"),
    ],
)
def test_nni_s_choices_are_all_there_and_no_others(change, message):
    cells = mutations.genotype_cells(random.Random(0))
    data = json.loads(mutations.genotype_texts(cells)[2])
    change(data)
    with pytest.raises(ArchitectureError, match=message):
        genotypes.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        '{"search_space": "darts", "search_space": "darts", "cells": {}}', "{" * 10**5, "{}",
        '{"a": ' * 10**5, '{"search_space": "darts", "cells": {}, "extra": 1}',
        '{"cells": ' + "9" * 5000 + "}", '{"search_space": [], "cells": {}}',
        '{"search_space": "darts", "cells": {"normal": {"a": 1}}}',
    ],
    ids=range(8),
)  # fmt: skip
def test_json_that_says_more_less_or_something_twice_is_refused(text):
    with pytest.raises(ArchitectureError) as caught:
        genotypes.from_json(text)
    assert len(str(caught.value)) < 500


def test_spoilt_files_are_refused_or_read_as_what_they_say(tmp_path):
    messages = []
    for seed in mutations.seeds(60):
        content, before = mutations.genotype_file(seed)
        (tmp_path / "g").write_bytes(content)
        try:
            read = genotypes.read(tmp_path / "g")
        except ArchitectureError as error:
            messages.append(str(error))
            continue
        text = content.decode("utf-8-sig")
        for nodes in read.cells.values():
            for name, source in (pair for node in nodes for pair in node):
                said = rf"[\"']{name}[\"'][^\w]+(\w+/input_\d_\d\W+)?{source}\b"
                assert re.search(said, text) or before == text
    assert len(messages) > 40
    assert all("\n" not in message and len(message) < 700 for message in messages)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "long").write_text("#" * 300_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "long", "binary", ""):
        with pytest.raises(ArchitectureError, match=str(tmp_path / name)):
            genotypes.read(tmp_path / name)
    (tmp_path / "marked").write_text(f"\ufeff{DARTS_V2}", encoding="utf-8")
    assert genotypes.read(tmp_path / "marked") == genotypes.from_notation(DARTS_V2)
