"""The report of a study: one page that needs no network, and its pictures and tables as files."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from zostudy import __version__
from zostudy.config.loading import StudyFile
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS, Metric
from zostudy.space import genotype
from zostudy.study.analysis.factors import Comparison
from zostudy.study.analysis.random_choice import sentences
from zostudy.study.pictures.drawing import genotype_figure
from zostudy.study.report import answers, charts, tables
from zostudy.study.report.checklist import checklist
from zostudy.study.report.results_table import mean_and_spread
from zostudy.study.report.trust import undecided, warning_of

Document = Mapping[str, Any]

#: Genotypes that are drawn; of further trials the page has the text.
_DRAWN = 12

#: What points are plotted against.
_COST = "search_peak_bytes"


def write(file: StudyFile, document: Document, folder: Path, *, force: bool = False) -> list[Path]:
    """Write the report into a folder that appears whole or not at all.

    Args:
        file: The study.
        document: Its results.
        folder: What it is called; new, unless forced.
        force: Replace a report that is there.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: The folder is there and holds something else, or cannot be written.
    """
    page = folder / "index.html"
    if folder.exists() and any(folder.iterdir()) and not (force and page.exists()):
        way = "--force replaces it" if page.exists() else "choose a new folder"
        raise ConfigError(f"--output: {folder} is there already; {way}")
    new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        with _cleared(new):
            names = _fill(new, file, document)
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
    except OSError as error:
        raise ConfigError(f"--output: {folder}: {error.strerror or error}") from error
    return [folder / name for name in names]


@contextlib.contextmanager
def _cleared(new: Path) -> Iterator[None]:
    new.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _fill(folder: Path, file: StudyFile, document: Document) -> list[str]:
    """Write the page, pictures and tables; their names."""
    metric = answers.judged_by(document, [goal.metric for goal in file.config.sweep.objectives])
    by_metric = answers.compared(document, metric)
    figures = dict(_figures(document, metric, by_metric))
    genotypes = dict(_genotypes(document, file.config.extensions))
    written = {
        "index.html": _page(file, document, metric, by_metric, figures, genotypes).encode(),
        "points.csv": tables.as_csv(document).encode(),
        "points.tex": tables.as_latex(document).encode(),
    }
    for name, (title, figure) in (figures | genotypes).items():
        written[f"{name}.svg"] = charts.svg(figure, title).replace("currentColor", "#000").encode()
        written[f"{name}.png"] = charts.png(figure)
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return list(written)


def _figures(
    document: Document, metric: Metric | None, by_metric: Mapping[str, Sequence[Comparison]]
) -> Iterator[tuple[str, tuple[str, Figure]]]:
    """Charts by the name of their file, each with its title."""
    if metric is None:
        return
    title, cost = metric.title or metric.name, METRICS[_COST]
    both = [p for p in document["points"] if {metric.name, cost.name} <= p["metrics"].keys()]
    if both and metric.better != "neither":
        front = _front(both, metric, cost)
        yield (
            "cost",
            (f"{title} against {cost.title}", charts.cost_figure(both, front, metric, cost)),
        )
    complete = [t for t in document["trials"] if metric.name in t["metrics"]]
    for index, path in enumerate(charts.numbers(complete)):
        yield (
            f"curve-{index + 1}",
            (f"{title} over {path}", charts.curve_figure(complete, path, metric)),
        )
    for name, compared in by_metric.items():
        one = METRICS[name]
        words = f"what each setting does to {one.title or one.name}"
        yield f"differences-{name}", (words, charts.differences_figure(compared, one))


def _front(points: Sequence[Document], metric: Metric, cost: Metric) -> list[Document]:
    """The points that no other is better than in both."""

    def losses(point: Document) -> tuple[float, float]:
        sign = -1 if metric.better == "larger" else 1
        return sign * point["metrics"][metric.name]["mean"], point["metrics"][cost.name]["mean"]

    known = {losses(point) for point in points}
    return [
        point
        for point in points
        if not any(
            a <= x and b <= y and (a, b) != (x, y) for x, y in [losses(point)] for a, b in known
        )
    ]


def _genotypes(
    document: Document, extensions: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, Figure]]]:
    """Pictures of the best genotypes, of one trial a point, by the name of their file."""
    first = [document["best"], *document["pareto"]] if document["best"] else document["pareto"]
    chosen = {p["number"]: p["genotype"] for p in first if p["genotype"]}
    for number, found in list(chosen.items())[:_DRAWN]:
        figure = genotype_figure(genotype.from_dict(found, extensions))
        yield f"genotype-{number}", (f"the cells of trial {number}", figure)


def _page(
    file: StudyFile,
    document: Document,
    metric: Metric | None,
    by_metric: Mapping[str, Sequence[Comparison]],
    figures: dict[str, tuple[str, Figure]],
    genotypes: dict[str, tuple[str, Figure]],
) -> str:
    metrics = [point["metrics"] for point in document["points"]]
    doubts = [
        sentences(document),
        warning_of(metrics),
        undecided(metrics),
        *document.get("notes", ()),
    ]
    settings, columns = tables.settings_of(document), tables.metrics_of(document)
    environment = Environment(
        loader=PackageLoader("zostudy.study.report", "templates"), autoescape=True, trim_blocks=True
    )
    drawn = {
        name: (title, charts.svg(figure, title))
        for name, (title, figure) in (figures | genotypes).items()
    }
    return environment.get_template("page.html").render(
        config=file.config,
        version=__version__,
        document=document,
        states=_states(document),
        answers=answers.answers(document, metric, by_metric),
        doubts=[text for text in doubts if text],
        settings=settings,
        columns=columns,
        rows=[_row(point, settings, columns) for point in document["points"]],
        figures={name: drawn[name] for name in figures},
        genotypes={name: drawn[name] for name in genotypes},
        metric=metric,
        compared=[
            (METRICS[name], one, answers.difference(one, METRICS[name]))
            for name, found in by_metric.items()
            for one in found
        ],
        trials=[_trial(trial, file.config.extensions) for trial in document["trials"]],
        checklist=checklist(file.config, document),
    )


def _states(document: Document) -> dict[str, int]:
    states = [trial["state"] for trial in document["trials"]]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def _row(
    point: Document, settings: Mapping[str, str], columns: Sequence[Metric]
) -> list[tuple[Any, str]]:
    """For each column what it is sorted by, and what it shows."""
    swept = [
        (point["params"].get(path, ""), str(point["params"].get(path, ""))) for path in settings
    ]
    cells = [
        (
            (point["metrics"].get(m.name) or {}).get("mean"),
            mean_and_spread(m, point["metrics"].get(m.name)),
        )
        for m in columns
    ]
    return [*swept, (point["n"], str(point["n"])), *cells]


def _trial(trial: Document, extensions: tuple[str, ...]) -> dict[str, Any]:
    """A trial as the page shows it."""
    shown = {
        metric.title or metric.name: metric.shown(trial["metrics"][metric.name])
        for metric in METRICS.values()
        if metric.name in trial["metrics"]
    }
    found = trial["genotype"]
    cells = str(genotype.from_dict(found, extensions)) if found else ""
    return {**trial, "shown": shown, "cells": cells}
