"""Each phase as a plan sees it: its steps, its peaks, and the settings that its memory follows.

A mask or a genotype that is not known yet is stood for by one like it; see `Outlook`.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch

from zostudy.config.settings import TrialConfig
from zostudy.data.batches import number_of_training_batches
from zostudy.data.dataset import Dataset
from zostudy.networks.mixing import Mixing
from zostudy.pruning.mask_sources import ExpectedMask, PruneContext
from zostudy.runtime import seeded
from zostudy.search.discretize import discretize
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext
from zostudy.study.planning.peak_memory import Predictions, search_part_sizes

#: From the least to the most that is computed again.
_RECOMPUTE = ("none", "partial", "full")


class Remedy(NamedTuple):
    """A setting that the memory of a phase follows.

    Attributes:
        path: Its path in a study file.
        values: Values of rising need.
        changed: The settings of the trial with one of them.
        shown: How a value is shown.
    """

    path: str
    values: Sequence[Any]
    changed: Callable[[Any], TrialConfig]
    shown: str = ""


@dataclass(frozen=True)
class Outlook:
    """What is known of a trial before it is run.

    Attributes:
        config: Its settings.
        dataset: The outline of its data.
        predictions: Peaks of phases.
        seeds: Seeds of its point.
    """

    config: TrialConfig
    dataset: Dataset
    predictions: Predictions
    seeds: Sequence[int]

    @property
    def masks_known(self) -> bool:
        """Whether the expected masks are the very ones."""
        source = self.config.mask_source
        return source.known and not source.scores

    @functools.cached_property
    def expected(self) -> list[ExpectedMask]:
        """The masks of the seeds, or one like them."""
        source = self.config.mask_source
        if self.masks_known:
            drawn = [source(self._context(seed)).mask for seed in self.seeds]
            return [ExpectedMask(mask, 0) for mask in drawn]
        context = self._context(0)
        if source.scores:
            return [source.expected(context)]
        return [ExpectedMask(OperationMask.full(context.space), 0)]

    def _context(self, seed: int) -> PruneContext:
        stage = StageContext(self.predictions.runtime, seed)
        return PruneContext.of(self.config, self.dataset, stage)


class PlannedPhase(abc.ABC):
    """A phase before it is run."""

    name: str

    @abc.abstractmethod
    def steps(self, outlook: Outlook) -> int:
        """Optimizer steps, or batches that are scored; 0 where the phase computes nothing."""

    @abc.abstractmethod
    def exact(self, outlook: Outlook) -> bool:
        """Whether its peak is known, and not only that of something like it."""

    @abc.abstractmethod
    def peaks(self, outlook: Outlook) -> list[int]:
        """Its peak for each mask that is expected, one a seed where seeds differ.

        An upper bound where it draws paths; see `on_average`.
        """

    def on_average(self, outlook: Outlook) -> float | None:
        """The mean peak of its steps over the masks, where it draws paths; nothing elsewhere."""
        del outlook
        return None

    @abc.abstractmethod
    def remedies(self, config: TrialConfig) -> list[Remedy]:
        """The settings that its memory follows, each of which may do by itself."""

    @abc.abstractmethod
    def together(self, config: TrialConfig) -> list[Remedy]:
        """What is tried where none of them does by itself."""

    @abc.abstractmethod
    def smallest(self, config: TrialConfig) -> tuple[TrialConfig, str]:
        """The settings of least memory, and what is small in them, in words."""


class PlannedPruning(PlannedPhase):
    """Pruning, where it scores."""

    name = "prune"

    def steps(self, outlook: Outlook) -> int:
        """Batches that are scored."""
        return max(one.steps for one in outlook.expected)

    def exact(self, outlook: Outlook) -> bool:
        """Always: the first pass is that of the whole supernet."""
        del outlook
        return True

    def peaks(self, outlook: Outlook) -> list[int]:
        """That of the whole supernet."""
        return [outlook.predictions.prune(outlook.config, outlook.dataset)]

    def remedies(self, config: TrialConfig) -> list[Remedy]:
        """None."""
        del config
        return []

    together = remedies

    def smallest(self, config: TrialConfig) -> tuple[TrialConfig, str]:
        """The settings as they are."""
        return config, "the supernet"


class PlannedSearch(PlannedPhase):
    """The search, where pruning leaves one."""

    name = "search"

    def steps(self, outlook: Outlook) -> int:
        """Steps of the weights, or architectures that are scored."""
        if outlook.expected[0].to_genotype or not outlook.config.search.searches:
            return 0
        settings = outlook.config.search
        if settings.strategy == "score":
            return settings.evaluations
        pictures, _ = search_part_sizes(outlook.dataset, settings.architecture_fraction)
        return number_of_training_batches(pictures, settings.pictures_at_once) * settings.epochs

    def exact(self, outlook: Outlook) -> bool:
        """Where the masks are known, and so is what is computed in them."""
        return outlook.masks_known and outlook.config.search.strategy == "bilevel"

    def peaks(self, outlook: Outlook) -> list[int]:
        """One for each mask."""
        config, dataset = outlook.config, outlook.dataset
        return [outlook.predictions.search(config, one.mask, dataset) for one in outlook.expected]

    def on_average(self, outlook: Outlook) -> float | None:
        """The mean over drawn paths and masks."""
        config, dataset, predictions = outlook.config, outlook.dataset, outlook.predictions
        means = [
            predictions.search_on_average(config, one.mask, dataset) for one in outlook.expected
        ]
        drawn = [mean for mean in means if mean is not None]
        return fmean(drawn) if drawn else None

    def remedies(self, config: TrialConfig) -> list[Remedy]:
        """A smaller batch, a stronger pruning, more recomputation."""
        if config.search.strategy == "score":
            return _stronger_pruning(config)
        stronger = _RECOMPUTE[_RECOMPUTE.index(config.search.recompute) + 1 :]
        batches = batch_sizes(config, config.search.pictures_at_once - 1)
        return [
            with_batches(config, "search", batches),
            *_stronger_pruning(config),
            Remedy(
                "search.recompute",
                stronger[::-1],
                lambda value: config.changed("search", recompute=value),
            ),
        ]

    def together(self, config: TrialConfig) -> list[Remedy]:
        """A smaller batch with full recomputation."""
        if config.search.strategy == "score":
            return []
        sizes = batch_sizes(config, config.search.pictures_at_once)
        batches = with_batches(config.changed("search", recompute="full"), "search", sizes)
        shown = "full together with search.batch_size="
        return [batches._replace(path="search.recompute", shown=shown)]

    def smallest(self, config: TrialConfig) -> tuple[TrialConfig, str]:
        """The smallest batch with full recomputation."""
        if config.search.strategy == "score":
            return config, "the largest architecture"
        most = config.search.pictures_at_once
        size = (*batch_sizes(config, most), most)[0]
        found = config.changed("search", batch_size=size, recompute="full")
        return found, f"search.batch_size={size} with search.recompute=full"


class PlannedEvaluation(PlannedPhase):
    """The evaluation, where it trains."""

    name = "evaluate"

    def steps(self, outlook: Outlook) -> int:
        """Steps of the training."""
        settings, pictures = outlook.config.evaluate, len(outlook.dataset.train)
        if not settings.evaluator.trains:
            return 0
        return number_of_training_batches(pictures, settings.batch_size) * settings.epochs

    def exact(self, outlook: Outlook) -> bool:
        """Never: the genotype is not known."""
        del outlook
        return False

    def peaks(self, outlook: Outlook) -> list[int]:
        """That of some genotype."""
        genotype = some_genotype(outlook.expected[0].mask)
        return [outlook.predictions.evaluate(outlook.config, genotype, outlook.dataset)]

    def remedies(self, config: TrialConfig) -> list[Remedy]:
        """A smaller batch."""
        return [with_batches(config, "evaluate", _powers(config.evaluate.batch_size - 1))]

    def together(self, config: TrialConfig) -> list[Remedy]:
        """None."""
        del config
        return []

    def smallest(self, config: TrialConfig) -> tuple[TrialConfig, str]:
        """The smallest batch."""
        return config.changed("evaluate", batch_size=2), "evaluate.batch_size=2"


#: The phases of a trial in their order.
PHASES: tuple[PlannedPhase, ...] = (PlannedPruning(), PlannedSearch(), PlannedEvaluation())


def with_batches(config: TrialConfig, section: str, sizes: Sequence[int]) -> Remedy:
    """Batches of some sizes."""
    return Remedy(
        f"{section}.batch_size", sizes, lambda size: config.changed(section, batch_size=size)
    )


def _stronger_pruning(config: TrialConfig) -> list[Remedy]:
    """A mask of fewer operations, where its source has an option for that."""
    option, options = config.mask_source.level, config.prune.options
    if not option:
        return []
    shares = [step / 20 for step in range(1, 20) if step / 20 < options[option]]

    def with_share(value: float) -> TrialConfig:
        return config.changed("prune", options={**options, option: value})

    return [Remedy(f"prune.{option}", shares, with_share)]


def batch_sizes(config: TrialConfig, most: int) -> list[int]:
    """Batches of a search: powers of two up to a number that the micro-batches divide."""
    return [size for size in _powers(most) if size % config.search.accumulate == 0]


def _powers(most: int) -> list[int]:
    """Powers of two from 2 up to a number."""
    return [1 << power for power in range(1, max(most, 1).bit_length())]


def some_genotype(mask: OperationMask) -> Genotype:
    """A genotype that the mask allows, always the same one."""
    generator = seeded("cpu", "plan/genotype")
    space = mask.space
    weights = {
        kind: torch.rand(len(rows), len(space.operations), generator=generator) * torch.tensor(rows)
        for kind, rows in mask.rows.items()
    }
    return discretize(Mixing(weights, {k: torch.ones(len(w)) for k, w in weights.items()}), mask)
