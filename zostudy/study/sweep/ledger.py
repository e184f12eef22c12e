"""What a worker knows of a grid's units: read once, and then only what is new.

A point is *settled* once each of its seeds has an outcome and none of its units waits or runs. Its
units are then left out of what is looked at, so that a look takes as long in a large study as in a
small one. All is looked at anew where what was settled is no more: where a unit of a settled point
is added, the study's own record changes, or another machine counts than was thought. Nothing is
settled before a trial is complete, so that all of a study that only fails is seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zostudy.config.loading import StudyFile
from zostudy.study.points import Point
from zostudy.study.sweep import made_of, work_units
from zostudy.study.sweep.work_units import Record, State, Unit

Held = tuple[int, State, Record]


@dataclass
class Ledger:
    """The units of a grid that are not settled.

    Attributes:
        today: What the points are made of today.
        known: The points of the grid, in their order.
        left: Those that are not settled.
    """

    today: made_of.Today
    known: Mapping[str, Point]
    left: dict[str, Point] = field(default_factory=dict)
    _reader: work_units.Reader | None = None
    _noted: Mapping[str, Any] = field(default_factory=dict)
    _machines: made_of.Machines = field(default_factory=dict)
    _units: dict[int, Unit] = field(default_factory=dict)
    _apart: set[int] = field(default_factory=set)

    @property
    def file(self) -> StudyFile:
        """The study file."""
        return self.today.file

    def look(self, held: Sequence[Held], noted: Mapping[str, Any]) -> list[Unit]:
        """The units that are not settled, as they are now, and the latest complete one.

        Args:
            held: Optuna's trials, all of them, by their numbers.
            noted: The study's own record.
        """
        if self._reader is None or noted != self._noted or not self._read(self._reader, held):
            return self._anew(held, noted)
        found = self._sorted_out()
        if not {unit.number for unit in found if unit.apart} <= self._apart:
            return self._anew(held, noted)
        self._settle(found)
        return found

    def _anew(self, held: Sequence[Held], noted: Mapping[str, Any]) -> list[Unit]:
        self._reader = work_units.Reader(self.file)
        self._noted = dict(noted)
        self._machines = noted.get(made_of.RENEWED, {})
        self._units, self.left = {}, dict(self.known)
        self._read(self._reader, held)
        found = self._sorted_out()
        self._apart = {unit.number for unit in found if unit.apart}
        self._settle(found)
        return found

    def _read(self, reader: work_units.Reader, held: Sequence[Held]) -> bool:
        """Read what is new; whether none of it is of a settled point."""
        for number, unit in self._units.items():
            if unit.live:
                self._units[number] = reader.again(unit, *held[number][1:])
        for number, state, record in held[reader.count :]:
            unit = reader.read(number, state, record)
            if unit.key in self.known and unit.key not in self.left:
                return False
            self._units[number] = unit
        return True

    def _sorted_out(self) -> list[Unit]:
        noted = {**self._noted, made_of.RENEWED: self._machines}
        found = made_of.sorted_out(self.today, self.known, list(self._units.values()), noted)
        self._machines = found.machines
        return found.units

    def _settle(self, found: Sequence[Unit]) -> None:
        """Leave out what has come to its end."""
        latest = max((u.number for u in found if _complete(u)), default=None)
        if latest is None:
            return
        units = work_units.by_point(found)
        counted = work_units.by_point(work_units.counting(found))
        for key in units:
            if self._settled(key, units[key], counted.get(key, [])):
                self.left.pop(key, None)
                for unit in units[key]:
                    if unit.number != latest:
                        del self._units[unit.number]

    def _settled(self, key: str, units: Sequence[Unit], counted: Sequence[Unit]) -> bool:
        if any(unit.live for unit in units):
            return False
        sweep = self.file.config.sweep
        return key not in self.left or all(
            work_units.course([u for u in counted if seed in u.seeds], seed, sweep.retries).outcome
            for seed in self.left[key].seeds_among(sweep.seeds)
        )


def _complete(unit: Unit) -> bool:
    return not unit.apart and made_of.completed(unit)
