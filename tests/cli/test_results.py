"""Points sorted, filtered and chosen, and the command that prints them so."""

import csv
import io

import pytest

from zostudy.errors import ConfigError
from zostudy.study.report import tables


def point(xi, accuracy, seconds):
    metrics = {"validation_accuracy": accuracy, "search_seconds": seconds}
    summaries = {name: {"mean": v, "sd": None} for name, v in metrics.items() if v is not None}
    return {"params": {"prune.xi": xi, "prune.source": "random"}, "n": 1, "metrics": summaries}


POINTS = [point(0.25, 90.0, 3.0), point(0.5, 92.0, 1.0), point(0.75, None, None)]
DOCUMENT = {"study": "s", "points": POINTS, "trials": [{"params": p["params"]} for p in POINTS]}


def values(document):
    return [point["params"]["prune.xi"] for point in document["points"]]


def test_better_points_come_first_and_those_without_the_metric_last():
    assert values(tables.sorted_by(DOCUMENT, "validation_accuracy")) == [0.5, 0.25, 0.75]
    assert values(tables.sorted_by(DOCUMENT, "search_seconds")) == [0.5, 0.25, 0.75]


def test_a_filter_takes_a_path_or_its_short_name_and_a_value_as_yaml_reads_it():
    for condition in ("prune.xi=0.25", "xi=0.25", "xi=0.250"):
        kept = tables.filtered(DOCUMENT, [condition, "source=random"])
        assert values(kept) == [0.25]
        assert len(kept["trials"]) == 1


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["prune.xi"], "--filter 'prune.xi': needs the form path=value"),
        (["prune.x=1"], "--filter 'prune.x=1': 'prune.x' is not swept; did you mean"),
        (["xi=0.3"], "--filter 'xi=0.3': leaves no point; prune.xi: 0.25, 0.5, 0.75"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(conditions, said):
    with pytest.raises(ConfigError) as refused:
        tables.filtered(DOCUMENT, conditions)
    assert str(refused.value).startswith(said)


def test_a_metric_that_no_point_has_is_refused():
    for asked in (
        lambda: tables.sorted_by(DOCUMENT, "macs"),
        lambda: tables.chosen(DOCUMENT, ["x"]),
    ):
        with pytest.raises(ConfigError, match=r"no point has .*known: validation_accuracy, search"):
            asked()


@pytest.mark.usefixtures("no_engine")
def test_the_command_prints_what_is_asked_for(zostudy, study):
    assert zostudy("run", study).code == 0
    done = zostudy("results", study, "--sort", "validation_accuracy", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["prune.xi"] for row in rows] == ["0.5", "0.25"]
    done = zostudy("results", study, "--filter", "xi=0.25", "--latex")
    assert done.out.splitlines()[2] == r"xi & n & validation \% \\"
    assert done.out.count("0.25 & 2 &") == 1
    refused = zostudy("results", study, "--csv", "--json")
    assert (refused.code, refused.err) == (2, "error: --csv, --latex, --json: choose one\n")
    refused = zostudy("results", study, "--csv", "--columns", "macs")
    assert (refused.code, refused.out) == (2, "")
