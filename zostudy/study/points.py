"""The points of a sweep, and what is known of each.

A *point* is one combination of swept values. It is repeated for every seed of the study; a point
with one seed is a *trial*: one MLflow run.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from zostudy.config.limits import as_document as limits_document
from zostudy.config.loading import StudyFile, canonical, digest
from zostudy.config.settings import TrialConfig
from zostudy.config.sweep import RangeSettings, SweepSettings
from zostudy.errors import ConfigError
from zostudy.redaction import without_password
from zostudy.study.ingredients import Apart, Ingredients

#: How a rule may end a trial.
State = Literal["excluded", "stopped"]


@dataclass(frozen=True)
class Point:
    """One combination of swept values.

    Attributes:
        values: For each swept path, its value at this point.
        config: The settings of this point.
        key: Digest of the settings that determine its results; equal keys are the same point.
        coinciding: How many further combinations of the grid resolve to the same settings.
        made_of: What else its trials are to be made of; empty where that is not followed.
        seeds: Its seeds, where it has not those of the study.
        baseline: Whether it is a random genotype beside the points (``sweep.random_baseline``).
    """

    values: Mapping[str, Any]
    config: TrialConfig
    key: str
    coinciding: int = 0
    made_of: Ingredients = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    baseline: bool = False

    def __str__(self) -> str:
        return described(self.values)

    def seeds_among(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Its own seeds, or else those of its study."""
        return self.seeds or seeds


@dataclass(frozen=True)
class TrialOutcome:
    """What a finished trial hands over.

    Attributes:
        state: ``complete``, as records say.
        metrics: Figures by name: percent, seconds, bytes, counts.
        genotype: The genotype as JSON holds it.
        mlflow_run_id: The trial's MLflow run.
    """

    metrics: dict[str, float]
    genotype: dict[str, Any]
    mlflow_run_id: str
    state: ClassVar = "complete"


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Attributes:
        state: ``failed``, as records say.
        reason: In one line.
        passing: Whether it was lost with its worker or process, and not by what it computes.
        crash: The signal or the exit code that its process ended with, if it crashed.
        phase: The phase in which it did.
    """

    reason: str
    passing: bool = False
    crash: str = ""
    phase: str = ""
    state: ClassVar = "failed"


@dataclass(frozen=True)
class Ended:
    """A trial that a rule of the study file ended or kept from being run; it did not fail.

    Attributes:
        state: ``excluded`` by ``sweep.constraints``, or ``stopped`` by ``sweep.early_stopping``.
        reason: In one line.
        rule: The rule; under another one the trial is run after all.
        metrics: Figures that are known.
        mlflow_run_id: The trial's MLflow run; empty where there is none.
    """

    state: State
    reason: str
    rule: str
    metrics: dict[str, float]
    mlflow_run_id: str = ""

    @classmethod
    def by(
        cls,
        sweep: SweepSettings,
        state: State,
        reason: str,
        metrics: dict[str, float],
        mlflow_run_id: str = "",
    ) -> "Ended":
        """A trial that ended by a rule as it stands now."""
        return cls(state, reason, rule(sweep, state), metrics, mlflow_run_id)


Outcome = TrialOutcome | Failure | Ended


def rule(sweep: SweepSettings, state: State) -> str:
    """The rule by which trials end in a state, as JSON."""
    if state == "stopped":
        return sweep.early_stopping.model_dump_json()
    return json.dumps(limits_document(sweep.constraints))


@dataclass(frozen=True)
class Attempt:
    """What is known of a point that was begun.

    Attributes:
        point: The point.
        numbers: For each seed, the number of its trial in the study.
        outcomes: What came of each seed that is complete, was ended by a rule, or failed and is
            not tried again by itself.
        made_of: For each of those seeds, what its trial is made of, where that is recorded.
    """

    point: Point
    numbers: Mapping[int, int]
    outcomes: Mapping[int, Outcome]
    made_of: Mapping[int, Ingredients] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Where a study stands.

    Attributes:
        points: The points known so far: all of a grid, or those sampled; then random genotypes.
        attempts: For each point that was begun, by its key, what is known of it.
        seeds: The seeds of every point.
        to_sample: Points that the sampler has still to propose.
        apart: Complete trials that are not counted, since they are made of something else.
        remarks: What else is to be said of what the trials are made of, a sentence each.
    """

    points: tuple[Point, ...]
    attempts: Mapping[str, Attempt]
    seeds: tuple[int, ...]
    to_sample: int = 0
    apart: tuple[Apart, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def searched(self) -> tuple[Point, ...]:
        """The points of the sweep."""
        return tuple(point for point in self.points if not point.baseline)

    @property
    def baseline(self) -> tuple[Point, ...]:
        """The random genotypes that stand beside them."""
        return tuple(point for point in self.points if point.baseline)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of what the trials are made of, a sentence each."""
        return (*map(str, self.apart), *self.remarks)

    def outcomes(self, point: Point) -> Mapping[int, Outcome]:
        """What came of each seed of a point."""
        attempt = self.attempts.get(point.key)
        return attempt.outcomes if attempt else {}

    def missing(self, point: Point) -> tuple[int, ...]:
        """The seeds whose trial at this point is not complete."""
        outcomes = self.outcomes(point)
        seeds = point.seeds_among(self.seeds)
        return tuple(s for s in seeds if not isinstance(outcomes.get(s), TrialOutcome))

    def failed(self, point: Point) -> tuple[int, ...]:
        """The seeds whose trial at this point failed and is not tried again by itself."""
        outcomes = self.outcomes(point)
        seeds = point.seeds_among(self.seeds)
        return tuple(s for s in seeds if isinstance(outcomes.get(s), Failure))

    def left(self, point: Point) -> tuple[int, ...]:
        """The seeds whose trial at this point has still to be run."""
        outcomes = self.outcomes(point)
        return tuple(s for s in point.seeds_among(self.seeds) if s not in outcomes)

    def reopened(self, *, own: bool) -> "Standing":
        """As it is when what was lost too often is tried again.

        Args:
            own: Whether also what failed by what it computes is.
        """
        attempts = {
            key: replace(attempt, outcomes=_without_failures(attempt.outcomes, own=own))
            for key, attempt in self.attempts.items()
        }
        return replace(self, attempts=attempts)

    @property
    def trials_left(self) -> int:
        """Trials to be run, those of points to be sampled counted in."""
        return sum(len(self.left(p)) for p in self.points) + self.to_sample * len(self.seeds)

    @property
    def trials_ended(self) -> int:
        """Trials that were ended, or kept from being run, by a rule of the study file."""
        found = (o for point in self.points for o in self.outcomes(point).values())
        return sum(isinstance(outcome, Ended) for outcome in found)

    @property
    def trials_failed(self) -> int:
        """Trials that failed and are not tried again by themselves."""
        return sum(len(self.failed(p)) for p in self.points)


def _without_failures(outcomes: Mapping[int, Outcome], *, own: bool) -> dict[int, Outcome]:
    return {
        seed: outcome
        for seed, outcome in outcomes.items()
        if not (isinstance(outcome, Failure) and (own or outcome.passing))
    }


@dataclass(frozen=True)
class Notice:
    """A trial has begun or ended.

    Attributes:
        position: Its place among the trials of this call, from 1.
        total: Trials of this call.
        point: Its point.
        seed: Its seed.
        outcome: What came of it; nothing while it is only begun.
        done: How many trials of this call have ended, this one included.
    """

    position: int
    total: int
    point: Point
    seed: int
    outcome: Outcome | None = None
    done: int = 0


def to_record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a record holds it: its fields and its state."""
    return {"state": outcome.state, **vars(outcome)}


def to_json(outcome: Outcome) -> str:
    """The record of an outcome as text."""
    return json.dumps(to_record(outcome))


def from_json(text: str) -> Outcome:
    """The outcome that a record holds."""
    content = json.loads(text)
    state = content.pop("state")
    kinds = {kind.state: kind for kind in (TrialOutcome, Failure)}
    return kinds[state](**content) if state in kinds else Ended(state, **content)


def described(values: Mapping[str, Any]) -> str:
    """The values in one line."""
    text = " ".join(f"{path}={value}" for path, value in values.items())
    return without_password(text) or "(nothing swept)"


def label(values: Mapping[str, Any], seed: int) -> str:
    """What distinguishes a trial, as short as it can be: ``xi=0.25 zero_shot none · seed 0``."""
    values, drawn = dict(values), values.get("search.strategy") == "random"
    random = f"random genotype {values.pop('search.draw', 0)}" if drawn else ""
    if random:
        del values["search.strategy"]
    short = short_paths(list(values))
    named = [random] * drawn + [
        v if isinstance(v, str) else f"{short[path]}={v}" for path, v in values.items()
    ]
    return without_password(" ".join([*named, *(["·"] if named else []), f"seed {seed}"]))


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


def point(file: StudyFile, values: Mapping[str, Any]) -> Point:
    """The point at these values.

    Raises:
        ConfigError: The settings are wrong at this point, which the message names.
    """
    try:
        config = file.trial(values)
    except ConfigError as error:
        raise ConfigError(f"{error} (at the point {described(values)})") from error
    return Point(values, config, digest(canonical(config)))


def first(file: StudyFile) -> Point:
    """The point at the first value of every swept setting.

    Raises:
        ConfigError: The settings are wrong at this point.
    """
    parameters = file.config.sweep.parameters
    return point(
        file, {p: v.low if isinstance(v, RangeSettings) else v[0] for p, v in parameters.items()}
    )


def grid(file: StudyFile) -> list[Point]:
    """Every combination of the swept values, each distinct point once, in the order of the file.

    Raises:
        ConfigError: The settings are wrong at some point.
    """
    found: dict[str, Point] = {}
    before: Point | None = None
    for values in _combinations(file):
        new = point(file, values)
        old = found.get(new.key)
        if old:
            new = replace(old, coinciding=old.coinciding + 1)
        elif before:
            new = replace(new, config=_sharing(new.config, before.config))
        found[new.key] = before = new
    return list(found.values())


def _sharing(config: TrialConfig, other: TrialConfig) -> TrialConfig:
    """The same settings, held once where those of another point are equal."""
    sections = {name: getattr(other, name) for name in TrialConfig.model_fields}
    equal = {name: own for name, own in sections.items() if own == getattr(config, name)}
    return config.model_copy(update=equal)


def alternatives(
    file: StudyFile, values: Mapping[str, Any], sections: Sequence[str]
) -> list[TrialConfig]:
    """The settings of the study's points that differ from one in some sections of the file only.

    Args:
        file: The study file.
        values: For each swept path, its value at the one point.
        sections: Names of the sections. A continuous range stands for its two ends.

    Returns:
        Those that are valid, the one point's too.
    """
    parameters = file.config.sweep.parameters
    varied = {path: v for path, v in parameters.items() if path.split(".")[0] in sections}
    plain, found = StudyFile(file.document, file.config), []
    for combination in itertools.product(*map(_choices, varied.values())):
        with contextlib.suppress(ConfigError):
            found.append(plain.trial({**values, **dict(zip(varied, combination, strict=True))}))
    return found


def _choices(values: tuple[Any, ...] | RangeSettings) -> tuple[Any, ...]:
    if not isinstance(values, RangeSettings):
        return values
    return values.numbers if values.step else (values.low, values.high)


def _combinations(file: StudyFile) -> Iterator[dict[str, Any]]:
    parameters = file.config.sweep.parameters
    for combination in itertools.product(*map(_choices, parameters.values())):
        yield dict(zip(parameters, combination, strict=True))
