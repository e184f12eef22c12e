"""What a study will need: for each point, the peak memory and the steps of its phases.

A mask that is drawn without looking at pictures is known beforehand, for every seed; the largest
peak counts. A mask from scores and the genotype of a search are not: a mask that keeps as many
operations on each edge, and a genotype drawn from the mask, stand for them, and the prediction is
no longer exact. Once mask and genotype are there, the trial itself predicts exactly.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeVar

from zostudy.config.limits import ConstraintSettings
from zostudy.config.loading import StudyFile
from zostudy.config.settings import DatasetSettings, EvaluateSettings, TrialConfig
from zostudy.config.sizes import shown_bytes
from zostudy.data import dataset as datasets
from zostudy.data.dataset import Dataset
from zostudy.errors import ConfigError
from zostudy.runtime import memory_budget, planned
from zostudy.study.planning.constraints import Limited, broken, limited
from zostudy.study.planning.outlook import (
    PHASES,
    Outlook,
    PlannedPhase,
    PlannedSearch,
    Remedy,
    batch_sizes,
    with_batches,
)
from zostudy.study.planning.peak_memory import Predictions, search_part_sizes
from zostudy.study.points import Point

T = TypeVar("T")


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a configuration.

    Attributes:
        peak_bytes: Predicted peak of live tensors, the largest over the seeds; of a search that
            draws paths, an upper bound.
        mean_bytes: Its mean over the seeds.
        steps: Optimizer steps, or batches that are scored.
        exact: Whether mask or genotype are known, and not only the like of them.
        average_bytes: Where paths are drawn, the mean peak of a step over draws and seeds.
    """

    peak_bytes: int
    mean_bytes: float
    steps: int
    exact: bool
    average_bytes: float | None = None


@dataclass(frozen=True)
class Advice:
    """What to change so that a phase fits, each by itself; nothing where no value would do.

    Attributes:
        phase: The phase.
        changes: By the path of a setting, the largest or weakest value that fits.
        smallest: What the smallest that was tried needs, in bytes, where nothing fits.
        tried: The smallest that was tried.
    """

    phase: str
    changes: Mapping[str, Any]
    smallest: int = 0
    tried: str = ""

    def __str__(self) -> str:
        if self.changes:
            ways = " or ".join(f"{path}={value}" for path, value in self.changes.items())
            return f"{self.phase} fits with {ways}"
        return f"{self.phase}: nothing fits; {self.tried} still needs {shown_bytes(self.smallest)}"


@dataclass(frozen=True)
class Configuration:
    """One point and what it needs.

    Attributes:
        point: The point.
        phases: Its phases by name; a phase that computes nothing is left out.
        advice: For each phase above the budget, what would fit.
        limited: The figures that the sweep has a constraint for.
        note: What its settings do that nobody wants; empty where they do not.
    """

    point: Point
    phases: Mapping[str, PhasePlan]
    advice: tuple[Advice, ...] = ()
    limited: tuple[Limited, ...] = ()
    note: str = ""

    @property
    def excluded(self) -> str:
        """Which constraints keep the point from being run; empty where none does."""
        return broken(self.limited)


@dataclass(frozen=True)
class Plan:
    """What the points of a study need.

    Attributes:
        configurations: The points.
        budget: Bytes that a trial may take.
        datasets: Outlines of the data sets that the points use.
    """

    configurations: tuple[Configuration, ...] = ()
    budget: int = sys.maxsize
    datasets: tuple[Dataset, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What settings do that nobody wants, a sentence each."""
        return tuple(dict.fromkeys(c.note for c in self.configurations if c.note))

    def above(self, *, exact: bool) -> list[tuple[Configuration, Advice]]:
        """Phases of points to be run above the budget: known to be, or estimated to be."""
        return [
            (configuration, advice)
            for configuration in self.configurations
            if not configuration.excluded
            for advice in configuration.advice
            if configuration.phases[advice.phase].exact == exact
        ]

    def ratio_to_darts(self, configuration: Configuration) -> float | None:
        """The search's peak, mean over seeds, over that of plain DARTS, where the study has it."""
        plain = [c for c in self.configurations if c.point.config.technique == "darts"]
        if not plain or "search" not in configuration.phases:
            return None
        search, reference = (c.phases["search"].mean_bytes for c in (configuration, plain[0]))
        return search / reference


@dataclass(frozen=True)
class Planner:
    """Predicts points; what it has predicted it knows.

    Attributes:
        predictions: Peaks of phases.
        budget: Bytes that a trial may take.
        seeds: Seeds of every point.
        outline: Gives the outline of a data set.
        constraints: The sweep's.
    """

    predictions: Predictions
    budget: int
    seeds: Sequence[int]
    outline: Callable[[DatasetSettings], Dataset]
    constraints: Mapping[str, ConstraintSettings] = field(default_factory=dict)
    _fitted: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, file: StudyFile) -> "Planner":
        """The planner of a study, which reads no pictures where it need not.

        Raises:
            ConfigError: The device's name is wrong.
        """
        config, known = file.config, dict[str, Dataset]()

        def outline(settings: DatasetSettings) -> Dataset:
            key = settings.model_dump_json()
            if key not in known:
                known[key] = datasets.outline(settings, config.extensions)
            return known[key]

        runtime = planned(config.runtime)
        budget = memory_budget(config.runtime, runtime.device)
        sweep = config.sweep
        return cls(Predictions(runtime), budget, sweep.seeds, outline, sweep.constraints)

    def plan(self, points: Sequence[Point]) -> Plan:
        """What points need, and what to change where that is above the budget.

        Raises:
            InputError: The data set cannot be used, or is smaller than a batch.
        """
        used = {id(one): one for one in (self.outline(point.config.dataset) for point in points)}
        configurations = tuple(self._configuration(point) for point in points)
        return Plan(configurations, self.budget, tuple(used.values()))

    def fitted(self, config: TrialConfig) -> TrialConfig:
        """The settings with the number that ``search.batch_size: fit`` stands for.

        Raises:
            ConfigError: No batch fits.
        """
        if config.search.batch_size != "fit" or not config.search.trains_supernet:
            return config
        key = config.model_dump_json()
        if key not in self._fitted:
            self._fitted[key] = self._largest_batch(config)
        return config.changed("search", batch_size=self._fitted[key])

    def _largest_batch(self, config: TrialConfig) -> int:
        dataset, search = self.outline(config.dataset), PlannedSearch()
        most = min(search_part_sizes(dataset, config.search.architecture_fraction))
        batches = with_batches(config, "search", batch_sizes(config, most))
        found: int | None = self._largest(batches, search)
        if found is None and not batches.values:
            raise ConfigError(
                f"search.batch_size: 'fit': no power of two up to the {most} pictures is a "
                f"multiple of search.accumulate {config.search.accumulate}"
            )
        if found is None:
            needed = self._most(batches.changed(batches.values[0]), search)
            raise ConfigError(
                f"search.batch_size: 'fit': nothing fits runtime.memory_budget "
                f"({shown_bytes(self.budget)}); a batch of {batches.values[0]} with "
                f"search.recompute {config.search.recompute!r} needs {shown_bytes(needed)}"
            )
        return found

    def _configuration(self, point: Point) -> Configuration:
        outlook = self._outlook(point.config)
        check_batches(point.config, outlook.dataset)
        phases = {phase: _planned(phase, outlook) for phase in PHASES if phase.steps(outlook)}
        advice = tuple(
            self._advice(point.config, phase)
            for phase, planned_ in phases.items()
            if planned_.peak_bytes > self.budget
        )
        by_name = {phase.name: planned_ for phase, planned_ in phases.items()}
        peaks = {
            f"{name}_peak_bytes": (float(planned_.peak_bytes), planned_.exact)
            for name, planned_ in by_name.items()
        }
        figures = limited(self.constraints, peaks)
        note = _blanked(point.config.evaluate, outlook.dataset)
        return Configuration(point, by_name, advice, figures, note)

    def _outlook(self, config: TrialConfig) -> Outlook:
        return Outlook(config, self.outline(config.dataset), self.predictions, self.seeds)

    def _most(self, config: TrialConfig, phase: PlannedPhase) -> int:
        return max(phase.peaks(self._outlook(config)))

    # -- what would fit --------------------------------------------------------------------------

    def _advice(self, config: TrialConfig, phase: PlannedPhase) -> Advice:
        for remedies in (phase.remedies(config), phase.together(config)):
            found = [(remedy, self._largest(remedy, phase)) for remedy in remedies]
            changes = {
                remedy.path: f"{remedy.shown}{value}" if remedy.shown else value
                for remedy, value in found
                if value is not None
            }
            if changes:
                return Advice(phase.name, changes)
        smallest, tried = phase.smallest(config)
        return Advice(phase.name, {}, self._most(smallest, phase), tried)

    def _largest(self, remedy: Remedy, phase: PlannedPhase) -> Any | None:  # noqa: ANN401  # a value
        """The last of rising values with which a phase fits, found by halving."""
        low, high = 0, len(remedy.values)
        while low < high:
            middle = (low + high) // 2
            if self._most(remedy.changed(remedy.values[middle]), phase) <= self.budget:
                low = middle + 1
            else:
                high = middle
        return remedy.values[low - 1] if low else None


def _planned(phase: PlannedPhase, outlook: Outlook) -> PhasePlan:
    peaks = phase.peaks(outlook)
    steps, exact, average = phase.steps(outlook), phase.exact(outlook), phase.on_average(outlook)
    return PhasePlan(max(peaks), fmean(peaks), steps, exact, average)


def _blanked(evaluate: EvaluateSettings, dataset: Dataset) -> str:
    """That cutout covers whole pictures of a training, if it does."""
    cut, side = evaluate.augment.cutout, min(dataset.height, dataset.width)
    if not evaluate.evaluator.trains or cut < side:
        return ""
    always = cut >= 2 * max(dataset.height, dataset.width)
    return (
        f"evaluate.augment.cutout: {cut} {'blanks' if always else 'may blank'} pictures of "
        f"{dataset.width}×{dataset.height} pixels wholly, and nothing is learned from those; set "
        f"it to {side // 2} or less, or to 0 for none"
    )


def check_batches(config: TrialConfig, dataset: Dataset) -> None:
    """Whether every batch can be filled.

    Raises:
        ConfigError: There are fewer pictures than a batch holds.
    """
    whole = len(dataset.train)
    needs = []
    if config.evaluate.evaluator.trains:
        batch = config.evaluate.batch_size
        needs.append(("evaluate.batch_size", batch, whole, whole, "the network"))
    if config.search.trains_supernet:
        sizes = search_part_sizes(dataset, config.search.architecture_fraction)
        batch = config.search.pictures_at_once
        parts = zip(sizes, ("the weights of the supernet", "its architecture"), strict=True)
        needs += [("search.batch_size", batch, count, min(sizes), part) for count, part in parts]
    for path, batch, count, allowed, part in needs:
        if batch > count:
            raise ConfigError(
                f"{path}: {batch} is more than the {count} pictures that train {part}; "
                f"allowed: 2 to {allowed}"
            )


def fitted(file: StudyFile) -> StudyFile:
    """The study file, ``search.batch_size: fit`` resolved to a number at every point."""
    return replace(file, resolve=Planner.of(file).fitted)


def _phase_document(phase: PhasePlan, budget: int) -> dict[str, Any]:
    found = {
        "peak_bytes": phase.peak_bytes,
        "steps": phase.steps,
        "exact": phase.exact,
        "fits": phase.peak_bytes <= budget,
    }
    if phase.average_bytes is None:
        return found
    average = round(phase.average_bytes)
    return found | {"at_most_bytes": phase.peak_bytes, "on_average_bytes": average}


def document(plan: Plan) -> list[dict[str, Any]]:
    """The configurations as JSON holds them."""
    return [
        {
            "params": dict(configuration.point.values),
            "phases": {
                name: _phase_document(phase, plan.budget)
                for name, phase in configuration.phases.items()
            },
            "search_ratio_to_darts": plan.ratio_to_darts(configuration),
            "excluded": configuration.excluded,
            "advice": [
                {"phase": a.phase, "changes": dict(a.changes), "text": str(a)}
                for a in configuration.advice
            ],
        }
        for configuration in plan.configurations
    ]
