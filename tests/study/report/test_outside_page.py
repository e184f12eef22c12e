"""The report of results from elsewhere, and the command that writes it."""

import csv
import json
from pathlib import Path

import pytest

from tests import browser
from tests.commands import here
from zostudy.study.report import outside_page

HOSTILE = "<script>document.title='taken'</script>$x^2 & \u2212"


def rows(dataset, method, values):
    return [[dataset, method, str(run), str(value)] for run, value in enumerate(values)]


def write(path, *groups):
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["dataset", "method", "run", "accuracy"])
        lines.writerows(row for group in groups for row in group)
    return path


def full(path):
    """Three methods on three data sets, one better than random choice, one missing somewhere."""
    groups = []
    for index, dataset in enumerate(("x", "y", HOSTILE)):
        for method, gain in (("good", 5.0), (HOSTILE, 0.1), ("other", 0.05), ("few", 0.2)):
            if method == "few" and index:
                continue
            groups.append(rows(dataset, method, [80 + gain, 81 + gain, 79.5 + gain]))
            groups.append(rows(dataset, f"Random {method}", [80, 80.8, 79.1 + index]))
    return write(path, *groups)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    return outside_page.write(full(folder / "table.csv"), folder / "report")


def test_the_folder_holds_page_tables_and_pictures(written):
    folder = Path(written["files"][0]).parent
    assert {path.name for path in folder.iterdir()} == {
        "index.html", "comparisons.csv", "comparisons.tex",
        *(f"differences-{i}.{e}" for i in (1, 2, 3) for e in ("svg", "png")),
        *(f"ranks-{what}.{e}" for what in ("accuracy", "gain") for e in ("svg", "png")),
    }  # fmt: skip
    with (folder / "comparisons.csv").open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    assert len(told) == len(written["comparisons"]) == 10
    for row, one in zip(told, written["comparisons"], strict=True):
        assert float(row["difference"]) == one["difference"]
        assert [float(row["low"]), float(row["high"])] == one["interval"]
    latex = (folder / "comparisons.tex").read_text(encoding="utf-8")
    assert r"$-$" in latex
    assert "\u2212" not in latex


def test_sentences_say_what_is_told_from_noise_and_what_is_missing(written):
    text = "\n".join(written["sentences"])
    assert "of 10 comparisons are told from noise: " in text
    assert "not told from noise, which does not say that there is nothing" in text
    assert "few is missing on y" in text
    assert json.loads(json.dumps(written)) == written


def test_texts_of_the_table_are_shown_and_do_nothing(written):
    text = Path(written["files"][0]).read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert "&lt;script&gt;document" in text


@pytest.mark.browser
@browser.needed
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_without_network_shows_all_of_it(written, width, scheme):
    with browser.offline_page(written["files"][0], width, scheme) as shown:
        assert shown.title() == "table: report"
        assert shown.locator("#table tbody tr").count() == 10
        assert shown.locator("figure svg").count() == 5
        shown.get_by_role("button", name="difference", exact=True).click()
        keys = [
            float(cell.get_attribute("data-key"))
            for cell in shown.locator("#table tbody tr td:nth-child(6)").all()
        ]
        assert keys in (sorted(keys), sorted(keys, reverse=True))


def test_the_command_writes_the_page_and_says_what_was_found(tmp_path):
    full(tmp_path / "table.csv")
    done = here(tmp_path, "report", "--table", "table.csv")
    assert (done.code, done.err) == (0, "")
    assert "report-table/index.html: open it in a browser" in done.out
    assert "of 10 comparisons" in done.out
    again = here(tmp_path, "report", "--table", "table.csv")
    assert again.err == "error: --output: report-table is there already; --force replaces it\n"
    found = here(tmp_path, "report", "--table", "table.csv", "--force", "--json")
    assert len(json.loads(found.out)["comparisons"]) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "report: needs a study file or --table FILE, one of them"),
        (("s.yaml", "--table", "t.csv"), "report: needs a study file or --table FILE"),
        (("--table", "t.csv"), "--table: 't.csv' cannot be read (No such file"),
        (("--table", "."), "--table: '.' cannot be read (Is a directory"),
        (("--table", "t.csv", "--set", "study=a"), "--set: overrides settings of a study"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(tmp_path, arguments, said):
    done = here(tmp_path, "report", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_one_comparison_has_no_diagram_and_says_so(tmp_path):
    table = write(
        tmp_path / "t.csv", rows("x", "A", [91.0, 92.0]), rows("x", "Random A", [90.0, 90.5])
    )
    found = outside_page.write(table, tmp_path / "r")
    assert not list((tmp_path / "r").glob("ranks*"))
    assert any("no ranks: it takes three methods" in text for text in found["sentences"])
