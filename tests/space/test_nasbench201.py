import csv
import itertools

import pytest

from benchmarks.data import FOLDER
from zostudy.errors import ArchitectureError
from zostudy.space import genotype as genotypes
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("nasbench201")
CELL = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
)


def text_of(names):
    names = iter(names)
    return "+".join(
        "|" + "".join(f"{next(names)}~{source}|" for source in range(node)) for node in (1, 2, 3)
    )


def form(text):
    return genotypes.parse(text, SPACE).canonical()


def test_the_space_has_6_edges_and_15625_cells():
    assert SPACE.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert SPACE.kept_edges == "all"
    assert len(SPACE.keepable) ** len(SPACE.edges) == 15_625
    assert not SPACE.ranks_edges


def test_every_string_is_read_and_written_back():
    texts = {text_of(names) for names in itertools.product(SPACE.operations, repeat=6)}
    assert len(texts) == 15_625
    assert all(genotypes.parse(text, SPACE).to_notation() == text for text in texts)


def test_there_are_6466_cells_up_to_isomorphism():
    """Dong and Yang 2020, section 2.1, counts as many."""
    forms = {form(text_of(names)) for names in itertools.product(SPACE.operations, repeat=6)}
    assert len(forms) == 6_466


def test_isomorphic_cells_have_one_form():
    # The same convolution, on the way through the first node or through the second.
    one = text_of(["nor_conv_3x3", "none", "skip_connect", "none", "none", "avg_pool_3x3"])
    two = text_of(["nor_conv_3x3", "none", "none", "none", "avg_pool_3x3", "none"])
    three = text_of(["none", "nor_conv_3x3", "none", "none", "none", "avg_pool_3x3"])
    assert form(two) == "#+#+((0)@nor_conv_3x3)@avg_pool_3x3"
    assert form(three) == form(one) != form(two)  # a sum with zero is not taken for its other term


def test_the_table_s_strings_and_isomorphic_cells_are_ours():
    path = FOLDER / "nasbench201.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15_625
    for row in rows:
        genotype = genotypes.parse(row["ArchitectureString"], SPACE)
        assert genotype.to_notation() == row["ArchitectureString"]
        assert genotype.canonical() == row["UniqueString"]


def test_a_genotype_in_words_ends_with_its_string():
    *nodes, text = str(genotypes.parse(CELL, SPACE)).splitlines()
    assert nodes[0] == "normal cell"
    assert nodes[-1] == "  n2 = skip_connect(c-1)  +  nor_conv_3x3(n0)  +  skip_connect(n1)"
    assert text == CELL


def test_every_mask_leaves_a_genotype():
    only_zero = OperationMask(SPACE, {"normal": ((True, False, False, False, False),) * 6})
    assert not only_zero.missing_edges()
    assert not only_zero.repairs({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''"),
        (CELL.replace("|+|skip", "|skip"), r"normal: 2 nodes; 'nasbench201' has 3"),
        (CELL.replace("nor_conv_3x3~0|+", "nor_conv_33~0|+"), r"did you mean 'nor_conv_3x3'"),
        (CELL.replace("avg_pool_3x3~1", "avg_pool_3x3~2"), r"normal\[1\]: input 2 is not allowed"),
        (CELL.replace("avg_pool_3x3~1", "avg_pool_3x3~0"), r"inputs \[0, 0\]; needs 2 different"),
        (CELL.replace("avg_pool_3x3~1|", ""), r"inputs \[0\]; needs 2 different"),
        (CELL.replace("~1", ""), r"'\|nor_conv_3x3~0\|avg_pool_3x3\|' is not in the notation"),
        (CELL[:-1], "is not in the notation"),
        (CELL.replace("~2", "~two"), "is not in the notation"),
    ],
)
def test_a_string_of_another_kind_is_refused(text, message):
    with pytest.raises(ArchitectureError, match=message):
        genotypes.from_notation(text)
