"""What a worker knows of a grid's units: read once, and then only what is new.

A seed of a point is *settled* once it has an outcome and none of its units waits or runs. Its
units are then left out of what is looked at, so that a look takes as long in a large study as in a
small one. All is looked at anew where what was settled is no more: where a unit of a settled seed
is added, the study's own record changes, or another machine counts than was thought. Nothing is
settled before a trial is complete, so that all of a study that only fails is seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zostudy.config.loading import StudyFile
from zostudy.study.points import Point
from zostudy.study.sweep import grid, made_of, work_units
from zostudy.study.sweep.work_units import Record, State, Unit

Held = tuple[int, State, Record]


@dataclass
class Ledger:
    """The units of a grid that are not settled.

    Attributes:
        today: What the points are made of today.
        known: The points of the grid, in their order.
        left: What is not settled, by point's key and seed, in the order in which it is run.
        apart: Numbers of the units that do not count.
        machines: The machines that count.
    """

    today: made_of.Today
    known: Mapping[str, Point]
    left: dict[tuple[str, int], Point] = field(default_factory=dict)
    apart: set[int] = field(default_factory=set)
    machines: made_of.Machines = field(default_factory=dict)
    _reader: work_units.Reader | None = None
    _noted: Mapping[str, Any] = field(default_factory=dict)
    _units: dict[int, Unit] = field(default_factory=dict)

    @property
    def file(self) -> StudyFile:
        """The study file."""
        return self.today.file

    @property
    def begun(self) -> bool:
        """Whether anything is known."""
        return self._reader is not None

    def forget(self) -> None:
        """Know nothing any more."""
        self._reader = None

    def look(self, changed: Sequence[Held], noted: Mapping[str, Any]) -> list[Unit] | None:
        """The units that are not settled, as they are now, and the latest complete one.

        Args:
            changed: Optuna's trials that are new or have changed since the last look.
            noted: The study's own record.

        Returns:
            They; nothing where all is to be looked at anew.
        """
        if self._reader is None or noted != self._noted or not self._read(self._reader, changed):
            return None
        found = self._sorted_out()
        if not {unit.number for unit in found if unit.apart} <= self.apart:
            return None
        self._settle(found)
        return found

    def anew(self, held: Sequence[Held], noted: Mapping[str, Any]) -> list[Unit]:
        """The same, of all of Optuna's trials."""
        self._reader = work_units.Reader(self.file)
        self._noted = dict(noted)
        self.machines = noted.get(made_of.RENEWED, {})
        in_order = grid.in_order(self.file, self.known)
        self._units, self.left = {}, {(point.key, seed): point for point, seed in in_order}
        self._read(self._reader, held)
        found = self._sorted_out()
        self.apart = {unit.number for unit in found if unit.apart}
        self._settle(found)
        return found

    def _read(self, reader: work_units.Reader, changed: Sequence[Held]) -> bool:
        """Read what has changed; whether none of what is new is of something settled."""
        unsettled = True
        for number, state, record in changed:
            if number < reader.count:
                self._units[number] = reader.again(self._units[number], state, record)
                continue
            unit = reader.read(number, state, record)
            if unit.key in self.known and self._left_of(unit) != self._wanted(unit):
                unsettled = False
            self._units[number] = unit
        return unsettled

    def _wanted(self, unit: Unit) -> set[int]:
        """The seeds of a unit that its point has."""
        seeds = self.file.config.sweep.seeds
        return set(unit.seeds) & set(self.known[unit.key].seeds_among(seeds))

    def _left_of(self, unit: Unit) -> set[int]:
        """Those of them that are not settled."""
        return {seed for seed in unit.seeds if (unit.key, seed) in self.left}

    def _sorted_out(self) -> list[Unit]:
        noted = {**self._noted, made_of.RENEWED: self.machines}
        found = made_of.sorted_out(self.today, self.known, list(self._units.values()), noted)
        self.machines = found.machines
        return found.units

    def _settle(self, found: Sequence[Unit]) -> None:
        """Leave out what has come to its end."""
        latest = max((u.number for u in found if _complete(u)), default=None)
        if latest is None:
            return
        retries = self.file.config.sweep.retries
        counted = work_units.by_point(work_units.counting(found))
        for key, units in work_units.by_point(found).items():
            live = {seed for unit in units if unit.live for seed in unit.seeds}
            for seed in {seed for unit in units for seed in unit.seeds} - live:
                history = [unit for unit in counted.get(key, []) if seed in unit.seeds]
                if work_units.course(history, seed, retries).outcome is not None:
                    self.left.pop((key, seed), None)
            for unit in units:
                if not (
                    unit.number == latest or live.intersection(unit.seeds) or self._left_of(unit)
                ):
                    del self._units[unit.number]


def _complete(unit: Unit) -> bool:
    return not unit.apart and made_of.completed(unit)
