"""The report of a study: one page that needs no network, and its pictures and tables as files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from zostudy.config.loading import StudyFile
from zostudy.metrics import METRICS, Metric
from zostudy.space import genotype
from zostudy.study.analysis.factors import Comparison
from zostudy.study.analysis.importances import Importances, importances
from zostudy.study.analysis.random_choice import sentences
from zostudy.study.pictures.drawing import genotype_figure
from zostudy.study.report import answers, charts, practical_table, tables
from zostudy.study.report.checklist import checklist
from zostudy.study.report.practical_table import PracticalTable
from zostudy.study.report.report_folder import check_output, rendered, write_report
from zostudy.study.report.results import undominated
from zostudy.study.report.results_table import KIND, mean_and_spread, rows_of
from zostudy.study.report.trial_pictures import TrialPictures
from zostudy.study.report.trust import predictions, undecided, warning_of

Document = Mapping[str, Any]

#: Genotypes that are drawn; of further trials the page has the text.
_DRAWN = 12

#: What the names of pictures of genotypes begin with.
_CELLS = "genotype-"

#: What points are plotted against where no objective is a cost.
_COST = "search_peak_bytes"


def write(
    file: StudyFile,
    document: Document,
    folder: Path,
    *,
    force: bool = False,
    seen: TrialPictures | None = None,
    practical: PracticalTable | None = None,
) -> list[Path]:
    """Write the report into a folder that appears whole or not at all.

    Args:
        file: The study.
        document: Its results.
        folder: What it is called; new or empty, unless an earlier report may be replaced.
        force: Replace a report that is there.
        seen: Pictures of single trials.
        practical: What differences of accuracy are in practice, if that is asked for.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: The folder holds something that is not to be replaced, or cannot be written.
    """
    check_output(folder, force=force)
    return write_report(folder, contents(file, document, seen or TrialPictures(), practical))


@dataclass(frozen=True)
class Live:
    """What a page knows that follows its study.

    Attributes:
        state: Names what it shows; another one is a reason to load it again.
        running: Numbers of the trials that run now.
    """

    state: str
    running: tuple[int, ...]


def contents(
    file: StudyFile,
    document: Document,
    seen: TrialPictures,
    practical: PracticalTable | None = None,
    live: Live | None = None,
) -> dict[str, bytes]:
    """The page, pictures and tables, by the names of their files.

    Args:
        file: The study.
        document: Its results.
        seen: Pictures of single trials.
        practical: What differences of accuracy are in practice, if that is asked for.
        live: What the page knows if it follows the study.
    """
    judged = _Judged.of(file, document)
    said = [*judged.answers(document), *([practical.sentence()] if practical else [])]
    written, pictures = {}, {}
    for name, (title, figure) in (
        *_against_costs(document, judged.metric, [g.metric for g in file.config.sweep.objectives]),
        *_figures(document, judged),
        *_genotypes(document, file.config.extensions),
    ):
        pictures[name] = (title, charts.svg(figure, title))
        written[f"{name}.svg"] = charts.alone(pictures[name][1]).encode()
        written[f"{name}.png"] = charts.png(figure)
    return {
        "index.html": _page(
            file, document, judged, pictures, seen, answers=said, practical=practical, live=live
        ).encode(),
        "points.csv": tables.as_csv(document).encode(),
        "points.tex": tables.as_latex(document).encode(),
        **(practical_table.files(practical) if practical else {}),
        **written,
    }


@dataclass(frozen=True)
class _Judged:
    """What a study is judged by, and how its points compare by that.

    Attributes:
        metric: The metric; None where no trial is complete.
        by_metric: For it and for what a trial costs, every pair of values of every swept setting.
        shares: How much of its variance each setting explains.
    """

    metric: Metric | None
    by_metric: Mapping[str, Sequence[Comparison]]
    shares: Importances | None

    @classmethod
    def of(cls, file: StudyFile, document: Document) -> "_Judged":
        """What a study's results say."""
        metric = answers.judged_by(document, [goal.metric for goal in file.config.sweep.objectives])
        shares = importances(document["trials"], metric.name) if metric else None
        return cls(metric, answers.compared(document, metric), shares)

    def answers(self, document: Document) -> list[str]:
        """The sentences that a reader wants first."""
        return answers.answers(document, self.metric, self.by_metric, self.shares)


def _figures(document: Document, judged: _Judged) -> Iterator[tuple[str, tuple[str, Figure]]]:
    """Charts by the name of their file, each with its title."""
    metric, shares = judged.metric, judged.shares
    if metric is None:
        return
    title = metric.title
    complete = [t for t in document["trials"] if metric.name in t["metrics"]]
    for index, path in enumerate(charts.numbers(complete)):
        yield (
            f"curve-{index + 1}",
            (f"{title} over {path}", charts.curve_figure(complete, path, metric)),
        )
    if shares and any(shares.shares.values()):
        words = f"how much of the variance of {title} each setting explains"
        yield "importances", (words, charts.importances_figure(shares, metric))
    for name, compared in judged.by_metric.items():
        one = METRICS[name]
        words = f"what each setting does to {one.title}"
        yield f"differences-{name}", (words, charts.differences_figure(compared, one))


def _against_costs(
    document: Document, metric: Metric | None, objectives: Sequence[str]
) -> Iterator[tuple[str, tuple[str, Figure]]]:
    """Charts against each objective that is a cost, latency first; else against the search's."""
    if metric is None or metric.better == "neither":
        return
    costs = [n for n in objectives if METRICS[n].better == "smaller" and n != metric.name]
    for name in sorted(costs, key=lambda name: name != "latency_ms") or [_COST]:
        cost = METRICS[name]
        both = [p for p in document["points"] if {metric.name, name} <= p["metrics"].keys()]
        if both:
            figure = charts.cost_figure(both, _front(both, metric, cost), metric, cost)
            words = f"{metric.title} against {cost.title}"
            yield f"cost-{name}" if costs else "cost", (words, figure)


def _front(points: Sequence[Document], metric: Metric, cost: Metric) -> list[Document]:
    """The points that no other is better than in both."""
    sign = -1 if metric.better == "larger" else 1
    losses = [
        (sign * point["metrics"][metric.name]["mean"], point["metrics"][cost.name]["mean"])
        for point in points
    ]
    best = undominated(losses)
    return [point for point, own in zip(points, losses, strict=True) if own in best]


def _genotypes(
    document: Document, extensions: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, Figure]]]:
    """Pictures of the best genotypes, of one trial a point, by the name of their file."""
    first = [document["best"], *document["pareto"]] if document["best"] else document["pareto"]
    chosen = {p["number"]: p["genotype"] for p in first if p["genotype"]}
    for number, found in list(chosen.items())[:_DRAWN]:
        figure = genotype_figure(genotype.from_dict(found, extensions))
        yield f"{_CELLS}{number}", (f"the cells of trial {number}", figure)


def _page(
    file: StudyFile,
    document: Document,
    judged: _Judged,
    pictures: Mapping[str, tuple[str, str]],
    seen: TrialPictures,
    **more: object,
) -> str:
    settings, columns = tables.settings_of(document), tables.titled(document)
    kinds = [KIND] * ("random_baseline" in document)
    random = document.get("random_baseline", {}).get("trials", [])
    return rendered(
        "page.html",
        config=file.config,
        document=document,
        states=_states(document),
        doubts=_doubts(document, seen.note),
        heads=[
            *((name, "") for name in (*kinds, *settings.values(), "n")),
            *((metric.title, metric.meaning) for metric in columns),
        ],
        rows=[
            [*((kind, kind) for _ in kinds), *_row(point, settings, columns)]
            for kind, point in rows_of(document)
        ],
        words=len(kinds) + len(settings),
        figures=[p for name, p in pictures.items() if not name.startswith(_CELLS)],
        genotypes=[p for name, p in pictures.items() if name.startswith(_CELLS)],
        metric=judged.metric,
        compared=[
            (one.differs, answers.difference(one, METRICS[name]))
            for name, found in judged.by_metric.items()
            for one in found
        ],
        practical_heads=practical_table.HEADS,
        over_random=answers.points_over_random(document, judged.metric),
        trials=[
            _trial(t, file.config.extensions) | {"pictures": seen.of.get(t["number"], ())}
            for t in (*document["trials"], *random)
        ],
        checklist=checklist(file.config, document),
        **more,
    )


def _doubts(document: Document, note: str) -> list[str]:
    """What is to be kept in mind, in sentences."""
    metrics = [point["metrics"] for point in document["points"]]
    found = [
        sentences(document),
        warning_of(metrics),
        undecided(metrics),
        predictions(metrics),
        *document.get("notes", ()),
        note,
    ]
    return [f"{doubt[:1].upper()}{doubt[1:]}" for doubt in found if doubt]


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
    shown = [
        (metric.title, f"{metric.name}: {metric.meaning}", metric.of_trial(value))
        for metric in METRICS.values()
        if (value := trial["metrics"].get(metric.name)) is not None
    ]
    found = trial["genotype"]
    cells = str(genotype.from_dict(found, extensions)) if found else ""
    return {**trial, "shown": shown, "cells": cells}
