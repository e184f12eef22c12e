import dataclasses
import gzip
import subprocess
import sys

import numpy as np
import pytest

from tests.tables import NASBENCH201, SPACE, made_up, settings, write
from zostudy.errors import ArchitectureError, ConfigError, DataError
from zostudy.evaluation.table import read
from zostudy.space.genotype import parse
from zostudy.space.search_space import search_space

needs_the_table = pytest.mark.skipif(
    not NASBENCH201.exists(), reason=f"{NASBENCH201} is not there; ZOSTUDY_DATA names its folder"
)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "made_up.csv", made_up())


def test_the_best_architecture_has_no_regret_and_rank_1(path):
    table = read(settings(path), SPACE)
    best = table(parse(made_up()[-1][0], SPACE))
    assert (best.test_accuracy, best.regret, best.rank) == (90.0, 0.0, 1)
    assert best.percentile == pytest.approx(100 * 26.5 / 27)
    worst = table(parse(made_up()[1][0], SPACE))
    assert (worst.regret, worst.rank) == (80.0, 27)
    assert worst.percentile == pytest.approx(100 * 0.5 / 27)


def test_equals_share_rank_and_percentile(tmp_path):
    rows = made_up()
    for row in rows[-3:]:
        row[1] = "50"
    table = read(settings(write(tmp_path / "t.csv", rows)), SPACE)
    found = {dataclasses.astuple(table(parse(row[0], SPACE)))[3:] for row in rows[-3:]}
    assert len(found) == 1
    ranks = sorted(table(genotype).rank for genotype in table.rows)
    assert ranks == [1 + sum(table.accuracies > a) for a in np.sort(table.accuracies)[::-1]]
    assert table.percentiles(table.accuracies).mean() == pytest.approx(50)


def test_validation_accuracy_is_known_where_a_column_is_named(path):
    genotype = parse(made_up()[3][0], SPACE)
    assert read(settings(path), SPACE)(genotype).validation_accuracy is None
    table = read(settings(path, validation_column="validation"), SPACE)
    assert table(genotype).validation_accuracy == table(genotype).test_accuracy - 1


def test_an_architecture_of_another_space_is_refused(path):
    table = read(settings(path), SPACE)
    other = parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", search_space("nasbench201"))
    with pytest.raises(ArchitectureError, match="of the search space 'nasbench201'; the table"):
        table(other)


def test_the_digest_follows_the_content_and_not_the_place(path, tmp_path):
    table = read(settings(path), SPACE)
    assert read(settings(write(tmp_path / "b.csv", made_up())), SPACE).digest == table.digest
    rows = made_up()
    rows[1][1] = "11"
    assert read(settings(write(tmp_path / "c.csv", rows)), SPACE).digest != table.digest


def test_a_repeated_row_empty_lines_and_a_byte_order_mark_do_no_harm(path, tmp_path):
    other = tmp_path / "other.csv"
    lines = path.read_text().splitlines()
    other.write_text("\n".join([*lines, "", lines[5], ""]), encoding="utf-8-sig")
    assert read(settings(other), SPACE).rows.keys() == read(settings(path), SPACE).rows.keys()


def changed(line, column, value):
    def change(rows):
        rows[line - 1][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (changed(1, 1, "other"), ConfigError, r"^evaluate\.column: .* has no column 'test'; col"),
        (
            changed(1, 0, "Architecture"),
            ConfigError,
            r"^evaluate\.architecture_column: .* no column 'ArchitectureString'; did you mean",
        ),
        (changed(1, 2, "test"), ConfigError, r"^evaluate\.column: .* has 2 columns 'test'"),
        (
            changed(4, 0, "|no_conv~0|+|none~0|none~1|"),
            DataError,
            r"made_up\.csv:4: ArchitectureString '\|no_conv~0\|.* is no architecture of 'tiny'",
        ),
        (changed(5, 0, "cell"), DataError, r"made_up\.csv:5: ArchitectureString 'cell' is no"),
        (changed(6, 1, "good"), DataError, r"made_up\.csv:6: test 'good' is no number; allowed: 0"),
        (changed(7, 1, "100.5"), DataError, r"made_up\.csv:7: test '100\.5' is not allowed; all"),
        (changed(7, 1, "-1"), DataError, r"made_up\.csv:7: test '-1' is not allowed; allowed: 0"),
        (changed(8, 1, "nan"), DataError, r"made_up\.csv:8: test 'nan' is not allowed"),
        (lambda rows: rows[8].pop(), DataError, r"made_up\.csv:9: 2 fields; the header has 3"),
        (
            lambda rows: rows.append([rows[3][0], "1.5", rows[3][2]]),
            DataError,
            r"made_up\.csv:29: '.*' has 1\.5 here and 16\.15384615 in line 4; needs one accuracy",
        ),
        (
            lambda rows: rows.pop(2),
            DataError,
            r"made_up\.csv: a row is missing: holds 26 of the 27 .* not '\|none~0\|\+",
        ),
        (lambda rows: rows.clear(), DataError, r"made_up\.csv: is empty; needs a header"),
        (changed(9, 0, 'a"\n"b'), DataError, r"made_up\.csv:\d+: "),
    ],
)
def test_a_wrong_table_is_one_line_with_file_line_and_value(tmp_path, change, error, message):
    rows = made_up()
    change(rows)
    with pytest.raises(error, match=message) as caught:
        read(settings(write(tmp_path / "made_up.csv", rows)), SPACE)
    assert len(str(caught.value).splitlines()) == 1


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"ArchitectureString,test\n\xff\xfe,3\n")
    with pytest.raises(DataError, match=r"t\.csv: is no text in UTF-8"):
        read(settings(path), SPACE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",", ";"), r"fields are separated by semicolons, and need comm"),
        (
            lambda text: text.replace("90.0,", '"90,0",'),
            r"test '90,0' is no number; .*decimal point",
        ),
        (lambda text: text.replace("90.0,", "9_0,"), r"test '9_0' is no number"),
        (lambda text: text.replace("90.0,", "90.0\0,"), r"holds a NUL character"),
    ],
)
def test_how_a_table_is_written_wrong_is_said(tmp_path, change, message):
    path = write(tmp_path / "t.csv", made_up())
    path.write_text(change(path.read_text()))
    with pytest.raises((ConfigError, DataError), match=message):
        read(settings(path), SPACE)


@pytest.mark.parametrize("column", ["test", "validation"])
def test_accuracies_that_are_fractions_are_refused(tmp_path, column):
    rows = made_up()
    at = rows[0].index(column)
    for row in rows[1:]:
        row[at] = repr(float(row[at]) / 100)
    path = write(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match=rf"{column}: the best is 0\.\d+, .*multiply them by 100$"):
        read(settings(path, validation_column="validation"), SPACE)


def test_a_compressed_table_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress(b"ArchitectureString,test\n"))
    with pytest.raises(DataError, match=r"is compressed \(gzip\) and no CSV"):
        read(settings(path), SPACE)


def test_a_missing_table_says_where_to_get_one(tmp_path):
    wanted = r"^evaluate\.path: '.*' cannot be read \(No such file.*https://github\.com/D-X-Y/NATS"
    with pytest.raises(ConfigError, match=wanted):
        read(settings(tmp_path / "none.csv"), SPACE)


def test_a_table_is_read_without_torch():
    code = "import sys, zostudy.evaluation.table\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@needs_the_table
def test_the_real_table_is_complete_and_has_the_published_maxima():
    space, found = search_space("nasbench201"), []
    for column, other in (("CIFAR10", "CIFAR100"), ("ImageNet", "CIFAR10")):
        names = [f"{name}TestAccuracy200Epochs" for name in (column, other)]
        table = read(settings(NASBENCH201, column=names[0], validation_column=names[1]), space)
        assert len(table.rows) == 15625
        found += [table.accuracies.max(), max(row.validation for row in table.rows.values())]
    assert [round(float(best), 2) for best in found] == [94.37, 73.51, 47.31, 94.37]
