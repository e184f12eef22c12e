"""Which units of a study count: those that are made of what the study is made of today.

A unit's record holds its ingredients (:mod:`zostudy.study.ingredients`) as soon as it is added. One
whose inputs (data, files, extensions) are not today's is *apart*: it stays as it is, no mean,
sampler or early stopping sees it, and its work is due anew. Where today's are not known, because
the data is not here, those of the latest trials stand for them.

The machine (engine, type of device) is that of the first complete trial among trials of the same
``runtime.device``; the hardware that latency is measured on is that of the first among today's
points that share ``latency.runtime`` as well. A run on another machine is refused, unless the user
asks for a renewal: from then on that machine counts, and the trials of the earlier one are apart
too. The study's record has it under ``renewed``, by these settings.

Units of versions that recorded nothing count as they are. The first run after that takes them as
made of what is there then, in the study's record under ``made_of:POINT``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zostudy.config.loading import StudyFile
from zostudy.config.settings import TrialConfig
from zostudy.config.sweep import RangeSettings
from zostudy.errors import ConfigError
from zostudy.study import points
from zostudy.study.ingredients import (
    HARDWARE,
    MACHINE,
    Apart,
    Difference,
    Ingredients,
    differences,
    inputs,
    machine,
    shown,
    title,
    trials_named,
)
from zostudy.study.points import Point, TrialOutcome
from zostudy.study.sweep.work_units import Unit

Machines = Mapping[str, Ingredients]

#: Begins the name under which the study's record has what unrecorded trials of a point are made of.
ADOPTED = "made_of:"
#: Name under which it has the last renewal.
RENEWED = "renewed"


@dataclass
class Today:
    """What the points of a study are made of today, by their keys.

    Attributes:
        file: The study file.
    """

    file: StudyFile
    _of: dict[str, Ingredients] = field(default_factory=dict)

    def of(self, point: Point | None) -> Ingredients:
        """The ingredients of a unit of a point; in a sampled sweep all units have the same."""
        sampled = self.file.config.sweep.sampler.samples
        key = "" if sampled or point is None else point.key
        if key not in self._of:
            self._of[key] = self._of_sweep() if not key else dict(self._made_of(point))
        return self._of[key]

    def _made_of(self, point: Point | None) -> Ingredients:
        return self.file.made_of(point.config if point else self.file.config)

    def _of_sweep(self) -> Ingredients:
        """What any point of a sampled sweep may be made of."""
        parameters = self.file.config.sweep.parameters
        ends = {
            p: (v.low, v.high) if isinstance(v, RangeSettings) else v for p, v in parameters.items()
        }
        base = points.first(self.file)
        found = dict(self.file.made_of(base.config))
        for path, values in ends.items():
            for value in values:
                config = self.file.trial({**base.values, path: value})
                for name, content in self.file.made_of(config).items():
                    if found.setdefault(name, content) != content:
                        found[f"{name} ({path}={value})"] = content
        return found


@dataclass(frozen=True)
class Sorted:
    """The units of a study, told apart.

    Attributes:
        units: All units; those that do not count say by what they differ.
        machines: The machine that counts, by the settings that ask for it; today's where there is
            none.
        remarks: What is to be said of those that count, a sentence each.
    """

    units: list[Unit]
    machines: Machines
    remarks: tuple[str, ...]


def sorted_out(
    today: Today, known: Mapping[str, Point], units: Sequence[Unit], noted: Mapping[str, Any]
) -> Sorted:
    """Tell the units that count from those that are apart.

    Args:
        today: What the points are made of today.
        known: The points that are known.
        units: All units.
        noted: The study's own record.
    """
    ours = [_adopting(unit, noted) for unit in units]
    if not any(unit.made_of for unit in ours) and not any(map(completed, ours)):
        return Sorted(ours, noted.get(RENEWED, {}), ())
    sampled = today.file.config.sweep.sampler.samples
    of_file = {u.number for u in ours if sampled or u.key in known}
    now = _Now(today, known, [unit for unit in ours if unit.number in of_file])
    marked = [
        _parted(unit, now.differing_inputs(unit)) if unit.number in of_file else unit
        for unit in ours
    ]
    machines = _machines(now, marked, noted.get(RENEWED, {}))
    found = []
    for unit in marked:
        differing: tuple[Difference, ...] = ()
        if unit.made_of and unit.number in of_file:
            counts = machine(now.of(unit)) | _counting(machines, now.config(unit))
            differing = differences(unit.made_of, counts, MACHINE)
        found.append(_parted(unit, differing))
    counted = [unit for unit in found if unit.number in of_file and not unit.apart]
    remarks = (*_unrecorded(now, counted), *now.unknown(), *_other_engine(now, counted))
    return Sorted(found, machines, remarks)


def _parted(unit: Unit, by: tuple[Difference, ...]) -> Unit:
    return replace(unit, apart=(*unit.apart, *by)) if by else unit


def _adopting(unit: Unit, noted: Mapping[str, Any]) -> Unit:
    adopted = noted.get(f"{ADOPTED}{unit.key}")
    return replace(unit, made_of=adopted) if adopted and not unit.made_of else unit


def completed(unit: Unit) -> bool:
    """Whether a trial of a unit is complete."""
    return any(isinstance(outcome, TrialOutcome) for outcome in unit.outcomes.values())


@dataclass
class _Now:
    """Today's ingredients of units; where they are not known, those of the latest trials."""

    today: Today
    known: Mapping[str, Point]
    units: Sequence[Unit]
    _latest: dict[str, Ingredients] = field(default_factory=dict)
    _unknown: dict[str, None] = field(default_factory=dict)

    def of(self, unit: Unit) -> dict[str, str]:
        """The ingredients of a unit, if it were run today."""
        if not self._latest:
            for one in self.units:
                if one.made_of and completed(one):
                    self._latest[one.key] = self._latest[""] = one.made_of
        found = dict(self.today.of(self.known.get(unit.key)))
        for name, value in found.items():
            if not value and name not in MACHINE:
                self._unknown[name] = None
                latest = self._latest.get(unit.key, self._latest.get("", {}))
                found[name] = latest.get(name, "")
        return found

    def differing_inputs(self, unit: Unit) -> tuple[Difference, ...]:
        """By which inputs a unit differs from what it would be made of today."""
        return differences(inputs(unit.made_of), inputs(self.of(unit))) if unit.made_of else ()

    def config(self, unit: Unit) -> TrialConfig:
        """The settings of a unit; those of the study where it is of none of today's points."""
        point = self.known.get(unit.key)
        return point.config if point else self.today.file.config

    def of_today(self, unit: Unit) -> bool:
        """Whether a unit is of one of today's points."""
        return self.today.file.config.sweep.sampler.samples or unit.key in self.known

    def unknown(self) -> Iterable[str]:
        """What could not be compared."""
        for name in self._unknown:
            yield (
                f"{title(name)} cannot be read here: whether the trials are made of it could not "
                "be compared, and the latest count"
            )


def _machines(now: _Now, units: Sequence[Unit], renewed: Mapping[str, Any]) -> Machines:
    """For each group of units the machine that counts, unless it is today's."""
    found: dict[str, Ingredients] = dict(renewed)
    for unit in units:
        if unit.made_of and not unit.apart and completed(unit):
            for group, names in _groups(now.config(unit)).items():
                if HARDWARE not in names or now.of_today(unit):
                    found.setdefault(group, _some(unit.made_of, names))
    return found


def _groups(config: TrialConfig) -> dict[str, tuple[str, ...]]:
    """By each of the settings that ask for a machine what is equal in trials that share them."""
    device = config.runtime.device
    groups: dict[str, tuple[str, ...]] = {device: ("engine", "device")}
    if config.latency.by == "measured":
        groups[f"{device}, {config.latency.runtime}"] = (HARDWARE,)
    return groups


def _some(made_of: Ingredients, names: Sequence[str]) -> dict[str, str]:
    return {name: made_of.get(name, "") for name in names}


def _counting(machines: Machines, config: TrialConfig) -> dict[str, str]:
    """The machine that counts for settings; empty where there is none."""
    found: dict[str, str] = {}
    for group, names in _groups(config).items():
        if group in machines:
            found |= _some(machines[group], names)
    return found


def _unrecorded(now: _Now, counted: Sequence[Unit]) -> Iterable[str]:
    unrecorded = [unit for unit in counted if not unit.made_of]
    numbers = numbers_of(unrecorded)
    if numbers and now.of(unrecorded[0]):
        one = len(numbers) == 1
        yield (
            f"{trials_named(numbers)} {'was' if one else 'were'} run by a version of zostudy that "
            f"did not record what {'it is' if one else 'they are'} made of, and "
            f"{'counts' if one else 'count'} as made of what is here"
        )


def _other_engine(now: _Now, counted: Sequence[Unit]) -> Iterable[str]:
    for unit in counted:
        if unit.made_of and completed(unit):
            for different in differences(unit.made_of, now.of(unit), ("engine",)):
                yield (
                    f"the trials were run by the engine {shown(different.then)}, and the one here "
                    f"is {shown(different.now)}: they count, and `zostudy run` adds none to them; "
                    "`zostudy run --renew` runs them again"
                )
                return


def numbers_of(units: Iterable[Unit]) -> tuple[int, ...]:
    """The numbers of the complete trials of units, ascending."""
    found = {
        unit.first + unit.seeds.index(seed)
        for unit in units
        for seed, outcome in unit.outcomes.items()
        if isinstance(outcome, TrialOutcome) and seed in unit.seeds
    }
    return tuple(sorted(found))


def apart(units: Sequence[Unit]) -> tuple[Apart, ...]:
    """The complete trials that do not count, together where they differ by the same."""
    groups: dict[tuple[Difference, ...], list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.apart and completed(unit):
            groups[unit.apart].append(unit)
    return tuple(Apart(numbers_of(group), what) for what, group in groups.items())


def check_same_engine(today: Today, machines: Machines, left: Iterable[Point]) -> None:
    """Whether trials that are left would be run on the machine of those that count.

    Args:
        today: What the points are made of today.
        machines: The machines that count.
        left: The points of which trials are left; one of a sampled sweep is enough.

    Raises:
        ConfigError: They would not.
    """
    for point in left:
        counts = _counting(machines, point.config)
        for different in differences(counts, today.of(point), tuple(counts)):
            if different.name == "device":
                raise ConfigError(
                    f"runtime.device: the trials of this study were run on {different.then}, and "
                    f"here they would run on {different.now}: no mean may hold both; run it where "
                    f"it was run, or `zostudy run --renew` runs all again on {different.now}"
                )
            if different.name == HARDWARE:
                raise ConfigError(
                    f"latency: {different}, and latencies of both cannot be compared; run it where "
                    "it was run, or `zostudy run --renew` runs all again here"
                )
            raise ConfigError(
                f"engine: the trials of this study were run by the engine {shown(different.then)}, "
                f"and the one here is {shown(different.now)} (digests of zostudy's source): no "
                "mean may hold both; install the version that ran them, or `zostudy run --renew` "
                "runs all again and keeps the earlier ones apart"
            )


def renewal(today: Today, found: Sorted, points_left: Iterable[Point]) -> Machines | None:
    """The machines that count from now on; nothing where they are today's already."""
    machines = {
        group: _some(today.of(p), names)
        for p in points_left
        for group, names in _groups(p.config).items()
    }
    changed = any(found.machines.get(g, own) != own for g, own in machines.items())
    return {**found.machines, **machines} if changed else None


def adoptions(
    today: Today, known: Mapping[str, Point], units: Sequence[Unit]
) -> Iterator[tuple[str, Ingredients]]:
    """What the study's record is to say of complete trials that record nothing."""
    for key in dict.fromkeys(u.key for u in units if not u.made_of and completed(u)):
        if key in known and today.of(known[key]):
            yield f"{ADOPTED}{key}", today.of(known[key])


def check_inputs(found: Sorted) -> None:
    """Whether the latest unit is made of what is here; a worker begins nothing anew.

    Raises:
        ConfigError: It is not.
    """
    recorded = [unit for unit in found.units if unit.made_of]
    if recorded and recorded[-1].apart:
        what = "; ".join(map(str, recorded[-1].apart))
        raise ConfigError(
            f"worker: the study is run on something else than what is here: {what}; a worker needs "
            "what the study is run on, and only `zostudy run` begins anew with something else"
        )
