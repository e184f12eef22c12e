import csv
import json

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
