import csv
import json

import pytest

from tests import tables
from tests.predictors.test_predictors import examples

FITTED = ("predictor", "fit", "table.csv", "--space", "nasbench201", "--column", "accuracy")
MODEL = ("--model", "gaussian_process")


def write(path, count=30, seed=0):
    some = examples(count, seed)
    rows = zip((g.to_notation() for g in some.genotypes), some.accuracies, strict=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("ArchitectureString", "accuracy"), *rows])


def test_a_predictor_is_fitted_evaluated_and_asked(zostudy, tmp_path):
    write(tmp_path / "table.csv")
    write(tmp_path / "others.csv", 40, seed=1)
    done = zostudy(*FITTED, *MODEL, "--json")
    assert json.loads(done.out)["architectures"] == 30
    ours = ("predictor.json", "others.csv")
    done = zostudy("predictor", "evaluate", *ours, "--column", "accuracy", "--json")
    assert json.loads(done.out)["kendall_tau"] > 0.5
    rows = json.loads(zostudy("predictor", "predict", *ours, "--json").out)
    assert len(rows) == 40
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)


def test_wrong_options_are_one_line_and_write_nothing(zostudy, tmp_path):
    write(tmp_path / "table.csv")
    for options, said in (
        (("--model", "oracle"), "--model: 'oracle' is not known"),
        (("--rows", "31"), "--rows: 31 is not allowed; the table has 30"),
        (("--rows", "19"), "too few for cross-validation"),
        (("--feature", "synflow"), "has no column 'synflow'"),
        (("--output", "no/where.json"), "is no folder"),
    ):
        done = zostudy(*FITTED, *options)
        assert done.code == 2
        assert said in done.err
        assert done.err.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def write_darts(path, count=30):
    tables.write(path, tables.darts(count, "accuracy"))


DARTS = ("predictor", "fit", "table.csv", "--space", "darts", "--column", "accuracy")
CELLS = ("--architecture-column", "normal,reduce")


def test_architectures_may_stand_in_a_column_for_each_cell_type(zostudy, tmp_path):
    write_darts(tmp_path / "table.csv", 60)
    assert zostudy(*DARTS, *CELLS, *MODEL, "--json").code == 0
    rows = json.loads(
        zostudy("predictor", "predict", "predictor.json", "table.csv", *CELLS, "--json").out
    )
    assert rows[0]["architecture"].startswith("Genotype(normal=[(")
    arguments = (
        "--space",
        "darts",
        "--predictor",
        "predictor.json",
        "--samples",
        400,
        "--seeds",
        3,
    )
    done = zostudy("space-statistics", *arguments, "--output", "kept.png", "--json")
    found = json.loads(done.out)
    assert (found["architectures"], found["sampled"]) == (400, True)
    assert found["after"]["wasserstein"]["mean"] > 0
    assert len({seed["mean"] for seed in found["seeds"]}) == 3
    assert "top_kept" not in found["after"]
    assert (tmp_path / "kept.png").stat().st_size > 5000
    assert "accuracies are predictions" in zostudy("space-statistics", *arguments).out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("sep_conv_3x3", "sep_conv_9x9"), "operation 'sep_conv_9x9' is not allowed"),
        ((":1", "-1"), "is no operation:input of the normal cell"),
        ((":0 ", ":0 skip_connect:0 "), "(operation, input) pairs; 'darts' has 8"),
    ],
)
def test_a_cell_that_is_none_is_named_with_its_line(zostudy, tmp_path, changed, said):
    write_darts(tmp_path / "table.csv")
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace(*changed))
    done = zostudy(*DARTS, *CELLS, *MODEL)
    assert done.code == 2
    assert "table.csv:" in done.err
    assert said in done.err


def test_a_column_must_be_named_for_every_cell_type(zostudy, tmp_path):
    write_darts(tmp_path / "table.csv")
    done = zostudy(*DARTS, "--architecture-column", "normal,reduce,accuracy", *MODEL)
    assert done.code == 2
    assert "names 3 columns; needs one, or one for each cell type of 'darts'" in done.err


def test_space_statistics_needs_a_table_or_a_predictor_of_its_space(zostudy, tmp_path):
    write(tmp_path / "table.csv")
    assert zostudy(*FITTED, *MODEL).code == 0
    for arguments, said in (
        ((), "needs either --table and --column, or --predictor"),
        (("--predictor", "none.json"), "none.json: cannot be read"),
        (
            ("--predictor", "predictor.json"),
            "predicts architectures of 'nasbench201'",
        ),
    ):
        done = zostudy("space-statistics", "--space", "darts", *arguments)
        assert done.code == 2
        assert said in done.err
        assert done.err.count("\n") == 1
