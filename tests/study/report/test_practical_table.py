"""Whether differences matter in practice: sentence, table, files and JSON of the report."""

import csv
import json

import pytest
import yaml

from tests.commands import here
from tests.study.report.test_page import complete, document, study
from zostudy.errors import ConfigError
from zostudy.study.analysis.factors import comparisons
from zostudy.study.analysis.practical import practical
from zostudy.study.report import page
from zostudy.study.report.practical_table import practical_table

BY = ["validation_accuracy"]


def test_every_comparison_has_its_probabilities_in_page_files_and_json(tmp_path):
    file = study()
    found = document(file, complete)
    table = practical_table(found, BY, 0.5)
    told = comparisons(found["trials"], "validation_accuracy")
    assert [row.difference for row in table.rows] == [one.difference for one in told]
    held = table.to_dict()
    assert held["comparisons"][0]["setting"] == "prune.xi"
    for one, row in zip(told, held["comparisons"], strict=True):
        own = practical(one.difference, one.interval, one.seeds, 0.5)
        shares = (own.worse, own.same, own.better) if own else (None, None, None)
        assert (row["worse"], row["same"], row["better"]) == shares
    json.dumps(held)
    written = page.write(file, found, tmp_path / "report", practical=table)
    text = written[0].read_text(encoding="utf-8")
    assert table.sentence() in text
    assert "Differences that matter in practice" in text
    with (tmp_path / "report" / "practical.csv").open(encoding="utf-8") as rows:
        same = [row["same"] for row in csv.DictReader(rows)]
    assert same == ["" if r["same"] is None else str(r["same"]) for r in held["comparisons"]]
    assert r"worse \% & the same \% & better \%" in (
        tmp_path / "report" / "practical.tex"
    ).read_text(encoding="utf-8")
    page.write(file, found, tmp_path / "report", force=True)  # it counts as a report
    assert not (tmp_path / "report" / "practical.csv").exists()


def test_the_sentence_says_what_is_settled():
    found = document(study(), complete)
    assert practical_table(found, BY, 0.05).sentence() == (
        "Within ±0.05 points a difference counts as practically nothing: of 3 comparisons, with a "
        "probability of 95 % or more: 3 better (xi 0.25 → 0.5; xi 0.25 → 0.75; xi 0.5 → 0.75)."
    )
    assert "3 practically the same" in practical_table(found, BY, 20).sentence()


def test_one_seed_says_nothing():
    found = document(study(), lambda point, seed: complete(point, seed) if seed == 0 else None)
    table = practical_table(found, BY, 0.5)
    assert "this takes two seeds whose differences are not the same" in table.sentence()
    assert {row.cells()[-1] for row in table.rows} == {"no spread"}
    none = practical_table(document(study(), lambda *_: None), BY, 0.5)
    assert (none.rows, none.metric) == ((), None)


def test_gains_over_random_are_among_them():
    found = document(study(), complete)
    gain = {"difference": 0.4, "interval": [0.1, 0.7], "seeds": 3}
    found["random_baseline"] = {"gain": {"validation_accuracy": gain}, "trials": [], "points": []}
    found["points"][0]["over_random"] = {"validation_accuracy": gain | {"interval": None}}
    *_, over, point = practical_table(found, BY, 0.1).rows
    assert over.to_dict()["over_random"] == {}
    assert over.found == practical(0.4, (0.1, 0.7), 3, 0.1)
    assert point.to_dict()["over_random"] == found["points"][0]["params"]
    assert point.found is None


def test_a_study_that_is_judged_by_something_else_is_refused():
    found = document(study(), complete)
    with pytest.raises(ConfigError, match=r"^--rope: .* judged by search_seconds; leave --rope"):
        practical_table(found, ["search_seconds"], 0.1)


@pytest.mark.parametrize("rope", ["0", "-0.1", "100", "nan"])
def test_a_region_that_is_none_is_refused_before_anything_is_read(tmp_path, rope):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"study": "s"}))
    done = here(tmp_path, "report", "s.yaml", "--rope", rope)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: --rope: {rope} is not allowed; allowed: points of accuracy")
    assert not (tmp_path / "report-s").exists()


def test_the_command_prints_the_sentence_and_json_has_all(tmp_path):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"study": "s"}))
    done = here(tmp_path, "report", "s.yaml", "--rope", "0.1")
    assert done.out.startswith("Within ±0.1 points")
    found = json.loads(here(tmp_path, "report", "s.yaml", "--rope", "0.1", "--json", "--force").out)
    assert found["practical"]["rope"] == 0.1
    refused = here(tmp_path, "report", "--table", "x.csv", "--rope", "0.1")
    assert refused.err == ("error: --rope: is for the report of a study; leave out --table\n")
