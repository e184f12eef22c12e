"""What a user sees: tables and the best genotype on stdout, the plan on stderr."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zostudy.config.sizes import counted
from zostudy.metrics import Metric
from zostudy.space import genotype
from zostudy.study.analysis.random_choice import sentences
from zostudy.study.ingredients import trials_named
from zostudy.study.points import Standing, short_paths
from zostudy.study.report.answers import over_random
from zostudy.study.report.results_table import fitting_table
from zostudy.study.report.trust import predictions, undecided, warning_of

#: Width of tables where there is no terminal to fit them into, in characters.
PLAIN_WIDTH = 160


def output(*, stderr: bool = False) -> Console:
    """A console on stdout, or on stderr."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def print_results(
    document: Mapping[str, Any],
    console: Console,
    extensions: tuple[str, ...] = (),
    columns: Sequence[Metric] = (),
) -> None:
    """Print the table, the trials that are not complete and why, and the best genotype.

    Args:
        document: The results.
        console: Where to print.
        extensions: Modules that may declare the genotype's search space.
        columns: The metrics of the table, the most important first; else a choice that fits.
    """
    if not document["trials"]:
        console.print(f"study {document['study']!r}: nothing was run yet", markup=False)
        _print_notes(document.get("notes", ()), console)
        return
    if any(trial["state"] == "complete" for trial in document["trials"]):
        _print_table(document, console, columns)
    else:
        console.print(_without_results(document), markup=False, soft_wrap=True)
    points = [point["metrics"] for point in document["points"]]
    for text in (
        over_random(document),
        sentences(document),
        warning_of(points),
        undecided(points),
        predictions(points),
    ):
        if text:
            console.print(text, markup=False, soft_wrap=True)
    _print_notes(document.get("notes", ()), console)
    random = document.get("random_baseline", {}).get("trials", ())
    _print_incomplete([*document["trials"], *random], console)
    best = document["best"]
    if best is None:
        _print_front(document["pareto"], console)
    else:
        kind = "predicted" if "predicted_accuracy" in best["metrics"] else "validation"
        console.print(
            f"\nbest point: {_described(best['params'])}\n"
            f"its best trial by {kind} accuracy: number {best['number']}, "
            f"seed {best['seed']}, genotype:",
            markup=False,
            soft_wrap=True,
        )
        found = genotype.from_dict(best["genotype"], extensions)
        console.print(str(found), markup=False, soft_wrap=True)


def _print_table(document: Mapping[str, Any], console: Console, columns: Sequence[Metric]) -> None:
    """Print the table, and in a line which columns there was no room for."""
    table, left_out = fitting_table(document, console, columns)
    console.print(table)
    if left_out:
        console.print(
            f"no room for {', '.join(metric.title for metric in left_out)}: "
            f"`zostudy results STUDY --columns {left_out[0].name},…` chooses, --csv has all",
            markup=False,
            soft_wrap=True,
        )


def _without_results(document: Mapping[str, Any]) -> str:
    """What stands in the place of the table where no trial is complete."""
    states = Counter(trial["state"] for trial in document["trials"])
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"study {document['study']!r}: no trial is complete, so there are no means ({counts})"


def _print_incomplete(trials: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print why trials are not complete, a line for each reason that they share."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for trial in trials:
        if trial["state"] != "complete":
            groups[trial["state"], trial["reason"]].append(trial)
    for (state, reason), group in groups.items():
        first = group[0]
        what = (
            f"trial {first['number']} {state} ({_described(first['params'])}, seed {first['seed']})"
        )
        if len(group) > 1:
            what = f"{trials_named([trial['number'] for trial in group])} {state}"
        console.print(f"{what}: {reason}", markup=False, soft_wrap=True)


def _print_front(points: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the points of a front of several objectives, each with its trial."""
    for index, point in enumerate(points):
        if not index:
            console.print("\nPareto front, the points that no other one is better than in all:")
        console.print(
            f"  {_described(point['params'])}: trial {point['number']}, seed {point['seed']}",
            markup=False,
            soft_wrap=True,
        )


def _described(params: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in params.items()) or "nothing swept"


def print_plan(study: str, standing: Standing, console: Console) -> None:
    """Print the points, and for each seed whether its trial is complete."""
    paths = list(standing.searched[0].values) if standing.points else []
    names = short_paths(paths)
    table = Table(title=f"study {study}")
    for path in paths:
        table.add_column(names[path])
    for heading in ("seeds complete", "seeds missing", "same combinations"):
        table.add_column(heading)
    for point in standing.searched:
        missing = standing.missing(point)
        done = [str(seed) for seed in standing.seeds if seed not in missing]
        same = f"{point.coinciding} more" if point.coinciding else "–"
        table.add_row(
            *(escape(str(value)) for value in point.values.values()),
            " ".join(done) or "–",
            " ".join(map(str, missing)) or "–",
            same,
        )
    console.print(table)
    console.print(planned(standing))
    _print_notes(standing.notes, console)


def _print_notes(notes: Sequence[str], console: Console) -> None:
    """Print what is to be said of what trials are made of."""
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def planned(standing: Standing) -> str:
    """The plan in one line."""
    seeds, points = len(standing.seeds), standing.searched
    random = sum(len(point.seeds_among(standing.seeds)) for point in standing.baseline)
    trials = (len(points) + standing.to_sample) * seeds + random
    beside = f", and {counted(random, 'random genotype')}" if random else ""
    sampled = f" and {standing.to_sample} to be sampled" if standing.to_sample else ""
    coinciding = sum(point.coinciding for point in standing.points)
    same = f" ({coinciding} coinciding combinations left out)" if coinciding else ""
    failed = standing.trials_failed
    ended = standing.trials_ended
    complete = trials - standing.trials_left - failed - ended
    return (
        f"{counted(len(points), 'point')}{sampled}{same}, {counted(seeds, 'seed')} "
        f"each{beside}: {counted(trials, 'trial')}, "
        f"{complete} complete,{f' {failed} failed,' if failed else ''}"
        f"{f' {ended} ended by a rule,' if ended else ''} "
        f"{standing.trials_left} to run"
    )
