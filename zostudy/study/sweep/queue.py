"""The units of a study in Optuna's storage: added, claimed, kept alive, ended, and found lost.

A worker says that a unit is alive by Optuna's heartbeats, on the clock of the database. Those of a
worker that was on this machine and is gone need no waiting.
"""

import contextlib
import functools
import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from zostudy.config.loading import StudyFile, digest
from zostudy.study import points
from zostudy.study.points import Point
from zostudy.study.sweep import budget, made_of, proposals, rows, work_units
from zostudy.study.sweep.ledger import Ledger
from zostudy.study.sweep.optuna_storage import Stored
from zostudy.study.sweep.work_units import Record, State, Unit

_log = logging.getLogger(__name__)

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "failed",
}


class TakenAwayError(Exception):
    """A unit is not this worker's any more: another found it lost, and took it up."""


def _held(
    found: Sequence[tuple[int, TrialState, Record]],
) -> list[tuple[int, State, Record]]:
    """Optuna's trials as :func:`zostudy.study.sweep.work_units.read` takes them."""
    return [(number, _STATES[state], noted) for number, state, noted in found]


@dataclass
class Queue:
    """The units of a study.

    Attributes:
        file: The study file.
        stored: The study in its storage.
        known: The points that are known, by their keys.
        seen: The units of the last look.
    """

    file: StudyFile
    stored: Stored
    known: dict[str, Point]
    seen: list[Unit] = field(default_factory=list)
    _machines: made_of.Machines = field(default_factory=dict)
    _greeted: set[int] = field(default_factory=set)

    @functools.cached_property
    def today(self) -> made_of.Today:
        """What the points are made of today."""
        return made_of.Today(self.file)

    @functools.cached_property
    def _rows(self) -> rows.Rows:
        return rows.Rows(self.stored.storage, self.stored.number)

    def sorted_out(self) -> made_of.Sorted:
        """All units, as they are now, those that count told from those that do not."""
        known = work_units.read(self.file, _held(self._rows.all()))
        self._ledger.forget()
        return made_of.sorted_out(self.today, self.known, known, self._rows.noted)

    def read(self) -> list[Unit]:
        """All units, as they are now; those that do not count say why."""
        return self.sorted_out().units

    @functools.cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self.today, self.known)

    def look(self) -> list[Unit]:
        """The units that still matter, as they are now: all, or in a grid what is not settled."""
        if self.file.config.sweep.sampler.samples:
            found = self.sorted_out()
            self.seen, self._machines = found.units, found.machines
        else:
            self.seen, self._machines = self._looked_at(), self._ledger.machines
        return self.seen

    def _looked_at(self) -> list[Unit]:
        ledger, found = self._ledger, None
        if ledger.begun:
            found = ledger.look(_held(self._rows.changed()), self._rows.noted)
        if found is None:
            ledger.forget()  # reading all may fail, and is then begun again
            found = ledger.anew(_held(self._rows.all()), self._rows.noted)
        return found

    def add_due(self, ahead: int) -> list[Unit]:
        """Add units that are missing by the last look, but not more than are to wait for workers.

        Args:
            ahead: How many units are to wait. None are added while more than half as many do.

        Returns:
            The units that still matter and count.

        Raises:
            ConfigError: The trials that count are of another machine, by the last look.
        """
        sweep = self.file.config.sweep
        while True:
            units = work_units.counting(self.seen)
            left = None if sweep.sampler.samples else self._ledger.left
            due = work_units.due(self.file, self.known, self.seen, left)
            turns = [budget.turn(sweep, u.seeds) for u in units if u.state == "waiting"]
            if any(turns):  # what waits may have to wait for what is due
                first = next(due, None)
                if first is not None:
                    due = itertools.chain([first], due)
                    before = budget.turn(sweep, first["seeds"])
                    turns = [turn for turn in turns if turn <= before]
            if len(turns) > ahead // 2:
                return units
            added = list(itertools.islice(due, ahead - len(turns)))
            if not added:
                return units
            for record in added:
                self._check_machine(record.get("point", ""))
            self.add(added)
            self.look()

    def add(self, records: Sequence[Record]) -> bool:
        """Add units that wait, each with its point, if it is known, as Optuna's parameters.

        Returns:
            Whether they were added; not where another process has added units since the last look.
        """
        trials = [self._waiting(record) for record in records]
        return rows.add(self.stored.storage, self.stored.number, trials, self._rows.count)

    def _waiting(self, record: Record) -> optuna.trial.FrozenTrial:
        ingredients = self.today.of(self.known.get(record.get("point", "")))
        record = {**record, "made_of": dict(ingredients)} if ingredients else record
        params: dict[str, Any] = {}
        distributions = {}
        if "values" in record:
            values = json.loads(record["values"])
            swept = proposals.distributions(self.file.config)
            distributions = {path: swept[path] for path in values if path in swept}
            params = {path: proposals.held_value(values[path]) for path in distributions}
        return optuna.create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions=distributions,
            user_attrs=dict(record),
        )

    def claim(self, unit: Unit) -> bool:
        """Make a waiting unit this worker's; false where another was faster.

        Raises:
            ConfigError: The trials that count are of another machine, by the last look.
        """
        self._check_machine(unit.key)
        return rows.claim(self.stored.storage, self.id(unit), {"worker": _this_process()})

    def _check_machine(self, key: str) -> None:
        """Whether a point would be run on the machine of the trials that count.

        Where several machines begin a study at once, that of the first complete trial counts.
        """
        point = self.known.get(key) or points.first(self.file)
        made_of.check_same_engine(self.today, self._machines, [point])

    def propose(self, unit: Unit) -> dict[str, Any]:
        """The values of a point for a draw, by the sampler.

        The sampler is made anew, its seed derived from what has been run to an end, so that a
        sweep that was interrupted proposes the same points as one that was not.
        """
        config = self.file.config
        known = self.read()
        # Made anew, because a study keeps the trials that a sampler has seen.
        study = proposals.StudyOfSome(config.study, self.stored.cache, _apart(known))
        trials = study.get_trials(deepcopy=False)
        ended = [t for t in trials if t.state == TrialState.COMPLETE or "reason" in t.user_attrs]
        study.sampler = proposals.sampler(config, len(ended), self._generations(known))
        return proposals.suggested(optuna.Trial(study, self.id(unit)), config)

    def _generations(self, known: Sequence[Unit]) -> str:
        """What tells a sampler's own records from those of trials that do not count."""
        counted = work_units.counting(known)
        unrecorded = any(u.key and "made_of" not in u.record for u in counted)
        return "" if unrecorded else digest(dict(self.today.of(None)))

    def note(self, unit: Unit, entries: Mapping[str, Any]) -> None:
        """Add to the record of a unit that runs.

        Raises:
            TakenAwayError: It is not this worker's any more.
        """
        for name, value in entries.items():
            try:
                self.stored.storage.set_trial_user_attr(self.id(unit), name, value)
            except UpdateFinishedTrialError as error:
                raise TakenAwayError from error

    def constrain(self, unit: Unit, excesses: Mapping[str, float]) -> None:
        """Tell Optuna by how much a unit is above each constraint, 0 or less where it is not."""
        if not excesses:
            return
        drawing_nothing = optuna.load_study(
            study_name=self.file.config.study,
            storage=self.stored.cache,
            sampler=optuna.samplers.RandomSampler(),
        )
        trial = optuna.Trial(drawing_nothing, self.id(unit))
        for name, excess in excesses.items():
            trial.set_constraint(name, excess)

    def is_poor(self, unit: Unit, epoch: int, accuracy: float) -> bool:
        """Keep the accuracy of a unit after an epoch; whether it is to go no further.

        Raises:
            TakenAwayError: It is not this worker's any more.
        """
        storage = self.stored.storage
        hidden = self._hidden()
        study = proposals.StudyOfSome(self.file.config.study, self.stored.cache, hidden)
        try:
            storage.set_trial_intermediate_value(self.id(unit), epoch, accuracy)
        except UpdateFinishedTrialError as error:
            raise TakenAwayError from error
        trial = storage.get_trial(self.id(unit))
        return proposals.pruner(self.file.config).prune(study, trial)

    def _hidden(self) -> frozenset[int]:
        """Optuna's numbers of the trials that are not compared with others."""
        if self.file.config.sweep.sampler.samples:
            return _apart(self.read())
        self.look()
        return frozenset(self._ledger.apart)

    def end(
        self,
        unit: Unit,
        values: Sequence[float] | None = None,
        entries: Mapping[str, Any] | None = None,
        *,
        by_rule: bool = False,
    ) -> None:
        """End a unit: with the values of its objectives, or without if it has none.

        Args:
            unit: The unit.
            values: The values.
            entries: What is added to its record.
            by_rule: Whether it has none because a rule of the study file ended it; else it failed.

        Raises:
            TakenAwayError: It is not this worker's any more.
        """
        without = TrialState.PRUNED if by_rule else TrialState.FAIL
        state = without if values is None else TrialState.COMPLETE
        if not rows.end(self.stored.storage, self.id(unit), state, values or (), entries):
            raise TakenAwayError

    def end_lost(self, known: Sequence[Unit]) -> bool:
        """Mark as failed the units whose worker is gone, and those that are superseded.

        Returns:
            Whether there were any.
        """
        running = [unit for unit in known if unit.state == "running"]
        for unit in running:
            if "worker" not in unit.record:
                self._greet(unit)
        gone = [unit for unit in running if _gone(unit.record.get("worker", ""))]
        late = [unit for unit in work_units.superseded(known) if unit.state == "waiting"]
        lost = {self.id(unit) for unit in (*late, *gone)} | self._silent(running)
        for trial in sorted(lost):
            rows.end(self.stored.storage, trial, TrialState.FAIL)  # unless another found it too
        return bool(lost)

    def alive_now(self, known: Sequence[Unit]) -> list[Unit]:
        """The units that run and whose worker is there, as far as can be told."""
        running = [unit for unit in known if unit.state == "running"]
        silent = self._silent(running)
        return [
            unit
            for unit in running
            if self.id(unit) not in silent and not _gone(unit.record.get("worker", ""))
        ]

    def _silent(self, running: Sequence[Unit]) -> set[int]:
        """The storage's own numbers of the trials whose worker is silent."""
        since = rows.silence(self.stored.storage, [self.id(unit) for unit in running])
        grace = self.stored.storage.grace_period or 0
        return {trial for trial, seconds in since.items() if seconds > grace}

    def _greet(self, unit: Unit) -> None:
        """Give a unit a heartbeat whose worker, of an older version, may not have given it one."""
        if unit.number not in self._greeted:
            self._greeted.add(unit.number)
            self.stored.storage.record_heartbeat(self.id(unit))

    @contextlib.contextmanager
    def alive(self, unit: Unit) -> Iterator[None]:
        """Say that a unit is alive, again and again from a thread, while it is worked on."""
        over = threading.Event()
        interval = self.file.config.sweep.heartbeat_interval / 2
        trial = self.id(unit)

        def beat() -> None:
            storage = self.stored.storage
            while not over.wait(interval):
                try:
                    storage.record_heartbeat(trial)
                except (SQLAlchemyError, StorageInternalError) as error:
                    _log.info("no heartbeat of unit %d: %s", unit.number, error)
            storage.remove_session()

        thread = threading.Thread(target=beat, name=f"heartbeat-{unit.number}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def id(self, unit: Unit) -> int:
        """The storage's own number of a unit's trial."""
        return self._rows.id(unit.number)


def _apart(known: Sequence[Unit]) -> frozenset[int]:
    """Optuna's numbers of the units that do not count."""
    return frozenset(unit.number for unit in known if unit.apart)


def _this_process() -> str:
    return f"{_machine()} {os.getpid()} {_begun(os.getpid())}"


def _machine() -> str:
    """This machine since it was started, and what of its processes can be seen from here."""
    name = socket.gethostname().replace(" ", "_")
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{name} {boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  # no path
    return f"{name} ? ?"


def _begun(process: int) -> str:
    """When a process began, in ticks since the machine was started; nothing if it has ended."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _gone(worker: str) -> bool:
    """Whether a worker was a process of this machine, and is no more."""
    machine, _, process = worker.rpartition(" ")[0].rpartition(" ")
    begun = worker.rpartition(" ")[2]
    known = machine == _machine() and not machine.endswith("? ?")
    return known and process.isdecimal() and _begun(int(process)) != begun
