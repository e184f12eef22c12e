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

import torch

from zostudy.config.limits import ConstraintSettings
from zostudy.config.loading import StudyFile
from zostudy.config.search import SearchSettings
from zostudy.config.settings import DatasetSettings, EvaluateSettings, TrialConfig
from zostudy.config.sizes import shown_bytes
from zostudy.data import dataset as datasets
from zostudy.data.batches import number_of_training_batches
from zostudy.data.dataset import Dataset
from zostudy.errors import ConfigError
from zostudy.networks.mixing import Mixing
from zostudy.pruning.mask_sources import ExpectedMask
from zostudy.runtime import memory_budget, planned, seeded
from zostudy.search.discretize import discretize
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext
from zostudy.study.planning.constraints import Limited, broken, limited
from zostudy.study.planning.peak_memory import (
    Predictions,
    mask_source,
    prune_context,
    search_part_sizes,
)
from zostudy.study.planning.remedies import batch_sizes, changes_of, smallest_of, with_settings
from zostudy.study.points import Point

T = TypeVar("T")


@dataclass(frozen=True)
class PhasePlan:
    """One phase of a configuration.

    Attributes:
        peak_bytes: Predicted peak of live tensors, the largest over the seeds.
        mean_bytes: Its mean over the seeds.
        steps: Optimizer steps, or batches that are scored.
        exact: Whether mask or genotype are known, and not only the like of them.
    """

    peak_bytes: int
    mean_bytes: float
    steps: int
    exact: bool


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
    """

    point: Point
    phases: Mapping[str, PhasePlan]
    advice: tuple[Advice, ...] = ()
    limited: tuple[Limited, ...] = ()

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
        if config.search.batch_size != "fit" or config.search.strategy == "none":
            return config
        key = config.model_dump_json()
        if key not in self._fitted:
            self._fitted[key] = self._largest_batch(config)
        return with_settings(config, "search", batch_size=self._fitted[key])

    def _largest_batch(self, config: TrialConfig) -> int:
        dataset = self.outline(config.dataset)
        most = min(search_part_sizes(dataset, config.search.architecture_fraction))
        sizes = batch_sizes(most, config.search.accumulate)
        found = self._largest(
            sizes, lambda n: with_settings(config, "search", batch_size=n), "search"
        )
        if found is None and not sizes:
            raise ConfigError(
                f"search.batch_size: 'fit': no power of two up to the {most} pictures is a "
                f"multiple of search.accumulate {config.search.accumulate}"
            )
        if found is None:
            needed = self._most(with_settings(config, "search", batch_size=sizes[0]), "search")
            raise ConfigError(
                f"search.batch_size: 'fit': nothing fits runtime.memory_budget "
                f"({shown_bytes(self.budget)}); a batch of {sizes[0]} with search.recompute "
                f"{config.search.recompute!r} needs {shown_bytes(needed)}"
            )
        return found

    def _configuration(self, point: Point) -> Configuration:
        check_batches(point.config, self.outline(point.config.dataset))
        phases = self._phases(point.config)
        advice = tuple(
            self._advice(point.config, name)
            for name, phase in phases.items()
            if phase.peak_bytes > self.budget
        )
        peaks = {
            f"{name}_peak_bytes": (float(phase.peak_bytes), phase.exact)
            for name, phase in phases.items()
        }
        return Configuration(point, phases, advice, limited(self.constraints, peaks))

    def _phases(self, config: TrialConfig) -> dict[str, PhasePlan]:
        dataset = self.outline(config.dataset)
        expected, known = self._masks(config)
        counts = {}
        if config.evaluate.by == "training":
            counts["evaluate"] = _batches(len(dataset.train), config.evaluate)
        if not expected[0].to_genotype:
            pictures = search_part_sizes(dataset, config.search.architecture_fraction)[0]
            counts["search"] = _batches(pictures, config.search)
        if any(one.steps for one in expected):
            counts["prune"] = max(one.steps for one in expected)
        exact = {"prune": True, "search": known, "evaluate": False}
        phases = {}
        for name in (phase for phase in exact if phase in counts):
            peaks = self._peaks(config, name)
            phases[name] = PhasePlan(max(peaks), fmean(peaks), counts[name], exact[name])
        return phases

    def _peaks(self, config: TrialConfig, phase: str) -> list[int]:
        """The peak of a phase for each mask that is expected, one a seed where seeds differ."""
        dataset = self.outline(config.dataset)
        if phase == "prune":
            return [self.predictions.prune(config, dataset)]
        masks = [expected.mask for expected in self._masks(config)[0]]
        if phase == "search":
            return [self.predictions.search(config, mask, dataset) for mask in masks]
        return [self.predictions.evaluate(config, _some_genotype(masks[0]), dataset)]

    def _most(self, config: TrialConfig, phase: str) -> int:
        return max(self._peaks(config, phase))

    def _masks(self, config: TrialConfig) -> tuple[list[ExpectedMask], bool]:
        """The masks of the seeds, or one like them, and whether they are the very ones."""
        source, dataset = mask_source(config), self.outline(config.dataset)
        expected_mask = source.facts.get("expected_mask")
        options = config.prune.options

        def context(seed: int) -> Any:  # noqa: ANN401  # a PruneContext
            return prune_context(config, dataset, StageContext(self.predictions.runtime, seed))

        if expected_mask is not None:
            return [source.sibling(str(expected_mask))(context(0), **options)], False
        if source.facts.get("known") is True:
            drawn = [source.load()(context(seed), **options).mask for seed in self.seeds]
            return [ExpectedMask(mask, 0) for mask in drawn], True
        return [ExpectedMask(OperationMask.full(context(0).space), 0)], False

    # -- what would fit --------------------------------------------------------------------------

    def _advice(self, config: TrialConfig, phase: str) -> Advice:
        changes: dict[str, Any] = {}
        for path, values, changed in changes_of(config, phase):
            found = self._largest(values, changed, phase)
            if found is not None:
                changes[path] = found
        if changes or phase == "prune":
            return Advice(phase, changes, self._most(config, phase), "the supernet")
        smallest = smallest_of(config, phase)
        if phase == "search" and self._most(smallest, phase) <= self.budget:
            sizes = batch_sizes(config.search.pictures_at_once, config.search.accumulate)
            full = with_settings(config, "search", recompute="full")
            found = self._largest(
                sizes, lambda n: with_settings(full, "search", batch_size=n), phase
            )
            both = f"full together with search.batch_size={found}"
            return Advice(phase, {"search.recompute": both})
        section = getattr(smallest, phase)
        tried = f"{phase}.batch_size={section.batch_size}"
        if phase == "search":
            tried += " with search.recompute=full"
        return Advice(phase, {}, self._most(smallest, phase), tried)

    def _largest(
        self, values: Sequence[T], changed: Callable[[T], TrialConfig], phase: str
    ) -> T | None:
        """The last of rising values with which a phase fits, found by halving."""
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            if self._most(changed(values[middle]), phase) <= self.budget:
                low = middle + 1
            else:
                high = middle
        return values[low - 1] if low else None


def _batches(pictures: int, settings: SearchSettings | EvaluateSettings) -> int:
    """Batches of all epochs."""
    batch = (
        settings.batch_size
        if isinstance(settings, EvaluateSettings)
        else (settings.pictures_at_once)
    )
    return number_of_training_batches(pictures, batch) * settings.epochs


def _some_genotype(mask: OperationMask) -> Genotype:
    """A genotype that the mask allows, always the same one."""
    generator = seeded("cpu", "plan/genotype")
    space = mask.space
    weights = {
        kind: torch.rand(len(rows), len(space.operations), generator=generator) * torch.tensor(rows)
        for kind, rows in mask.rows.items()
    }
    return discretize(Mixing(weights, {k: torch.ones(len(w)) for k, w in weights.items()}), mask)


def check_batches(config: TrialConfig, dataset: Dataset) -> None:
    """Whether every batch can be filled.

    Raises:
        ConfigError: There are fewer pictures than a batch holds.
    """
    whole = len(dataset.train)
    needs = []
    if config.evaluate.by == "training":
        batch = config.evaluate.batch_size
        needs.append(("evaluate.batch_size", batch, whole, whole, "the network"))
    if config.search.strategy != "none":
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


def document(plan: Plan) -> list[dict[str, Any]]:
    """The configurations as JSON holds them."""
    return [
        {
            "params": dict(configuration.point.values),
            "phases": {
                name: {
                    "peak_bytes": phase.peak_bytes,
                    "steps": phase.steps,
                    "exact": phase.exact,
                    "fits": phase.peak_bytes <= plan.budget,
                }
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
