"""When the time of a study is over, and what is left out then.

Every worker sees for itself when it is: by its clock, or by the hours that Optuna has of all
trials. What it runs then is stopped at its last checkpoint and given back, as by an interrupt.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from zostudy.config.limits import BudgetSettings
from zostudy.config.loading import StudyFile
from zostudy.config.sizes import counted
from zostudy.config.sweep import SweepSettings
from zostudy.errors import ConfigError
from zostudy.study.points import Standing
from zostudy.study.sweep.optuna_storage import Stored
from zostudy.study.sweep.rows import BusyTime
from zostudy.study.sweep.work_units import Unit

#: Seconds between two looks at how much time is left, at most and at least.
_RARELY, _OFTEN = 10.0, 0.2

#: Seeds of which each is told how many points lack it.
_TOLD = 5

_AGAIN = "the same command with more time goes on"


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(frozen=True)
class Budget:
    """The time of a study.

    Attributes:
        settings: What it is.
        now: The clock.
    """

    settings: BudgetSettings
    now: Callable[[], datetime] = _now

    def left(self, busy: BusyTime) -> float:
        """Seconds until it is over at the earliest; 0 or less once it is.

        Args:
            busy: How long workers were busy with the study.
        """
        now, left = self.now(), []
        if self.settings.end is not None:
            left.append((self.settings.end - now).total_seconds())
        if self.settings.gpu_hours is not None:
            seconds, running = busy.until(now)
            left.append((3600 * self.settings.gpu_hours - seconds) / max(running, 1))
        return min(left)

    @property
    def told(self) -> str:
        """Why no more is run once it is over."""
        hours, until = self.settings.gpu_hours, self.settings.until
        of_hours = "" if hours is None else f"{hours:g} GPU-hours"
        parts = filter(None, (of_hours, until and f"until {until}"))
        return f"the time of sweep.budget is over ({', '.join(parts)})"


def check(file: StudyFile, now: Callable[[], datetime] = _now) -> None:
    """Whether a study that is to be run has time left.

    Raises:
        ConfigError: It was to end in the past.
    """
    settings = file.config.sweep.budget
    if settings is not None and settings.end is not None and settings.end <= now():
        raise ConfigError(
            f"sweep.budget.until: {settings.until!r} is past, it is {now():%Y-%m-%dT%H:%M}; "
            "needs a time to come"
        )


def turn(sweep: SweepSettings, seeds: Sequence[int]) -> int:
    """When some seeds of a grid come: all points with the first before any with the second.

    Args:
        sweep: The sweep; without a budget nothing has to wait.
        seeds: Of a unit.

    Returns:
        Those of a lower number come first.
    """
    if sweep.budget is None or sweep.sampler.samples:
        return 0
    return min((sweep.seeds.index(s) for s in seeds if s in sweep.seeds), default=len(sweep.seeds))


def whose_turn_it_is(sweep: SweepSettings, units: Sequence[Unit]) -> list[Unit]:
    """Those of the units that come first."""
    turns = [turn(sweep, unit.seeds) for unit in units]
    return [u for u, own in zip(units, turns, strict=True) if own == min(turns)]


class Told(Protocol):
    """Where it is told that the time is over.

    Attributes:
        over: Why no more is run; empty while there is time.
    """

    over: str


@contextlib.contextmanager
def kept(
    settings: BudgetSettings | None,
    stored: Stored,
    tally: Told,
    stop: threading.Event,
    now: Callable[[], datetime] = _now,
) -> Iterator[None]:
    """Run trials in the body until the time is over, which ends the body and is no error.

    Args:
        settings: The time; nothing for as much as it takes.
        stored: The study in its storage.
        tally: Where it is told, by this worker or another of its process.
        stop: Set once the time is over; ends the body as an interrupt does.
        now: The clock.
    """
    if settings is None:
        yield
        return
    budget, done = Budget(settings, now), threading.Event()
    busy = BusyTime(stored.storage, stored.number)

    def left() -> float:
        seconds = budget.left(busy)
        if seconds <= 0:
            tally.over = budget.told
            stop.set()
        return seconds

    def watch() -> None:
        wait = 0.0
        while not done.wait(wait) and not stop.is_set():
            wait = _RARELY
            with contextlib.suppress(SQLAlchemyError, StorageInternalError):  # away for a while
                wait = min(max(left(), _OFTEN), _RARELY)

    left()
    thread = threading.Thread(target=watch, name="budget", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if not tally.over:
            raise
    finally:
        done.set()
        thread.join()


def left_out(standing: Standing) -> str:
    """What is left out of a study whose time is over, in one sentence; empty where nothing is."""
    left = standing.trials_left
    if not left:
        return ""
    lacking = dict.fromkeys(standing.seeds, 0)
    for point in standing.points:
        for seed in standing.left(point):
            lacking[seed] += 1
    points = dict.fromkeys(standing.seeds, 0)
    for point in standing.points:
        for seed in point.seeds_among(standing.seeds):
            points[seed] += 1
    whole = [seed for seed, count in lacking.items() if not count]
    parts = [
        f"seed {seed} lacks {count} of {counted(points[seed], 'point')}"
        for seed, count in lacking.items()
        if count
    ]
    if len(parts) > _TOLD:
        parts[_TOLD:] = [f"and {counted(len(parts) - _TOLD, 'seed')} more"]
    if whole and standing.points:
        names = ", ".join(map(str, whole[:_TOLD])) + (", …" if len(whole) > _TOLD else "")
        parts.insert(0, f"every point has seed{'s' * (len(whole) > 1)} {names}")
    if standing.to_sample:
        parts.append(f"{counted(standing.to_sample, 'point')} not sampled")
    return f"left out: {counted(left, 'trial')} ({'; '.join(parts)})"


def ending(why: str, standing: Standing) -> str:
    """What is said when a study ends because its time is over."""
    return "; ".join(filter(None, (f"stopped: {why}", left_out(standing), _AGAIN)))
