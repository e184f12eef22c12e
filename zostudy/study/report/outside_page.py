"""The report of results from elsewhere: methods against random choice in their search spaces."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zostudy.study.analysis import against_random
from zostudy.study.analysis.against_random import Gain
from zostudy.study.analysis.outside_results import OutsideResults, read
from zostudy.study.analysis.ranks import Ranks, ranks
from zostudy.study.report import charts, outside_answers, tables
from zostudy.study.report.answers import probability
from zostudy.study.report.outside_answers import signed
from zostudy.study.report.report_folder import check_output, rendered, write_report

#: Columns of the table for people.
_HEADS = (
    ("data set", ""),
    ("method", ""),
    ("runs", "of the method and of random choice, or pairs"),
    ("accuracy %", "mean over the runs"),
    ("random %", "mean of random choice in the same search space"),
    ("difference", "percentage points"),
    ("95 % interval", "of this comparison alone"),
    ("effect", "difference in standard deviations of one run; of pairs, of their differences"),
    ("p", "corrected for all comparisons (Holm)"),
    ("told from noise", ""),
    ("runs needed", "of each, to find such a gain four times of five"),
)

Document = dict[str, Any]


def write(table: Path, folder: Path | None = None, *, force: bool = False) -> Document:
    """Write the report of a table.

    Args:
        table: The CSV file (`zostudy.study.analysis.outside_results`).
        folder: What the report is called; else ``report-`` and the table's name, here.
        force: Replace a report that is there.

    Returns:
        What was found, as ``zostudy report --table --json`` prints it: ``table``; ``sentences``
        and ``notes``; ``comparisons`` (`Gain.to_dict`); ``ranks`` by ``accuracy`` and ``gain``
        (`Ranks.to_dict`); ``files``, the page first.

    Raises:
        InputError: The table or the folder is not right.
    """
    results = read(table)
    folder = folder or Path(f"report-{results.name}")
    check_output(folder, force=force)
    gains = against_random.gains(results)
    by = _ranks(results, gains)
    document = {
        "table": str(table),
        "sentences": outside_answers.answers(gains) + _sentences(by),
        "notes": against_random.notes(results, gains),
        "comparisons": [one.to_dict() for one in gains],
        "ranks": {what: found.to_dict() for what, found in by.items()},
    }
    written = write_report(folder, _contents(results, gains, by, document))
    return document | {"files": [str(path) for path in written]}


def _ranks(results: OutsideResults, gains: Sequence[Gain]) -> dict[str, Ranks]:
    """Methods and their counterparts by mean accuracy, and methods by what they give over these."""
    differences: dict[str, dict[str, float]] = {}
    for one in gains:
        differences.setdefault(one.method, {})[one.dataset] = one.found.difference
    return {
        "accuracy": ranks(against_random.means(results, gains), results.datasets),
        "gain": ranks(differences, results.datasets),
    }


def _sentences(by: dict[str, Ranks]) -> list[str]:
    names = {"accuracy": "accuracy", "gain": "gain over random choice"}
    return [text for what, one in by.items() for text in outside_answers.ranking(one, names[what])]


def _contents(
    results: OutsideResults, gains: Sequence[Gain], by: dict[str, Ranks], document: Document
) -> dict[str, bytes]:
    """The page, pictures and tables, by the names of their files."""
    written: dict[str, bytes] = {}
    pictures: dict[str, tuple[str, str]] = {}
    for name, title, figure in (*_differences(results, gains), *_diagrams(by)):
        pictures[name] = (title, charts.svg(figure, title))
        written[f"{name}.svg"] = charts.alone(pictures[name][1]).encode()
        written[f"{name}.png"] = charts.png(figure)
    rows = [_row(one) for one in gains]
    page = rendered(
        "outside.html",
        results=results,
        methods=len({one.method for one in gains}),
        answers=outside_answers.answers(gains),
        notes=document["notes"],
        heads=_HEADS,
        rows=rows,
        differences=[p for name, p in pictures.items() if name.startswith("differences")],
        diagrams=[p for name, p in pictures.items() if name.startswith("ranks")],
        ranks=_sentences(by),
        sentences=[(one.differs, outside_answers.gain(one)) for one in gains],
    )
    heads = [name for name, _ in _HEADS]
    return {
        "index.html": page.encode(),
        "comparisons.csv": _csv(document["comparisons"]).encode(),
        "comparisons.tex": tables.latex(heads, [[c for _, c in r] for r in rows], 2).encode(),
        **written,
    }


def _differences(
    results: OutsideResults, gains: Sequence[Gain]
) -> Iterator[tuple[str, str, Figure]]:
    for index, dataset in enumerate(results.datasets):
        rows = [
            charts.Interval(
                charts.short_name(one.method),
                one.found.difference,
                one.found.interval,
                one.differs,
            )
            for one in gains
            if one.dataset == dataset
        ]
        if rows:
            title = f"{dataset}: accuracy less that of random choice"
            axis = "difference of accuracy, percentage points"
            yield f"differences-{index + 1}", title, charts.intervals_figure(rows, axis)


def _diagrams(by: dict[str, Ranks]) -> Iterator[tuple[str, str, Figure]]:
    titles = {
        "accuracy": "critical-difference diagram of methods and random choice, ranked by accuracy",
        "gain": "critical-difference diagram of methods, ranked by gain over random choice",
    }
    for what, found in by.items():
        if found.mean_ranks:
            yield f"ranks-{what}", titles[what], charts.ranks_figure(found)


def _row(one: Gain) -> list[tuple[Any, str]]:
    """For each column what it is sorted by, and what it shows."""
    interval, needed = one.found.interval, one.runs_needed
    effect = one.found.effect
    return [
        (one.dataset, one.dataset),
        (one.method, one.method),
        (one.runs, f"{one.runs} pairs" if one.paired else f"{one.runs}, {one.random_runs}"),
        (one.mean, f"{one.mean:.2f}"),
        (one.random_mean, f"{one.random_mean:.2f}"),
        (one.found.difference, signed(one.found.difference)),
        (interval and interval[0], f"{signed(interval[0])} to {signed(interval[1])}")
        if interval
        else (None, "–"),
        (effect, "–" if effect is None else signed(effect)),
        (one.p, "–" if one.p is None else probability(one.p)),
        (int(one.differs), "yes" if one.differs else "no"),
        (needed, "–" if needed is None else str(needed)),
    ]


def _csv(comparisons: Sequence[Document]) -> str:
    """A row a comparison, values as they were computed."""
    written = io.StringIO()
    flat = [
        {
            key: value
            for name, cell in one.items()
            for key, value in (
                zip(("low", "high"), cell or (None, None), strict=True)
                if name == "interval"
                else ((name, cell),)
            )
        }
        for one in comparisons
    ]
    rows = csv.DictWriter(written, list(flat[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(flat)
    return written.getvalue()
