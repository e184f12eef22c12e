"""What a user sees: tables and the best genotype on stdout, plan and progress on stderr."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from zostudy.space import genotype
from zostudy.study.points import Failure, Notice, Standing
from zostudy.study.trust import warning_of

if TYPE_CHECKING:
    from zostudy.stage import Progress  # it imports torch, which printing results does without

#: Seconds between two lines of the same phase where there is no terminal.
LINE_INTERVAL = 10.0

#: Width of tables where there is no terminal to fit them into, in characters.
PLAIN_WIDTH = 160

_COLUMNS = {
    "validation_accuracy": "validation %",
    "test_accuracy": "test %",
    "search_peak_bytes": "search MB",
    "prune_reliability": "reliability",
    "prune_seconds": "prune s",
    "search_seconds": "search s",
    "evaluate_seconds": "evaluate s",
    "parameters": "parameters",
    "macs": "M MACs",
}


def output(*, stderr: bool = False) -> Console:
    """A console on stdout, or on stderr."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def figure(metric: str, value: float) -> str:
    """A metric's value in the unit it is shown in: MB of 2^20 bytes, seconds, millions of MACs."""
    if metric.endswith("_bytes"):
        return f"{value / 2**20:.1f}"
    if metric == "macs":
        return f"{value / 1e6:.2f}"
    if metric == "parameters":
        return f"{value:,.0f}"
    return f"{value:.1f}" if metric.endswith("_seconds") else f"{value:.2f}"


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """For each path, the end of it that no other has; ``regularizer.name`` is ``regularizer``."""

    def end(path: str, parts: int) -> str:
        return ".".join(path.removesuffix(".name").split(".")[-parts:])

    short = {}
    for path in paths:
        parts = 1
        while sum(end(other, parts) == end(path, parts) for other in paths) > 1:
            parts += 1
        short[path] = end(path, parts)
    return short


def results_table(document: Mapping[str, Any]) -> Table:
    """The points of a results document: mean, and ± sample standard deviation where n > 1."""
    points = document["points"]
    paths = list(dict.fromkeys(path for point in points for path in point["params"]))
    metrics = [m for m in _COLUMNS if any(m in point["metrics"] for point in points)]
    table = Table(title=f"{document['study']}: mean ± standard deviation over seeds")
    for name in short_paths(paths).values():
        table.add_column(name)
    table.add_column("n", justify="right")
    for metric in metrics:
        table.add_column(_COLUMNS[metric], justify="right")
    for point in points:
        swept = [escape(str(point["params"].get(path, ""))) for path in paths]
        cells = [_cell(metric, point["metrics"].get(metric)) for metric in metrics]
        table.add_row(*swept, str(point["n"]), *cells)
    return table


def _cell(metric: str, summary: Mapping[str, float | None] | None) -> str:
    if summary is None or summary["mean"] is None:
        return "–"
    spread = summary["sd"]
    text = figure(metric, summary["mean"])
    return text if spread is None else f"{text} ± {figure(metric, spread)}"


def print_results(
    document: Mapping[str, Any], console: Console, extensions: tuple[str, ...] = ()
) -> None:
    """Print the table, the trials that failed and the best genotype.

    Args:
        document: The results.
        console: Where to print.
        extensions: Modules that may declare the genotype's search space.
    """
    if not document["trials"]:
        console.print(f"study {document['study']!r}: nothing was run yet")
        return
    console.print(results_table(document))
    warning = warning_of([point["metrics"] for point in document["points"]])
    if warning:
        console.print(warning, markup=False, soft_wrap=True)
    for trial in document["trials"]:
        if trial["state"] == "failed":
            described = _described(trial["params"])
            console.print(
                f"trial {trial['number']} failed ({described}, seed {trial['seed']}): "
                f"{trial['reason']}",
                markup=False,
                soft_wrap=True,
            )
    best = document["best"]
    if best is not None:
        console.print(
            f"\nbest point: {_described(best['params'])}\n"
            f"its best trial by validation accuracy: number {best['number']}, "
            f"seed {best['seed']}, genotype:",
            markup=False,
            soft_wrap=True,
        )
        console.print(str(genotype.from_dict(best["genotype"], extensions)), markup=False)


def _described(params: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in params.items()) or "nothing swept"


def print_plan(study: str, standing: Standing, console: Console) -> None:
    """Print the points, and for each seed whether its trial is complete."""
    paths = list(standing.points[0].values) if standing.points else []
    names = short_paths(paths)
    table = Table(title=f"study {study}")
    for path in paths:
        table.add_column(names[path])
    for heading in ("seeds complete", "seeds missing", "same combinations"):
        table.add_column(heading)
    for point in standing.points:
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


def planned(standing: Standing) -> str:
    """The plan in one line."""
    seeds = len(standing.seeds)
    trials = (len(standing.points) + standing.to_sample) * seeds
    sampled = f" and {standing.to_sample} to be sampled" if standing.to_sample else ""
    coinciding = sum(point.coinciding for point in standing.points)
    same = f" ({coinciding} coinciding combinations left out)" if coinciding else ""
    failed = standing.trials_failed
    complete = trials - standing.trials_left - failed
    return (
        f"{len(standing.points)} points{sampled}{same}, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'} each: {trials} trials, "
        f"{complete} complete,{f' {failed} failed,' if failed else ''} "
        f"{standing.trials_left} to run"
    )


# -- live progress -------------------------------------------------------------------------------


class Reporter(Protocol):
    """Shows a study's progress while it runs; a context manager."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *exception: object) -> None:
        """Stop showing."""

    def notice(self, notice: Notice) -> None:
        """A trial has begun or ended."""

    def report(self, progress: "Progress") -> None:
        """A stage has done a unit of its work."""


def reporter(console: Console) -> Reporter:
    """Bars on a terminal, plain lines elsewhere."""
    return BarReporter(console) if console.is_terminal else LineReporter(console)


def _ended(notice: Notice) -> str:
    if isinstance(notice.outcome, Failure):
        return f"failed: {notice.outcome.reason}"
    metrics = notice.outcome.metrics if notice.outcome else {}
    return "complete" + "".join(f", {text}" for text in _accuracies(metrics))


def _accuracies(metrics: Mapping[str, float]) -> list[str]:
    return [
        f"{name.replace('_', ' ')} {value:.2f} %"
        for name, value in metrics.items()
        if name.endswith("accuracy")
    ]


def _figures(metrics: Mapping[str, float]) -> str:
    """Accuracies in percent, anything else as a plain number."""
    others = [
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in metrics.items()
        if not name.endswith("accuracy")
    ]
    return ", ".join(_accuracies(metrics) or others[:1])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _about(left: str) -> str:
    return f"about {left} left" if left else ""


@dataclass(frozen=True)
class Pace:
    """How fast units are done, measured from a beginning.

    Attributes:
        begun: When it was, in seconds.
        done: Units done by then, in an earlier run perhaps.
    """

    begun: float
    done: int = 0

    def left(self, now: float, done: int, total: int) -> str:
        """The time that the rest takes at this pace; empty where that is unknown or nothing."""
        if done <= self.done or done >= total:
            return ""
        return _clock((now - self.begun) / (done - self.done) * (total - done))


@dataclass
class LineReporter:
    """Plain lines: one as a trial begins and ends, and now and then one of its phase.

    Attributes:
        console: Where they are printed.
        clock: Seconds since some fixed time.
    """

    console: Console
    clock: Callable[[], float] = time.monotonic
    _head: str = ""
    _last_line: float = 0.0
    _trial_begun: float = 0.0
    _trials: Pace = field(default_factory=lambda: Pace(0.0))
    _phase: str = ""
    _units: Pace = field(default_factory=lambda: Pace(0.0))

    def __enter__(self) -> Self:
        self._trials = Pace(self.clock())
        return self

    def __exit__(self, *exception: object) -> None:
        """Lines need no end."""

    def notice(self, notice: Notice) -> None:
        """A trial has begun or ended."""
        self._head, self._phase = f"[{notice.position}/{notice.total}]", ""
        now = self.clock()
        if notice.outcome is None:
            self._trial_begun = now
            self._line(f"{notice.point}, seed {notice.seed}")
            return
        left = self._trials.left(now, notice.position, notice.total)
        after = f"; {_about(left)}" if left else ""
        self._line(f"{_ended(notice)} ({_clock(now - self._trial_begun)}{after})")

    def report(self, progress: "Progress") -> None:
        """A stage has done a unit of its work."""
        now = self.clock()
        if progress.phase != self._phase:
            self._phase, self._units = progress.phase, Pace(now, progress.done)
        if now - self._last_line < LINE_INTERVAL and progress.done < progress.total:
            return
        left = self._units.left(now, progress.done, progress.total)
        if progress.note:
            self._line(f"{progress.phase} {progress.note}")
            return
        text = f"{progress.phase} {progress.done}/{progress.total}"
        figures = _figures(progress.metrics)
        after = f", {_about(left)} in this phase" if left else ""
        self._line(f"{text}{', ' if figures else ''}{figures}{after}")

    def _line(self, text: str) -> None:
        self._last_line = self.clock()
        self.console.print(f"{self._head} {text}", markup=False, soft_wrap=True)


class BarReporter:
    """Two bars on a terminal: the trials of this call, and the phase of the present one.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._trials = Pace(0.0)
        self._phases: dict[str, tuple[TaskID, Pace]] = {}

    def __enter__(self) -> Self:
        self._trials = Pace(time.monotonic())
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def notice(self, notice: Notice) -> None:
        """A trial has begun or ended."""
        if self._task is None:
            self._task = self._bars.add_task("trials", total=notice.total, left="", figures="")
        trial = f"{notice.point}, seed {notice.seed}"
        if notice.outcome is None:
            self._bars.update(self._task, figures=escape(trial))
            return
        self._remove_phases()
        left = self._trials.left(time.monotonic(), notice.position, notice.total)
        self._bars.update(self._task, completed=notice.position, left=_about(left))
        head = f"[{notice.position}/{notice.total}] {trial}"
        self._bars.console.print(f"{head}: {_ended(notice)}", markup=False)

    def report(self, progress: "Progress") -> None:
        """A stage has done a unit of its work."""
        now = time.monotonic()
        if progress.phase not in self._phases:
            self._remove_phases()
            task = self._bars.add_task(f"  {progress.phase}", total=None, left="", figures="")
            self._phases = {progress.phase: (task, Pace(now, progress.done))}
        task, units = self._phases[progress.phase]
        self._bars.update(
            task,
            total=progress.total,
            completed=progress.done,
            left=_about(units.left(now, progress.done, progress.total)),
            figures=progress.note or _figures(progress.metrics),
        )

    def _remove_phases(self) -> None:
        for task, _ in self._phases.values():
            self._bars.remove_task(task)
        self._phases.clear()
