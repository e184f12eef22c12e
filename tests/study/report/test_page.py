"""The report of a study: what is in it, and that a browser without network shows all of it."""

import csv
import io
import re

import pytest

from tests import browser
from tests.commands import here
from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS
from zostudy.study import points
from zostudy.study.analysis.importances import importances
from zostudy.study.points import Attempt, Failure, Standing, TrialOutcome
from zostudy.study.report import answers, page, report_folder, results, tables

CELL = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
GENOTYPE = {"search_space": "darts", "cells": {"normal": CELL, "reduction": CELL}}
HOSTILE = "</title><script>document.title='taken'</script>$x^2 & \"more\""


def study(**changes):
    return from_document(
        {
            "study": "s",
            "description": HOSTILE,
            "prune": {"source": "random"},
            "sweep": {
                "parameters": {
                    "prune.xi": [0.25, 0.5, 0.75],
                    "search.regularizer.name": ["none", "beta_decay"],
                },
                "seeds": [0, 1, 2],
            },
        }
        | changes
    )


def trial(accuracy, memory):
    metrics = {
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy - 1,
        "search_peak_bytes": memory,
        "search_seconds": 2.0,
        "macs": 5e6,
    }
    return TrialOutcome(metrics, GENOTYPE, "run")


def document(file, result):
    """A document of a study whose trials ended with `result(point, seed)`."""
    known, seeds = tuple(points.grid(file)), file.config.sweep.seeds
    attempts = {
        point.key: Attempt(
            point,
            {s: n * len(seeds) + i for i, s in enumerate(seeds)},
            {s: found for s in seeds if (found := result(point, s)) is not None},
        )
        for n, point in enumerate(known)
    }
    return results.from_standing(file, Standing(known, attempts, seeds))


def complete(point, seed):
    xi = point.values["prune.xi"]
    return trial(90 + 4 * xi + 0.3 * (seed * 7 % 3) * xi, 2**20 * (1 + 8 * xi))


def failed(point, seed):
    return Failure(HOSTILE, "run") if seed == 1 else complete(point, seed)


CASES = {
    "complete": complete,
    "some failed": failed,
    "all failed": lambda *_: Failure(HOSTILE, "run"),
    "one seed": lambda point, seed: complete(point, seed) if seed == 0 else None,
    "none": lambda *_: None,
}


@pytest.fixture(scope="module", params=CASES)
def written(request, tmp_path_factory):
    file, folder = study(), tmp_path_factory.mktemp("reports") / "report"
    found = document(file, CASES[request.param])
    return request.param, found, page.write(file, found, folder)


def test_accuracy_is_drawn_against_the_costs_among_the_objectives_latency_first():
    names = ("validation_accuracy", "macs", "latency_ms")
    sweep = study().document["sweep"] | {
        "objectives": [
            {"metric": name, "direction": "maximize" if name == names[0] else "minimize"}
            for name in names
        ]
    }
    file = study(sweep=sweep, latency={"by": "measured"})

    def timed(point, seed):
        found = complete(point, seed)
        return TrialOutcome(found.metrics | {"latency_ms": 2.5}, found.genotype, "run")

    written = list(page.contents(file, document(file, timed), page.TrialPictures()))
    drawn = [name for name in written if name.startswith("cost") and name.endswith(".svg")]
    assert drawn == ["cost-latency_ms.svg", "cost-macs.svg"]
    assert all(report_folder._NAMES.fullmatch(name) for name in written)


def test_texts_of_users_are_shown_and_do_nothing(written):
    text = written[2][0].read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert "&lt;script&gt;document" in text
    assert "http" not in text.replace("http://www.w3.org/", "").replace('http-equiv="', "")


@pytest.mark.browser
@browser.needed
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_without_network_shows_all_of_it(written, width, scheme):
    name, found, files = written
    with browser.offline_page(files[0], width, scheme) as shown:
        assert shown.title() == "s: report"
        assert shown.locator("#table tbody tr").count() == len(found["points"])
        assert shown.locator("details").count() == len(found["trials"])
        pictures = [path for path in files if path.suffix == ".svg"]
        assert shown.locator("figure svg").count() == len(pictures)
        if name == "complete":
            assert (
                len(pictures) == 8
            )  # two charts, importances, three of differences, two genotypes
            sorts_and_filters(shown)


def sorts_and_filters(shown):
    column = "#table tbody tr td:nth-child(4)"
    for _ in range(2):
        shown.get_by_role("button", name="validation %").click()
        values = [float(t.split()[0]) for t in shown.locator(column).all_inner_texts()]
    assert values == sorted(values, reverse=True)
    shown.get_by_role("searchbox").fill("beta 0.25")
    assert shown.locator("#table tbody tr:visible").count() == 1


def test_the_answer_names_the_best_and_what_is_told_from_noise():
    file = study()
    found = document(file, complete)
    metric = answers.judged_by(found, ["validation_accuracy"])
    said = answers.answers(
        found,
        metric,
        answers.compared(found, metric),
        importances(found["trials"], metric.name),
    )
    assert said[0].startswith("Best by validation %: xi = 0.75, regularizer = none with 93.")
    assert "xi 0.25 → 0.5: validation % +1.07 " in said[1]
    assert said[1].endswith(": told from noise.")
    assert "regularizer none → beta_decay: validation % +0.00" in said[-2]
    assert "not told from noise" in said[-2]
    assert said[-1].startswith("Of the variance of validation % between 18 trials, seeds taken out")
    assert "these explain: xi 100 %; 0 % is left" in said[-1]


def test_a_trials_details_have_titles_units_and_words_in_place_of_names(tmp_path):
    file = study()
    more = {
        "search_stable_epochs": 3.0,
        "search_collapsed": 0.0,
        "evaluate_peak_bytes": 3 * 2.0**20,
        "regret": 0.25,
    }
    given = TrialOutcome(trial(90, 2**20).metrics | more, GENOTYPE, "run")
    written = page.write(file, document(file, lambda *_: given), tmp_path / "report")
    text = written[0].read_text(encoding="utf-8")
    details = re.sub(r"<[^>]*>", " ", text[text.index("<dl>") : text.index("</dl>")])
    shown = " ".join(details.split())
    assert "epochs with this genotype 3 " in shown
    assert "collapsed to skips no " in shown
    assert "evaluate MB 3.0 " in shown
    assert "regret 0.25 points " in shown
    assert not any(name in shown for name in METRICS if "_" in name)
    assert 'title="search_stable_epochs: For how many epochs' in text


def test_one_seed_tells_nothing_from_noise():
    found = document(study(), CASES["one seed"])
    metric = answers.judged_by(found, ["validation_accuracy"])
    said = answers.answers(
        found,
        metric,
        answers.compared(found, metric),
        importances(found["trials"], metric.name),
    )
    assert said[0].startswith("No point has all its seeds complete")
    assert said[1].startswith("Each point has one seed")
    assert all("one seed: no interval" in text for text in said[2:-1])


def test_tables_are_those_of_the_document():
    found = document(study(), complete)
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(found))))
    assert [float(row["prune.xi"]) for row in rows] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    for row, point in zip(rows, found["points"], strict=True):
        for what in ("mean", "sd"):
            stored = point["metrics"]["validation_accuracy"][what]
            assert float(row[f"validation_accuracy_{what}"]) == stored
    latex = tables.as_latex(found).splitlines()
    assert latex[2].startswith(r"xi & regularizer & n & validation \% & test \% &")
    assert r"beta\_decay" in latex[5]
    assert r" $\pm$ " in latex[5]


def test_what_is_there_is_not_overwritten_unless_it_is_a_report(tmp_path):
    file = study()
    found = document(file, CASES["none"])
    mine, site, plain = tmp_path / "mine", tmp_path / "site", tmp_path / "file"
    mine.mkdir()
    site.mkdir()
    (mine / "notes.txt").write_text("mine")
    (site / "index.html").write_text("<title>my own</title>")
    plain.write_text("mine")
    for force in (False, True):
        for folder, said in (
            (mine, "mine is there already; it holds notes.txt; choose a new folder"),
            (site, "site is there already; choose a new folder"),
            (plain, "file is a file; choose a new folder"),
        ):
            with pytest.raises(ConfigError, match=said):
                page.write(file, found, folder, force=force)
    report = tmp_path / "report"
    first = page.write(file, found, report)
    with pytest.raises(ConfigError, match="report is there already; --force replaces it"):
        page.write(file, found, report)
    assert page.write(file, found, report, force=True) == first
    (report / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"it holds notes\.txt"):
        page.write(file, found, report, force=True)
    with pytest.raises(ConfigError, match=r"--output: .*Not a directory"):
        page.write(file, found, plain / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine", "report", "site"]


def test_the_command_says_where_the_page_is(tmp_path):
    (tmp_path / "s.yaml").write_text("study: s\n")
    done = here(tmp_path, "report", "s.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("report-s/index.html: open it in a browser")
    assert "no trial was run yet" in (tmp_path / "report-s" / "index.html").read_text()
    again = here(tmp_path, "report", "s.yaml")
    assert (again.code, again.out) == (2, "")
    assert again.err == "error: --output: report-s is there already; --force replaces it\n"
