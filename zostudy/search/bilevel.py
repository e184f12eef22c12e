"""Bilevel one-shot search: weights and architecture in turn (docs/method.md, section 4)."""

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zostudy.config.settings import SearchSettings, SupernetSettings
from zostudy.data.batches import Batch, number_of_training_batches, training_batches
from zostudy.data.dataset import Dataset
from zostudy.errors import NumericalError
from zostudy.networks.dry_run import make_state, predicted_peak
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.runtime import Runtime, seed_everything, seeded
from zostudy.search.discretize import discretize
from zostudy.search.learner import Learner
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace
from zostudy.stage import Progress, StageContext

#: Steps of an epoch, and epochs, whose memory is measured.
_SAMPLED = 2

#: Streams of the trial's seed, one a use.
_WEIGHT_BATCHES = "search/weight batches"
_ARCHITECTURE_BATCHES = "search/architecture batches"
_ARCHITECTURE = "search/architecture"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        genotype: The genotype of the last epoch's α.
        history: For each epoch, its metrics.
        alpha_history: For each epoch, softmax(α) by cell type, edge and operation.
        seconds: Time it took, earlier sessions counted in.
        peak_bytes: Most live tensor bytes of a step (CPU), or the allocator's peak (CUDA).
        metrics: Further metrics of memory.
    """

    genotype: Genotype
    history: Sequence[Mapping[str, float]]
    alpha_history: Sequence[Mapping[str, list[list[float]]]]
    seconds: float
    peak_bytes: int
    metrics: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as a record keeps them."""
        return {
            "genotype": self.genotype.to_dict(),
            "history": list(self.history),
            "alpha_history": list(self.alpha_history),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "figures": dict(self.metrics),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], space: SearchSpace) -> "SearchResult":
        """A result from what `to_dict` gave."""
        return cls(
            genotypes.from_dict(data["genotype"], space.extensions),
            data["history"],
            data["alpha_history"],
            data["seconds"],
            data["peak_bytes"],
            data["figures"],
        )


def search(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    context: StageContext,
) -> SearchResult:
    """Search the supernet that a mask leaves.

    Resumes from the context's checkpoint, and saves to it after every epoch.

    Args:
        mask: What is searched.
        dataset: The data set; half of its training part trains w, the other half α.
        supernet: Size of the supernet.
        settings: The search.
        context: Device, seed, checkpoint and report.

    Raises:
        NumericalError: A loss is not finite.
    """
    session = _Session(mask, dataset, supernet, settings, context)
    session.resume()
    while session.epoch < settings.epochs:
        session.train_epoch()
    return session.result()


def predict_peak(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    runtime: Runtime,
) -> int:
    """The peak that `search` will measure on the CPU, from a step without numbers.

    Args:
        mask: What is searched.
        dataset: The data set, or its outline.
        supernet: Size of the supernet.
        settings: The search.
        runtime: Its precision counts.

    Returns:
        Bytes of live tensors.
    """

    def step(imaginary: Runtime) -> None:
        context = StageContext(imaginary, seed=0)
        session = _Session(mask, dataset.outline(), supernet, settings, context)
        session.later_step()

    return predicted_peak(step, runtime)


class _Session:
    """The state of a search between epochs."""

    def __init__(  # what `search` is given
        self,
        mask: OperationMask,
        dataset: Dataset,
        supernet: SupernetSettings,
        settings: SearchSettings,
        context: StageContext,
    ) -> None:
        self.settings = settings
        self.context = context
        self.dataset = dataset
        self.device = context.runtime.device
        seed_everything(context.seed)
        with context.runtime.initialization_device:
            self.supernet = Supernet(
                mask.space,
                mask,
                supernet,
                in_channels=dataset.channels,
                classes=len(dataset.classes),
                recompute=settings.recompute,
            )
        self.supernet.initialize_architecture_(seeded("cpu", context.seed, _ARCHITECTURE))
        self.supernet.to(self.device)
        self.learner = Learner(self.supernet, settings, context.runtime)
        self.generators = {
            name: seeded("cpu", context.seed, stream)
            for name, stream in (
                ("weights", _WEIGHT_BATCHES),
                ("architecture", _ARCHITECTURE_BATCHES),
            )
        }
        parts = dataset.search_parts(settings.architecture_fraction)
        self.pictures = dict(zip(("weights", "architecture"), parts, strict=True))
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.alpha_history: list[dict[str, list[list[float]]]] = []
        self.seconds = 0.0
        self.memory = PeakMemory(self.device)

    def resume(self) -> None:
        """Take up the state of an earlier session, if there is one."""
        state = self.context.checkpoint.load()
        if state is None:
            return
        self.supernet.load_state_dict(state["supernet"])
        self.learner.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.learner.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        self.epoch = state["epoch"]
        self.history = state["history"]
        self.alpha_history = state["alpha_history"]
        self.seconds = state["seconds"]
        self.memory = PeakMemory(self.device, before=state["peak_bytes"])

    def _save(self) -> None:
        self.context.checkpoint.save(
            {
                "supernet": self.supernet.state_dict(),
                "weight_optimizer": self.learner.weight_optimizer.state_dict(),
                "architecture_optimizer": self.learner.architecture_optimizer.state_dict(),
                "generators": {n: g.get_state() for n, g in self.generators.items()},
                "epoch": self.epoch,
                "history": self.history,
                "alpha_history": self.alpha_history,
                "seconds": self.seconds,
                "peak_bytes": self.memory.peak_bytes,
            }
        )

    def train_epoch(self) -> None:
        """One epoch over the pictures that train the weights, saved and reported."""
        started = time.perf_counter()
        total = self.settings.epochs
        rate = self.settings.weights.learning_rate_at(self.epoch, total)
        for group in self.learner.weight_optimizer.param_groups:
            group["lr"] = rate
        searching = self.epoch >= self.settings.warmup_epochs
        metrics = self._steps(searching)
        metrics["learning_rate"] = rate
        mixing = self.supernet.mixing()
        self.alpha_history.append(
            {kind: weights.detach().tolist() for kind, weights in mixing.operations.items()}
        )
        self.epoch += 1
        self.history.append(metrics)
        self.seconds += time.perf_counter() - started
        self._save()
        self.context.report(Progress("search", self.epoch, total, metrics))

    def _steps(self, searching: bool) -> dict[str, float]:  # one of two kinds
        """The epoch's steps; mean losses and accuracies in percent."""
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        architecture_sum = torch.zeros(2, dtype=torch.float64, device=self.device)
        others = self._architecture_batches() if searching else itertools.repeat(None)
        steps_done = number_of_training_batches(
            len(self.pictures["weights"]), self.settings.pictures_at_once
        )
        # Whole batches with and without the optimizers' state are among these few.
        sampled = searching and self.epoch - self.settings.warmup_epochs < _SAMPLED
        for index, (batch, other) in enumerate(zip(self._batches("weights"), others, strict=False)):
            step = self._sampled_step if sampled and index < _SAMPLED else self.learner.step
            losses, architecture = step(batch, other, self.epoch)
            sums += losses
            architecture_sum += architecture
        loss = float(sums[0] + architecture_sum[0])
        if not math.isfinite(loss):
            raise NumericalError(f"search: the loss is {loss} in epoch {self.epoch + 1}")
        metrics = {
            "train_loss": float(sums[0]) / steps_done,
            "train_accuracy": 100 * float(sums[1] / sums[2]),
        }
        if searching:
            metrics["architecture_loss"] = float(architecture_sum[0]) / steps_done
            metrics["architecture_accuracy"] = 100 * float(architecture_sum[1]) / steps_done
        return metrics

    def _sampled_step(self, batch: Batch, other: Batch | None, epoch: int) -> tuple[Tensor, Tensor]:
        """A step whose memory is measured."""
        with self.memory.sample(*self.learner.held(), *batch, *(other or ())):
            return self.learner.step(batch, other, epoch)

    def later_step(self) -> None:
        """A step as any but the first: the optimizers have their state."""
        make_state(self.learner.weight_optimizer, self.learner.architecture_optimizer)
        batch, other = (next(self._batches(part)) for part in ("weights", "architecture"))
        self._sampled_step(batch, other, self.settings.warmup_epochs)

    def _batches(self, part: str) -> Iterator[Batch]:
        """One epoch of the pictures that train the weights, or of those that train α."""
        return training_batches(
            self.dataset,
            self.pictures[part],
            self.settings.pictures_at_once,
            self.settings.augment,
            self.generators[part],
            self.device,
        )

    def _architecture_batches(self) -> Iterator[Batch]:
        while True:
            yield from self._batches("architecture")

    def result(self) -> SearchResult:
        """The genotype and the record of the search."""
        mixing = self.supernet.mixing()
        return SearchResult(
            discretize(mixing, self.supernet.mask),
            self.history,
            self.alpha_history,
            self.seconds,
            self.memory.peak_bytes,
            self.memory.metrics(),
        )
