"""Published results against random choice: what is paired with what, and what tests say of it."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.data import FOLDER
from zostudy.errors import InputError
from zostudy.study.analysis.against_random import counterparts, gains, means, notes
from zostudy.study.analysis.outside_results import read
from zostudy.study.analysis.ranks import ranks

PUBLISHED = FOLDER / "nas_methods_against_random_8_runs.csv"


def table(folder, rows, header="dataset,method,run,accuracy"):
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def runs(method, values, dataset="x"):
    return [f"{dataset},{method},{run},{value!r}" for run, value in enumerate(values)]


def draw(seed, runs=8, mean=90.0):
    return [float(value) for value in np.random.default_rng(seed).normal(mean, 1, runs)]


@pytest.mark.parametrize(("column", "pairs"), [("run", False), ("seed", True)])
def test_seeds_are_paired_and_runs_are_not(tmp_path, column, pairs):
    own, other = draw(0), draw(1)
    rows = runs("DARTS", own) + runs("Random DARTS", other)
    (found,) = gains(read(table(tmp_path, rows, f"dataset,method,{column},accuracy")))
    test = stats.ttest_rel(own, other) if pairs else stats.ttest_ind(own, other, equal_var=False)
    assert (found.paired, found.runs, found.random_runs) == (pairs, 8, 8)
    assert found.p == pytest.approx(test.pvalue)
    assert found.found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_only_seeds_that_both_have_are_paired(tmp_path):
    rows = runs("A", draw(0, 5)) + runs("Random A", draw(1, 8)) + runs("B", draw(2, 3))
    rows += [f"x,Random B,{seed},90" for seed in (7, 8, 9)]
    results = read(table(tmp_path, rows, "dataset,method,seed,accuracy"))
    found = gains(results)
    assert [(one.paired, one.runs) for one in found] == [(True, 5), (False, 3)]
    assert notes(results, found) == [
        "B and Random B on x share fewer than two seeds, and are compared as independent groups.",
        "A on x: only the 5 seeds that it shares with Random A are compared.",
    ]


def test_the_counterpart_is_named_or_found_by_name(tmp_path):
    rows = [
        f"x,{method},{run},9{run},{counterpart}"
        for method, counterpart in (
            ("DARTS", ""), ("random darts", ""), ("MANAS-LS", ""), ("Random MANAS", ""),
            ("NAO", ""), ("NAO-2", ""), ("Random NAO", ""), ("NAS", ""), ("Random NASX", ""),
            ("own", "baseline"), ("baseline", ""),
        )
        for run in range(3)
    ]  # fmt: skip
    results = read(table(tmp_path, rows, "dataset,method,run,accuracy,counterpart"))
    assert counterparts(results, "x") == {
        "DARTS": "random darts", "MANAS-LS": "Random MANAS", "NAO": "Random NAO", "own": "baseline",
    }  # fmt: skip
    said = notes(results, gains(results))
    assert said[:4] == [
        "On x, MANAS-LS is compared with Random MANAS.",
        "NAO-2 on x has no random counterpart there, and is not compared.",
        "NAS on x has no random counterpart there, and is not compared.",
        "Random NASX on x has no method it belongs to there, and is not compared.",
    ]
    assert "the same accuracies" in said[4]


def test_single_runs_and_equal_runs_claim_nothing(tmp_path):
    one, same = (
        gains(read(table(tmp_path, runs("A", values) + runs("Random A", others))))[0]
        for values, others in (([91.0], [90.0]), ([90.0] * 3, [90.0] * 3))
    )
    assert (one.found.interval, one.p, one.differs, one.runs_needed) == (None, None, False, None)
    assert (same.p, same.differs, same.runs_needed) == (1.0, False, None)


def test_at_most_one_null_table_of_twenty_claims_a_difference(tmp_path):
    """The share of 200 simulated tables of six comparisons, with the simulation's seeds fixed."""
    claimed = 0
    for index in range(200):
        values = iter(draw(index, 6 * 2 * 4))
        rows = [
            line
            for method in range(6)
            for name in (f"{method}", f"Random {method}")
            for line in runs(name, [next(values) for _ in range(4)])
        ]
        claimed += any(one.differs for one in gains(read(table(tmp_path, rows))))
    assert claimed <= 200 * 0.05 + 2 * (200 * 0.05 * 0.95) ** 0.5


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not there (ZOSTUDY_DATA)")
def test_published_methods_against_random_choice():
    results = read(PUBLISHED)
    found = gains(results)
    assert len(found) == 39
    assert {(one.method, one.dataset) for one in found if one.differs} == {
        ("PDARTS", "CIFAR100"), ("ENAS", "CIFAR100"), ("MANAS", "MIT67"),
    }  # fmt: skip
    by_accuracy = ranks(means(results, found), results.datasets)
    assert set(by_accuracy.missing) == {"MANAS", "MANAS-LS", "StacNAS", "Random StacNAS"}
    assert any("MANAS-LS is compared with Random MANAS" in text for text in notes(results, found))


# -- tables that are refused ---------------------------------------------------------------------

GOOD = "x,A,0,90"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; needs a header with dataset"),
        ("dataset,method,run,accuracy\n", "has no row"),
        ("dataset,method,run\nx,A,0\n", "has no column 'accuracy'"),
        ("dataset;method;run;accuracy\n", "separated by semicolons"),
        ("dataset,method,accuracy\nx,A,9\n", "has neither a column 'run' nor 'seed'"),
        ("dataset,method,run,seed,accuracy\n", "has both columns 'run' and 'seed'"),
        ("dataset,method,method,run,accuracy\n", "has 2 columns 'method'"),
        (f"dataset,method,run,accuracy\n{GOOD}\n{GOOD}\n", ":3: 'A' on 'x' has run '0' twice"),
        ("dataset,method,run,accuracy\nx,A,0,nan\n", ":2: accuracy 'nan' is not allowed"),
        ("dataset,method,run,accuracy\nx,A,0,101\n", ":2: accuracy '101' is not allowed"),
        ("dataset,method,run,accuracy\nx,A,0,\n", ":2: accuracy '' is no number"),
        ("dataset,method,run,accuracy\nx,,0,9\n", ":2: method '' is not allowed"),
        ("dataset,method,run,accuracy\nx,A,0,0.9\n", "look like fractions"),
        ("dataset,method,run,accuracy\nx,A,0\n", ":2: 3 fields; the header has 4"),
        (f"dataset,method,run,accuracy\n{GOOD}\n", "no method has a random counterpart"),
        ("dataset,method,run,accuracy,counterpart\nx,A,0,9,B\n", "counterpart 'B', which has no"),
        ("dataset,method,run,accuracy,counterpart\nx,A,0,9,A\n", "is its own counterpart"),
        (
            "dataset,method,run,accuracy,counterpart\nx,A,0,9,B\nx,A,1,9,C\n",
            ":3: 'A' on 'x' has the counterparts 'B' and 'C'",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        gains(read(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
