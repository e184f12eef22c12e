"""The points of a results document as rows: CSV for programs, LaTeX for papers."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from zostudy.metrics import METRICS, Metric
from zostudy.study.points import short_paths
from zostudy.study.report.results_table import mean_and_spread

Document = Mapping[str, Any]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def settings_of(document: Document) -> dict[str, str]:
    """The paths of the swept settings, each with its short name."""
    return short_paths(
        list(dict.fromkeys(p for point in document["points"] for p in point["params"]))
    )


def metrics_of(document: Document) -> list[Metric]:
    """The metrics that have a column in tables and that a point has."""
    return [
        metric
        for metric in METRICS.values()
        if metric.title and any(metric.name in point["metrics"] for point in document["points"])
    ]


def as_csv(document: Document) -> str:
    """A row a point: settings, n, and mean and standard deviation of every metric, as stored."""
    paths = list(settings_of(document))
    names = list(dict.fromkeys(name for p in document["points"] for name in p["metrics"]))
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow([*paths, "n", *(f"{name}_{what}" for name in names for what in ("mean", "sd"))])
    for point in document["points"]:
        summaries = [point["metrics"].get(name, {}) for name in names]
        rows.writerow(
            [
                *(point["params"].get(path) for path in paths),
                point["n"],
                *(summary.get(what) for summary in summaries for what in ("mean", "sd")),
            ]
        )
    return written.getvalue()


def as_latex(document: Document) -> str:
    """The table of the points for a paper that uses the package booktabs."""
    settings, metrics = settings_of(document), metrics_of(document)
    head = [*settings.values(), "n", *(metric.title for metric in metrics)]
    rows = [
        [
            *(str(point["params"].get(path, "")) for path in settings),
            str(point["n"]),
            *(mean_and_spread(metric, point["metrics"].get(metric.name)) for metric in metrics),
        ]
        for point in document["points"]
    ]
    columns = "l" * len(settings) + "r" * (1 + len(metrics))
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line(head),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return (
        " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells).replace("±", r"$\pm$")
        + r" \\"
    )
