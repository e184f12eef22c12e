"""Units of work: what each Optuna trial of a study stands for, and which units are due.

A *unit* is one seed of a point of a grid; in a sampled sweep it is a *draw*: a point that the
sampler proposes when the unit is begun, with all its seeds, since its value is their mean.

Any number of processes may run a study. All read the same units and come to the same conclusions,
without a lock:

- A unit has an *attempt*: how many units of the same work went before it. Two processes that add
  the same attempt at once do no harm: the one with the lowest number counts, the other is
  *superseded*.
- A unit whose worker or process was lost, or that was given back, is due again; one that was lost
  more often than ``sweep.retries`` has failed. One that failed by what it computes is not due again
  unless it is asked for.

A unit's record (the user attributes of its Optuna trial) holds ``point`` (the point's key) and
``values``, ``seeds``, ``draw`` in a sampled sweep, ``random_genotype`` of one beside the points,
``attempt``, ``losses`` (of earlier attempts), ``again`` where it was asked for, ``made_of``
(:mod:`zostudy.study.ingredients`); then ``worker``; and at its end, for a seed N, ``seed:N``, its
outcome, ``reason`` where it failed, and ``given_back`` where its worker was told to stop.
Those of zostudy 0.1 have ``point``, ``values``, ``seed:N`` and ``reason`` only, and all seeds.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from zostudy.config.loading import StudyFile
from zostudy.study import points
from zostudy.study.ingredients import Difference, Ingredients
from zostudy.study.points import Attempt, Ended, Failure, Outcome, Point, Standing, TrialOutcome
from zostudy.study.sweep import grid, random_baseline

State = Literal["waiting", "running", "complete", "failed"]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Unit:
    """A unit of work as Optuna holds it.

    Attributes:
        number: Its number in Optuna.
        first: The number of its first trial in the study, the same for every attempt: works are
            numbered as they first appear, which is in the same order whoever adds them.
        state: What Optuna knows of it.
        record: Its user attributes.
        seeds: The seeds that it runs.
        attempt: How many units of the same work went before it.
        draw: Which of the sampler's proposals it is; nothing in a grid.
        made_of: What it is made of beside its settings; empty where that is not recorded.
        apart: By what it differs from what the study is made of today; where it does, it does not
            count (:mod:`zostudy.study.sweep.made_of`).
    """

    number: int
    first: int
    state: State
    record: Record
    seeds: tuple[int, ...]
    attempt: int = 0
    draw: int | None = None
    made_of: Ingredients = field(default_factory=dict)
    apart: tuple[Difference, ...] = ()

    @property
    def key(self) -> str:
        """The key of its point; empty while the sampler has not proposed one."""
        return str(self.record.get("point", ""))

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def losses(self) -> int:
        """How often this work was lost, if this unit, not live, ended without an outcome."""
        given_back = bool(self.record.get("given_back"))
        return int(self.record.get("losses", 0)) + (not given_back and not self.live)

    @functools.cached_property
    def outcomes(self) -> dict[int, Outcome]:
        """What came of each seed that was run to its end."""
        return {
            int(name.removeprefix("seed:")): points.from_json(text)
            for name, text in self.record.items()
            if name.startswith("seed:")
        }

    @functools.cached_property
    def work(self) -> tuple[object, ...]:
        """What it runs, whatever the attempt."""
        recorded = json.dumps(self.record.get("made_of", {}), sort_keys=True)
        return (self.key, self.seeds, recorded) if self.draw is None else (self.draw, recorded)

    @property
    def identity(self) -> tuple[object, ...]:
        """What no two units may share."""
        return (*self.work, self.attempt)


def read(file: StudyFile, held: Sequence[tuple[int, State, Record]]) -> list[Unit]:
    """The units that count, and those that do not yet: see :func:`superseded`.

    Args:
        file: The study file.
        held: Number, state and record of each of Optuna's trials, in their order.
    """
    reader = Reader(file)
    return [reader.read(*one) for one in held]


@dataclass
class Reader:
    """Reads units in the order of their numbers.

    Attributes:
        file: The study file.
        count: How many it has read.
    """

    file: StudyFile
    count: int = 0
    _trials: int = 0
    _firsts: dict[tuple[object, ...], int] = field(default_factory=dict)
    _before: list[Unit] = field(default_factory=list)

    def read(self, number: int, state: State, noted: Record) -> Unit:
        """The next unit."""
        sweep = self.file.config.sweep
        sampled = sweep.sampler.samples
        record = _valid(self.file, noted)
        old = "attempt" not in record
        seeds = tuple(record.get("seeds", sweep.seeds))
        draw = record["draw"] if sampled and not old else None
        attempt, made_of = record.get("attempt", 0), record.get("made_of", {})
        unit = Unit(number, self._trials, state, record, seeds, attempt, draw, made_of)
        if old:
            unit = _of_old(unit, self._before, sweep.seeds, sampled=sampled)
        else:
            first = self._firsts.setdefault(unit.work, self._trials)
            unit = replace(unit, first=first)
        if old or sampled:
            self._before.append(unit)
        self._trials = max(self._trials, unit.first + len(seeds))
        self.count += 1
        return unit

    def again(self, unit: Unit, state: State, noted: Record) -> Unit:
        """A unit of a grid that has been read before, as it is now."""
        return replace(unit, state=state, record=_valid(self.file, noted))


def _valid(file: StudyFile, record: Record) -> Record:
    """The record of a unit; what was ended by a rule of another study file was given back."""
    kept = dict(record)
    for name, text in record.items():
        if not name.startswith("seed:") or '"rule"' not in text:
            continue
        outcome = points.from_json(text)
        if not isinstance(outcome, Ended):
            continue
        if outcome.rule != points.rule(file.config.sweep, outcome.state):
            del kept[name]
            kept["given_back"] = True
    return kept


def _of_old(unit: Unit, before: list[Unit], seeds: tuple[int, ...], *, sampled: bool) -> Unit:
    """A unit of zostudy 0.1, whose records tell neither attempt nor draw."""
    same = [u for u in before if u.key == unit.key and "attempt" not in u.record and unit.key]
    draw: int | None = None
    if sampled:
        drawn = [u.draw for u in before if u.draw is not None]
        draw = max(drawn, default=-1) + 1
        if same and not _complete(same[-1], seeds):
            draw = same[-1].draw
        if not unit.key and "reason" not in unit.record:
            draw = -1  # its proposal was lost, and is made anew
        same = [u for u in same if u.draw == draw]
    return Unit(unit.number, unit.first, unit.state, unit.record, unit.seeds, len(same), draw)


def _complete(unit: Unit, seeds: tuple[int, ...]) -> bool:
    return all(isinstance(unit.outcomes.get(seed), TrialOutcome) for seed in seeds)


def superseded(units: Sequence[Unit]) -> list[Unit]:
    """Those of which another, with a lower number, is the same attempt at the same work."""
    seen: set[tuple[object, ...]] = set()
    late = []
    for unit in units:
        if unit.identity in seen:
            late.append(unit)
        seen.add(unit.identity)
    return late


def counting(units: Sequence[Unit]) -> list[Unit]:
    """Those that are neither superseded nor made of something else than the study is today."""
    late = {unit.number for unit in superseded(units)}
    return [unit for unit in units if unit.number not in late and not unit.apart]


def by_point(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """Units by the key of their point."""
    found: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        found[unit.key].append(unit)
    return found


@dataclass(frozen=True)
class SeedProgress:
    """How far one seed of a point, or of a draw, has come.

    Attributes:
        outcome: What came of it; nothing where it is still to be run.
        live: Whether a unit for it waits or runs.
        attempt: The attempt of its next unit.
        losses: How often it was lost since it was asked for.
    """

    outcome: Outcome | None = None
    live: bool = False
    attempt: int = 0
    losses: int = 0


def course(history: Sequence[Unit], seed: int, retries: int) -> SeedProgress:
    """How far a seed has come, from the units that ran it or will, in their order."""
    for unit in history:
        outcome = unit.outcomes.get(seed)
        if isinstance(outcome, TrialOutcome):
            return SeedProgress(outcome)
    if not history:
        return SeedProgress()
    last = history[-1]
    failure = last.outcomes.get(seed)
    if failure is None and not last.live and last.losses > retries:
        failure = Failure(f"its worker was lost {last.losses} times", passing=True)
    return SeedProgress(failure, last.live, last.attempt + 1, last.losses)


def standing(file: StudyFile, known: dict[str, Point], units: Sequence[Unit]) -> Standing:
    """Where a study stands.

    Args:
        file: The study file.
        known: The points that are known; what the sampler has proposed is added to them.
        units: All units.

    Raises:
        ConfigError: The settings are wrong at some point.
    """
    sweep = file.config.sweep
    sampled = sweep.sampler.samples
    histories: dict[str, list[Unit]] = defaultdict(list)
    spent: set[int | None] = set()
    for unit in counting(units):
        if sampled and unit.key and unit.key not in known:
            known[unit.key] = points.point(file, json.loads(unit.record["values"]))
        if sampled and (unit.key or "reason" in unit.record):
            spent.add(unit.draw)
        histories[unit.key].append(unit)
    attempts = {
        key: attempt
        for key, point in known.items()
        if (attempt := attempt_at(point, histories[key], sweep.seeds, sweep.retries))
    }
    to_sample = max(0, sweep.trials - len(spent)) if sampled else 0
    return Standing(tuple(known.values()), attempts, sweep.seeds, to_sample)


def attempt_at(
    point: Point, history: Sequence[Unit], seeds: tuple[int, ...], retries: int
) -> Attempt | None:
    """What is known of a point, from the units that count of it; nothing if it was not begun."""
    if all(unit.state == "waiting" for unit in history):
        return None
    numbers: dict[int, int] = {}
    outcomes: dict[int, Outcome] = {}
    made_of: dict[int, Ingredients] = {}
    for seed in point.seeds_among(seeds):
        running = [unit for unit in history if seed in unit.seeds]
        if running:
            numbers[seed] = running[0].first + running[0].seeds.index(seed)
        outcome = course(running, seed, retries).outcome
        if outcome is not None:
            outcomes[seed] = outcome
            told = [unit for unit in running if unit.outcomes.get(seed) == outcome]
            made_of[seed] = (told or running)[-1].made_of
    return Attempt(point, numbers, outcomes, made_of)


def due(
    file: StudyFile,
    known: Mapping[str, Point],
    units: Sequence[Unit],
    left: Mapping[tuple[str, int], Point] | None = None,
) -> Iterator[Record]:
    """The records of the units that are missing, in the order in which they are to be run.

    Those of a grid are found as they are asked for.

    Args:
        file: The study file.
        known: The points that are known.
        units: All units, or those that are not settled.
        left: What of a grid is not settled, by point's key and seed; nothing for all.

    Of the draws that were never begun only one waits at a time: a sampler learns from trials in the
    order of their numbers, in which one that is tried again comes before those not yet begun.
    """
    draw_waits = any(unit.state == "waiting" and not unit.key for unit in units)
    for work, seed_courses in _works(file, known, units, left):
        waited_for = [c for c in seed_courses if c.outcome is None]
        if not waited_for or any(c.live for c in seed_courses):
            continue
        if "point" not in work:
            if draw_waits:
                continue
            draw_waits = True
        yield work | _next(waited_for)


def revived(
    file: StudyFile, known: Mapping[str, Point], units: Sequence[Unit], *, own: bool
) -> Iterator[Record]:
    """The records of units for what was lost too often, to try it again.

    Args:
        file: The study file.
        known: The points that are known.
        units: All units.
        own: Whether also for what failed by what it computes.
    """
    for work, seed_courses in _works(file, known, units):
        failed = [c for c in seed_courses if isinstance(c.outcome, Failure)]
        wanted = [
            c for c in failed if own or (isinstance(c.outcome, Failure) and c.outcome.passing)
        ]
        if wanted and not any(c.live for c in seed_courses):
            yield work | _next(wanted) | {"losses": 0, "again": own}


def _next(seed_courses: Sequence[SeedProgress]) -> dict[str, int]:
    return {
        "attempt": max(c.attempt for c in seed_courses),
        "losses": max(c.losses for c in seed_courses),
    }


def _works(
    file: StudyFile,
    known: Mapping[str, Point],
    units: Sequence[Unit],
    left: Mapping[tuple[str, int], Point] | None = None,
) -> Iterator[tuple[dict[str, Any], list[SeedProgress]]]:
    """All work of a study: what a record says of it, and how far its seeds have come."""
    sweep = file.config.sweep
    counted = counting(units)
    if sweep.sampler.samples:
        drawn: dict[int | None, list[Unit]] = defaultdict(list)
        for unit in counted:
            drawn[unit.draw].append(unit)
        for draw in range(sweep.trials):
            history = drawn[draw]
            if any("reason" in unit.record and not unit.key for unit in history):
                continue  # what was proposed cannot be run
            work: dict[str, Any] = {"draw": draw, "seeds": list(sweep.seeds)}
            for unit in history:
                work |= {name: unit.record[name] for name in _POINT if name in unit.record}
            yield work, [course(history, seed, sweep.retries) for seed in sweep.seeds]
        return
    of_point = by_point(counted)
    of_grid = grid.in_order(file, known)
    if left is not None:
        of_grid = ((point, seed) for (_, seed), point in left.items())
    for point, seed in of_grid:
        history = [unit for unit in of_point.get(point.key, []) if seed in unit.seeds]
        work = {"point": point.key, "values": json.dumps(dict(point.values)), "seeds": [seed]}
        work |= {random_baseline.MARK: point.config.search.draw} if point.baseline else {}
        yield work, [course(history, seed, sweep.retries)]


_POINT = ("point", "values")
