"""Settings of a sweep: which points are run, and what makes one better."""

import math
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from zostudy.config.base import Settings
from zostudy.config.limits import BudgetSettings, Constraints, EarlyStoppingSettings
from zostudy.metrics import OBJECTIVES
from zostudy.options import nearest

#: The largest seed of a trial or a split.
LARGEST_SEED = 2**63 - 1

#: Points of a grid, and seeds, that a study may have.
_MOST_POINTS, _MOST_SEEDS = 100_000, 10_000


class RangeSettings(Settings):
    """Numbers from low to high."""

    low: float | int
    """Smallest value."""
    high: float | int
    """Largest value."""
    step: float | int = Field(default=0, ge=0)
    """Distance of neighbouring values; 0 for a continuous range (whole numbers: 1)."""
    log: bool = False
    """Whether to sample the logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("log: needs low above 0 and no step")
        if self.step and self.count > _MOST_POINTS:
            raise ValueError(
                f"step: {self.step} makes more than {_MOST_POINTS:,} values; allowed: a larger one"
            )
        return self

    @property
    def count(self) -> int:
        """Values of a range with a step."""
        return int(min((self.high - self.low) / self.step, 1e18) + 1e-9) + 1

    @property
    def numbers(self) -> tuple[float | int, ...]:
        """The values of a range with a step, from low up to high at most."""
        if all(isinstance(v, int) for v in (self.low, self.step)):
            return tuple(self.low + i * self.step for i in range(self.count))
        return tuple(float(f"{self.low + i * self.step:.12g}") for i in range(self.count))


class SamplerSettings(Settings):
    """Who proposes the points of the sweep."""

    name: Literal["grid", "tpe", "nsga2"] = "grid"
    """``grid`` runs every combination; ``tpe`` is Optuna's tree-structured Parzen estimator;
    ``nsga2`` its genetic algorithm for several objectives."""
    population: int = Field(default=20, ge=2, le=10_000)
    """Points of a generation of ``nsga2``, of which the first is drawn by chance."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of the sampler."""

    @property
    def samples(self) -> bool:
        """Whether it proposes points, which a grid has of itself."""
        return self.name != "grid"


class ObjectiveSettings(Settings):
    """A metric to be made large or small."""

    metric: str = Field(default="validation_accuracy", json_schema_extra={"enum": [*OBJECTIVES]})
    """The metric; test accuracy is no objective, because selection never sees the test part."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which way is better."""

    @model_validator(mode="after")
    def _can_be_optimized(self) -> Self:
        if self.metric not in OBJECTIVES:
            hint = nearest(self.metric, OBJECTIVES) or f"; allowed: {', '.join(OBJECTIVES)}"
            raise ValueError(f"metric: {self.metric!r} is not allowed{hint}")
        return self


class SweepSettings(Settings):
    """Which points are run, how often, and what makes one better."""

    sampler: SamplerSettings = SamplerSettings()
    """Sampler."""
    parameters: dict[str, tuple[Any, ...] | RangeSettings] = Field(default={})
    """For each swept setting, by its path in this file, its values or its range."""
    seeds: tuple[int, ...] = (0,)
    """Every point is repeated once with each seed; its value is the mean over them."""
    trials: int = Field(default=0, ge=0, le=1_000_000)
    """Total number of points of a sampled sweep, those of earlier runs counted in; a grid has its
    own number and wants 0."""
    random_baseline: int = Field(default=0, ge=0, le=10_000)
    """How many random genotypes are evaluated beside what the points find, in the same way: of the
    same search space, under the same masks and with the same seeds. Means of points leave them
    out."""
    objectives: tuple[ObjectiveSettings, ...] = (ObjectiveSettings(),)
    """What is optimized; none for a study that only compares."""
    constraints: Constraints = Field(default={})
    """For figures by name (``prune_peak_bytes``, ``search_peak_bytes``, ``evaluate_peak_bytes``,
    ``parameters``, ``macs``, ``latency_ms``) the largest value allowed, ``{at_most: 8GiB}``. A
    point that is predicted to be above is not run; a genotype that is above is not evaluated."""
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    """Stopping of poor trials, where validation accuracy is the one objective."""
    budget: BudgetSettings | None = None
    """Time that the study has. With one, a grid is run seed by seed: all points with the first
    seed, then all with the second."""
    heartbeat_interval: int = Field(default=60, ge=2, le=86_400)
    """Seconds in which a worker says at least once that it is alive; a trial whose worker has not
    for nearly two of them is taken up by another."""
    retries: int = Field(default=2, ge=0, le=1000)
    """How often a trial that was lost with its worker or its process is tried again."""

    stop_after_crashes: int = Field(default=3, ge=0, le=1_000_000)
    """How many trials may crash in the same way and in the same phase before the study stops, as
    long as none has come to an end; 0 never stops it."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for path, values in self.parameters.items():
            if isinstance(values, tuple) and not values:
                raise ValueError(f"parameters.{path}: has no values; needs at least one")
            stepless = isinstance(values, RangeSettings) and not values.step
            if stepless and self.sampler.name == "grid":
                raise ValueError(
                    f"parameters.{path}: a range in a grid needs a step; or use sampler 'tpe'"
                )
        self._check_seeds()
        self._check_sampler()
        return self

    def _check_seeds(self) -> None:
        if len(self.seeds) > _MOST_SEEDS:
            raise ValueError(f"seeds: {len(self.seeds)} of them; allowed: up to {_MOST_SEEDS:,}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)}; needs at least one, each once")
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise ValueError(f"seeds: {seed} is not allowed; allowed: 0 to {LARGEST_SEED}")

    def _check_sampler(self) -> None:
        if self.sampler.name == "grid" and self.trials:
            raise ValueError("trials: a grid runs every combination; leave trials out")
        complete = self.trials and self.parameters and self.objectives
        name = self.sampler.name
        if self.sampler.samples and not complete:
            raise ValueError(f"sampler: {name!r} needs trials (at least 1), parameters, objectives")
        if name == "nsga2" and len(self.objectives) < 2:
            raise ValueError("sampler: 'nsga2' needs several objectives; or use 'tpe'")
        if self.sampler.samples and self.random_baseline:
            raise ValueError(
                f"random_baseline: {self.random_baseline} needs sampler 'grid', of which all masks "
                f"are known beforehand; with {name!r} leave it at 0"
            )
        if self.points > _MOST_POINTS:
            raise ValueError(
                f"parameters: a grid of {self.points:,} points; allowed: up to {_MOST_POINTS:,}"
            )

    @property
    def points(self) -> int:
        """Combinations of a grid's values; 0 of a sampled sweep, which has none of its own."""
        if self.sampler.samples:
            return 0
        counts = (
            v.count if isinstance(v, RangeSettings) else len(v) for v in self.parameters.values()
        )
        return math.prod(counts)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.early_stopping.name == "none":
            return self
        wanted = [(goal.metric, goal.direction) for goal in self.objectives]
        if wanted != [("validation_accuracy", "maximize")]:
            raise ValueError(
                f"early_stopping.name: {self.early_stopping.name!r} needs one objective, the "
                "largest validation_accuracy; or leave it at 'none'"
            )
        if self.sampler.samples and len(self.seeds) > 1:
            raise ValueError(
                f"early_stopping.name: {self.early_stopping.name!r} compares single trials, and "
                f"sampler {self.sampler.name!r} means of {len(self.seeds)} seeds; use one seed"
            )
        return self
