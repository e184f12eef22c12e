"""The sweep: which units of a study are run next, and what came of them.

Any number of workers, in this process or in others, may run a study at once; they meet in its
Optuna storage and nowhere else (:mod:`zostudy.study.sweep.work_units` says how they
agree). A worker goes on until nothing waits and nothing runs, so that what another one loses is
taken up.

Optuna's own grid sampler is not used: it never returns to a point that raised. Without objectives
every complete unit has the value 0, which means nothing.
"""

import functools
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from zostudy.config.loading import StudyFile
from zostudy.errors import ConfigError, CrashError, LostError, ZostudyError
from zostudy.metrics import METRICS
from zostudy.redaction import redacted
from zostudy.study import points
from zostudy.study.points import (
    Attempt,
    Ended,
    Failure,
    Notice,
    Outcome,
    Point,
    Standing,
    TrialOutcome,
)
from zostudy.study.sweep import beginning, budget, grid, made_of, objectives, work_units
from zostudy.study.sweep.crashes import hopeless
from zostudy.study.sweep.optuna_storage import created
from zostudy.study.sweep.queue import Queue, TakenAwayError
from zostudy.study.sweep.work_units import Unit

if TYPE_CHECKING:
    from zostudy.stage import Progress  # it imports torch, which reading a study does without

_log = logging.getLogger(__name__)

Execute = Callable[..., TrialOutcome | Ended]
Notify = Callable[[Notice], None]

#: Seconds between two looks at the storage while others run what is left; more, as a share of the
#: time for which there was nothing to do, so that many who wait do not keep the storage busy.
_LOOK, _SHARE = 0.5, 0.05

#: Units that wait at most, ahead of workers; more where more of them run.
_AHEAD = 16


@dataclass(frozen=True)
class SweepSummary:
    """What one call of :func:`run` did.

    Attributes:
        executed: Trials that were run, failed ones included.
        failures: Why trials failed, a line for each.
        hopeless: Why the rest was not run, where the study can only fail; empty otherwise.
        over: Why the rest was not run, where the time of the study was over; empty otherwise.
    """

    executed: int
    failures: tuple[str, ...]
    hopeless: str = ""
    over: str = ""


@dataclass
class Tally:
    """What the workers of one call have done so far, counted together.

    Attributes:
        total: Trials of this call, as far as is known.
        begun: Trials begun.
        done: Trials that have ended.
        failures: Reasons of those that failed.
        hopeless: Why the rest is not run, where the study can only fail.
        over: Why the rest is not run, where the time of the study is over.
    """

    total: int = 0
    begun: int = 0
    done: int = 0
    failures: list[str] = field(default_factory=list)
    hopeless: str = ""
    over: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> int:
        """Count a trial that begins; its place among those of this call, from 1."""
        with self._lock:
            self.begun += 1
            self.total = max(self.total, self.begun)
            return self.begun

    def end(self) -> int:
        """Count a trial that has ended; how many have."""
        with self._lock:
            self.done += 1
            return self.done

    def fail(self, line: str) -> None:
        """Keep the reason of a trial that failed."""
        with self._lock:
            self.failures.append(line)

    def summary(self) -> SweepSummary:
        """What was done."""
        return SweepSummary(self.begun, tuple(self.failures), self.hopeless, self.over)


def prepare(file: StudyFile, *, again: bool = False) -> None:
    """Make the study in its storage and add its units, what was lost too often among them.

    Args:
        file: The study file.
        again: Whether also what failed by what it computes is to be tried again.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
    """
    with created(file) as found:
        queue = Queue(file, found, grid.of_study(file))
        known = queue.read()
        if queue.end_lost(known):
            known = queue.read()
        work_units.standing(file, queue.known, known)
        beginning.check_others(queue, known)
        for name, ingredients in made_of.adoptions(queue.today, queue.known, known):
            found.study.set_user_attr(name, dict(ingredients))
        while again_due := list(work_units.revived(file, queue.known, known, own=again)):
            queue.add(again_due)
            known = queue.read()
        queue.look()
        queue.add_due(_AHEAD)


def run(
    file: StudyFile,
    execute: Execute,
    notify: Notify,
    tally: Tally | None = None,
    stop: threading.Event | None = None,
) -> SweepSummary:
    """Run what is missing of a study, beside whoever else does.

    Args:
        file: The study file.
        execute: Runs one trial, given its point, its seed and its number, and ``judge`` where
            poor trials are stopped: to be asked after each epoch for a reason to stop.
        notify: Called when a trial begins and when it ends.
        tally: Counts together with other workers of this process.
        stop: Ends the run when it is set, as an interrupt does; for a worker in a thread.

    Returns:
        What was done. An exception in a trial fails that trial only.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
        KeyboardInterrupt: The user stopped it; the next call continues.
    """
    with created(file) as found:
        queue = Queue(file, found, grid.of_study(file))
        worker = _Worker(file, queue, execute, notify, tally or Tally(), stop or threading.Event())
        with budget.kept(file.config.sweep.budget, found, worker.tally, worker.stop):
            worker.run()
        return worker.tally.summary()


@dataclass
class _Worker:
    """One worker: claims units, one after the other, until there are no more."""

    file: StudyFile
    queue: Queue
    execute: Execute
    notify: Notify
    tally: Tally
    stop: threading.Event

    def run(self) -> None:
        if not self.tally.total:
            self.tally.total = work_units.standing(
                self.file, self.queue.known, self.queue.read()
            ).trials_left
        longest = max(_LOOK, self.file.config.sweep.heartbeat_interval / 4)
        idle = time.monotonic()
        while not self.stop.is_set():
            unit, others = self._patiently(self._next)
            if unit is not None:
                self._run_claimed(unit)
                idle = time.monotonic()
            elif others:
                self.stop.wait(min(max(_LOOK, _SHARE * (time.monotonic() - idle)), longest))
            else:
                return
        raise KeyboardInterrupt

    def _next(self) -> tuple[Unit | None, bool]:
        """A unit that is this worker's now; else, whether others have units to run."""
        queue = self.queue
        if queue.end_lost(queue.look()):
            queue.look()
        running = sum(unit.state == "running" for unit in queue.seen)
        known = queue.add_due(max(_AHEAD, 2 * running))
        self.tally.hopeless = hopeless(self._standing(known), self.file.config.sweep)
        if self.tally.hopeless:
            return None, False
        mine = [u for u in known if u.live and (u.key in queue.known or self._may_draw(u))]
        waiting = [unit for unit in mine if unit.state == "waiting"]
        waiting = budget.whose_turn_it_is(self.file.config.sweep, waiting)
        waiting.sort(key=lambda unit: (not unit.key, unit.number))
        # Others want the first ones too, so each begins at a place of its own; draws have an order.
        among = 1 if self.file.config.sweep.sampler.samples else running + 1
        while waiting:
            unit = waiting.pop(random.randrange(min(among, len(waiting))))
            if queue.claim(unit):
                return unit, True
            among = running + 1
        return None, bool(mine)

    def _standing(self, units: Sequence[Unit]) -> Standing:
        """Where the points of some units stand, whose order is that of their trials."""
        known = self.queue.known
        if not self.file.config.sweep.sampler.samples:
            known = {unit.key: known[unit.key] for unit in units if unit.key in known}
        return work_units.standing(self.file, known, units)

    def _attempt(self, unit: Unit, point: Point) -> Attempt:
        """What is known of the point of a unit that was claimed; nobody else works on it now."""
        if not unit.key:  # proposed since then
            self.queue.look()
        history = [
            replace(one, state="running") if one.number == unit.number else one
            for one in work_units.counting(self.queue.seen)
            if one.key == point.key
        ]
        sweep = self.file.config.sweep
        attempt = work_units.attempt_at(point, history, sweep.seeds, sweep.retries)
        if attempt is None:
            raise TakenAwayError  # it does not count any more
        return attempt

    def _may_draw(self, unit: Unit) -> bool:
        return not unit.key and unit.draw is not None and unit.draw < self.file.config.sweep.trials

    def _patiently(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the call returns
        """Call again while the storage cannot be reached, for as long as a unit may be silent."""
        until = time.monotonic() + 2 * self.file.config.sweep.heartbeat_interval
        while True:
            try:
                return call()
            except (OperationalError, StorageInternalError) as error:
                away = any(isinstance(e, OperationalError) for e in (error, error.__cause__))
                if not away or time.monotonic() > until or self.stop.wait(_LOOK):
                    raise
                _log.warning("the storage cannot be reached; trying again")

    def _run_claimed(self, unit: Unit) -> None:
        try:
            with self.queue.alive(unit):
                point = self._patiently(lambda: self._point(unit))
                if point is not None:
                    self._run_point(unit, point)
        except TakenAwayError:
            _log.warning("unit %d was taken up by another worker meanwhile", unit.number)
        except KeyboardInterrupt:
            self._give_back(unit)
            raise

    def _give_back(self, unit: Unit) -> None:
        try:
            self.queue.end(unit, entries={"given_back": True})
        except (TakenAwayError, OperationalError, StorageInternalError):
            _log.info("unit %d could not be given back", unit.number)

    def _point(self, unit: Unit) -> Point | None:
        """The point of a unit, proposed by the sampler if it has none; nothing if it is wrong."""
        if unit.key:
            return self.queue.known[unit.key]
        values = self.queue.propose(unit)
        try:
            point = points.point(self.file, values)
        except ConfigError as error:
            self.queue.end(unit, entries={"reason": _one_line(error)})
            self.tally.fail(f"point {unit.number}: {_one_line(error)}")
            return None
        self.queue.known[point.key] = point
        self.queue.note(unit, {"values": json.dumps(values), "point": point.key})
        return point

    def _run_point(self, unit: Unit, point: Point) -> None:
        attempt = self._patiently(lambda: self._attempt(unit, point))
        outcomes: dict[int, Outcome] = {}
        for seed in unit.seeds:
            known = attempt.outcomes.get(seed)
            if known is None or (isinstance(known, Failure) and unit.record.get("again")):
                known = self._run_trial(unit, point, seed, attempt.numbers[seed])
            if known is None:  # lost, and due again
                self._patiently(lambda: self.queue.end(unit))
                return
            outcomes[seed] = known
            if seed != unit.seeds[-1]:
                noted = _noted(seed, known)
                self._patiently(functools.partial(self.queue.note, unit, noted))
        self._end(unit, outcomes)

    def _end(self, unit: Unit, outcomes: dict[int, Outcome]) -> None:
        entries = _noted(unit.seeds[-1], outcomes[unit.seeds[-1]])
        failed = [o.reason for o in outcomes.values() if isinstance(o, Failure)]
        reasons = failed + [o.reason for o in outcomes.values() if isinstance(o, Ended)]
        complete = [o for o in outcomes.values() if isinstance(o, TrialOutcome)]
        values = None if reasons else objectives.values(self.file.config, complete)
        if reasons:
            entries["reason"] = reasons[0]
        excesses = objectives.excesses(self.file.config, list(outcomes.values()))
        self._patiently(lambda: self.queue.constrain(unit, excesses))
        self._patiently(lambda: self.queue.end(unit, values, entries, by_rule=not failed))

    def _run_trial(self, unit: Unit, point: Point, seed: int, number: int) -> Outcome | None:
        """Run a trial; nothing if it was lost with its process and is tried again."""
        point = replace(point, made_of=dict(self.file.made_of(point.config)))
        notice = Notice(self.tally.begin(), self.tally.total, point, seed)
        self.notify(notice)
        outcome = self._outcome(unit, point, seed, number)
        lost = isinstance(outcome, Failure) and outcome.passing
        again = lost and unit.record.get("losses", 0) < self.file.config.sweep.retries
        if isinstance(outcome, Failure) and again:
            outcome = replace(outcome, reason=f"{outcome.reason}; it is tried again")
        elif isinstance(outcome, Failure):
            self.tally.fail(f"trial {number} ({point}, seed {seed}): {outcome.reason}")
        self.notify(replace(notice, outcome=outcome, done=self.tally.end()))
        return None if again else outcome

    def _judge(self, unit: Unit, progress: "Progress") -> str:
        """A reason to stop a trial for what it has just reported; empty if it is to go on."""
        judged = METRICS["validation_accuracy"]
        accuracy = progress.metrics.get(judged.name)
        if progress.phase != judged.source or accuracy is None:
            return ""
        poor = self._patiently(lambda: self.queue.is_poor(unit, progress.done, accuracy))
        if not poor or progress.done == progress.total:
            return ""
        return (
            f"sweep.early_stopping ({self.file.config.sweep.early_stopping.name}): validation "
            f"accuracy {accuracy:.2f} % after {progress.done} of {progress.total} epochs"
        )

    def _outcome(self, unit: Unit, point: Point, seed: int, number: int) -> Outcome:
        stopping = self.file.config.sweep.early_stopping.name != "none"
        judged = stopping and not point.baseline  # of random genotypes the mean over all is wanted
        judging = {"judge": functools.partial(self._judge, unit)} if judged else {}
        try:
            outcome = self.execute(point, seed, number, **judging)
            if isinstance(outcome, TrialOutcome):
                objectives.check(self.file.config, outcome)
        except ZostudyError as error:
            crash, phase = (error.crash, error.phase) if isinstance(error, CrashError) else ("", "")
            return Failure(_one_line(error), isinstance(error, LostError), crash, phase)
        except Exception as error:  # noqa: BLE001  # whatever fails a trial, the study goes on
            _log.warning("trial %d failed unexpectedly", number, exc_info=error)
            return Failure(f"{type(error).__name__}: {_one_line(error)}")
        return outcome


def _noted(seed: int, outcome: Outcome) -> dict[str, str]:
    """The outcome of a seed as the record of its unit has it."""
    return {f"seed:{seed}": points.to_json(outcome)}


def _one_line(error: Exception) -> str:
    return redacted("; ".join(str(error).split("\n"))) or type(error).__name__
