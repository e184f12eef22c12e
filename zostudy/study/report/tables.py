"""The points of a results document as rows: CSV for programs, LaTeX for papers."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from zostudy.config.document import parse
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS, Metric
from zostudy.options import nearest
from zostudy.study.points import short_paths
from zostudy.study.report.results_table import KIND, mean_and_spread, rows_of

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


def titled(document: Document) -> list[Metric]:
    """The metrics that have a column in tables unasked and that a point has."""
    return [METRICS[name] for name in _measured(document) if METRICS[name].column]


def chosen(document: Document, names: Sequence[str]) -> list[Metric]:
    """The metrics of these names.

    Raises:
        ConfigError: No point has one of them.
    """
    known = _measured(document)
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; known: {', '.join(known) or 'none yet'}"
            raise ConfigError(f"--columns: no point has {name!r}{hint}")
    return [METRICS[name] for name in dict.fromkeys(names)]


def sorted_by(document: Document, name: str) -> dict[str, Any]:
    """The document with its points by the mean of a metric, better ones first.

    Where neither direction is better, larger values are first; points without the metric are last.

    Raises:
        ConfigError: No point has the metric.
    """
    known = _measured(document)
    if name not in known:
        hint = nearest(name, known) or f"; known: {', '.join(known) or 'none yet'}"
        raise ConfigError(f"--sort: no point has {name!r}{hint}")
    sign = 1 if METRICS[name].better == "smaller" else -1

    def place(point: Mapping[str, Any]) -> tuple[bool, float]:
        summary = point["metrics"].get(name)
        return summary is None, 0.0 if summary is None else sign * summary["mean"]

    return {**document, "points": sorted(document["points"], key=place)}


def filtered(document: Document, conditions: Sequence[str]) -> dict[str, Any]:
    """The document with the points and trials that meet all conditions, such as ``prune.xi=0.25``.

    The best point and the Pareto front stay those of the whole study.

    Raises:
        ConfigError: A condition has no ``=``, names a setting that is not swept, or leaves none.
    """
    kept = dict(document)
    for condition in conditions:
        path, value = _condition(document, condition)
        there = list(dict.fromkeys(str(point["params"].get(path)) for point in kept["points"]))
        for part in ("points", "trials"):
            kept[part] = [one for one in kept[part] if _has(one["params"].get(path), value)]
        if not kept["points"]:
            raise ConfigError(
                f"--filter {condition!r}: leaves no point; {path}: {', '.join(there)}"
            )
    return kept


def _condition(document: Document, condition: str) -> tuple[str, str]:
    """The path of a swept setting and the text of its value."""
    given, equals, value = condition.partition("=")
    paths = list(dict.fromkeys(p for trial in document["trials"] for p in trial["params"]))
    by_name = {short: path for path, short in short_paths(paths).items()} | {p: p for p in paths}
    if not equals:
        raise ConfigError(f"--filter {condition!r}: needs the form path=value, such as prune.xi=1")
    if given not in by_name:
        hint = nearest(given, by_name) or f"; swept: {', '.join(paths) or 'nothing'}"
        raise ConfigError(f"--filter {condition!r}: {given!r} is not swept{hint}")
    return by_name[given], value


def _has(own: object, text: str) -> bool:
    """Whether a setting's value is what a text says: as it is shown, or as YAML reads it."""
    return str(own) == text or parse(text) == own


def _measured(document: Document) -> list[str]:
    """The metrics that a point has, in the order of the columns of tables."""
    names = {name for point in document["points"] for name in point["metrics"]}
    return [name for name in METRICS if name in names]


def as_csv(document: Document) -> str:
    """A row a point: settings, n, and mean and standard deviation of every metric, as stored.

    With random genotypes beside the points, a first column tells which a row is of.
    """
    paths = list(settings_of(document))
    names = list(dict.fromkeys(name for p in document["points"] for name in p["metrics"]))
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    kinds = "random_baseline" in document
    head = [*[KIND] * kinds, *paths, "n"]
    rows.writerow([*head, *(f"{name}_{what}" for name in names for what in ("mean", "sd"))])
    for kind, point in rows_of(document):
        summaries = [point["metrics"].get(name, {}) for name in names]
        rows.writerow(
            [
                *[kind] * kinds,
                *(point["params"].get(path) for path in paths),
                point["n"],
                *(summary.get(what) for summary in summaries for what in ("mean", "sd")),
            ]
        )
    return written.getvalue()


def as_latex(document: Document, asked: Sequence[Metric] = ()) -> str:
    """The table of the points for a paper that uses the package booktabs.

    Args:
        document: The results.
        asked: The metrics that have a column; else those that have one unasked.
    """
    settings, metrics = settings_of(document), list(asked) or titled(document)
    kinds = "random_baseline" in document
    head = [
        *[KIND] * kinds,
        *settings.values(),
        "n",
        *(metric.title for metric in metrics),
    ]
    rows = [
        [
            *[kind] * kinds,
            *(str(point["params"].get(path, "")) for path in settings),
            str(point["n"]),
            *(mean_and_spread(metric, point["metrics"].get(metric.name)) for metric in metrics),
        ]
        for kind, point in rows_of(document)
    ]
    return latex(head, rows, kinds + len(settings))


def latex(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table for a paper that uses the package booktabs; the first columns hold words."""
    columns = "l" * words + "r" * (len(head) - words)
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
    line = " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells)
    return line.replace("±", r"$\pm$").replace("−", "$-$") + r" \\"
