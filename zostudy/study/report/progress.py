"""What a user sees while trials run, on stderr: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
)
from rich.progress import Progress as Bars

from zostudy.study.points import Ended, Failure, Notice

if TYPE_CHECKING:
    from zostudy.stage import Progress  # it imports torch, which printing results does without

#: Seconds between two lines of the same phase where there is no terminal.
LINE_INTERVAL = 10.0


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

    def say(self, text: str) -> None:
        """Print a line that belongs to no trial."""

    def beside(self) -> "Reporter":
        """One more, that shows on the same console what another worker does."""


def reporter(console: Console) -> Reporter:
    """Bars on a terminal, plain lines elsewhere."""
    return BarReporter(console) if console.is_terminal else LineReporter(console)


def _ended(notice: Notice) -> str:
    if isinstance(notice.outcome, Ended):
        return f"{notice.outcome.state}: {notice.outcome.reason}"
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
        left = self._trials.left(now, notice.done, notice.total)
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

    def say(self, text: str) -> None:
        """Print a line that belongs to no trial."""
        self.console.print(text, markup=False, soft_wrap=True)

    def beside(self) -> "LineReporter":
        """One more, for another worker; a line says which trial it belongs to."""
        return LineReporter(self.console, self.clock, _trials=self._trials)

    def _line(self, text: str) -> None:
        self._last_line = self.clock()
        self.console.print(f"{self._head} {text}", markup=False, soft_wrap=True)


@dataclass
class _Total:
    """The bar of all trials, which the workers share.

    Attributes:
        task: The bar, once a trial has begun.
        pace: How fast trials end.
    """

    task: TaskID | None = None
    pace: Pace = field(default_factory=lambda: Pace(0.0))


class BarReporter:
    """Bars on a terminal: the trials of this call, and the phase of each that runs.

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
        self._all = _Total()
        self._phases: dict[str, tuple[TaskID, Pace]] = {}

    def __enter__(self) -> Self:
        self._all.pace = Pace(time.monotonic())
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def notice(self, notice: Notice) -> None:
        """A trial has begun or ended."""
        if self._all.task is None:
            self._all.task = self._bars.add_task("trials", total=None, left="", figures="")
        trial = f"{notice.point}, seed {notice.seed}"
        if notice.outcome is None:
            self._bars.update(self._all.task, total=notice.total, figures=escape(trial))
            return
        self._remove_phases()
        left = self._all.pace.left(time.monotonic(), notice.done, notice.total)
        self._bars.update(
            self._all.task, total=notice.total, completed=notice.done, left=_about(left)
        )
        head = f"[{notice.position}/{notice.total}] {trial}"
        self._bars.console.print(f"{head}: {_ended(notice)}", markup=False)

    def say(self, text: str) -> None:
        """Print a line that belongs to no trial, above the bars."""
        self._bars.console.print(text, markup=False, soft_wrap=True)

    def beside(self) -> "BarReporter":
        """One more, for another worker, with a bar of its own for the phase."""
        other = BarReporter(self._bars.console)
        other._bars, other._all = self._bars, self._all
        return other

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
