"""Bilevel one-shot search: weights and architecture in alternating steps (METHOD section 4)."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zostudy.config.settings import SearchSettings, SupernetSettings
from zostudy.data.batches import Batch, number_of_training_batches, training_batches
from zostudy.data.dataset import Dataset
from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.registry import find
from zostudy.runtime import seed_everything, seeded
from zostudy.search import steps
from zostudy.search.discretize import discretize
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import Progress, StageContext

#: Streams of the trial's seed, one a use.
_WEIGHT_BATCHES = "search/weight batches"
_ARCHITECTURE_BATCHES = "search/architecture batches"
_ARCHITECTURE = "search/architecture"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        genotype: The genotype of the last epoch's α.
        history: For each epoch, its figures.
        alpha_history: For each epoch, softmax(α) by cell type, [edge][operation].
        seconds: Time it took, earlier sessions counted in.
        peak_bytes: Most live tensor bytes of a step (CPU), or the allocator's peak (CUDA).
        figures: Further figures of memory.
    """

    genotype: Genotype
    history: Sequence[Mapping[str, float]]
    alpha_history: Sequence[Mapping[str, list[list[float]]]]
    seconds: float
    peak_bytes: int
    figures: Mapping[str, float]


def search(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    context: StageContext,
    extensions: tuple[str, ...] = (),
) -> SearchResult:
    """Search the supernet that a mask leaves.

    Resumes from the context's checkpoint, and saves to it after every epoch.

    Args:
        mask: What is searched.
        dataset: The data set; half of its training part trains w, the other half α.
        supernet: Size of the supernet.
        settings: The search.
        context: Device, seed, checkpoint and report.
        extensions: Modules that may declare further components.

    Raises:
        NumericalError: A loss is not finite.
    """
    session = _Session(mask, dataset, supernet, settings, context, extensions)
    session.resume()
    while session.epoch < settings.epochs:
        session.train_epoch()
    return session.result()


class _Session:
    """The state of a search between epochs."""

    def __init__(  # what `search` is given
        self,
        mask: OperationMask,
        dataset: Dataset,
        supernet: SupernetSettings,
        settings: SearchSettings,
        context: StageContext,
        extensions: tuple[str, ...],
    ) -> None:
        self.settings = settings
        self.context = context
        self.dataset = dataset
        self.device = context.runtime.device
        seed_everything(context.seed)
        self.supernet = Supernet(
            mask.space,
            mask,
            supernet,
            in_channels=dataset.channels,
            classes=len(dataset.classes),
            recompute=settings.recompute,
            extensions=extensions,
        )
        self.supernet.initialize_architecture_(seeded("cpu", context.seed, _ARCHITECTURE))
        self.supernet.to(self.device)
        self.weights = self.supernet.weight_parameters()
        self.architecture = self.supernet.architecture_parameters()
        sgd, adam = settings.weights, settings.architecture
        self.weight_optimizer = torch.optim.SGD(
            self.weights,
            lr=sgd.learning_rate,
            momentum=sgd.momentum,
            weight_decay=sgd.weight_decay,
        )
        self.architecture_optimizer = torch.optim.Adam(
            self.architecture,
            lr=adam.learning_rate,
            betas=adam.betas,
            weight_decay=adam.weight_decay,
        )
        component = find(
            "regularizer", settings.regularizer.name, "search.regularizer.name", extensions
        )
        self.regularizer = component.load()
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
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
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
                "weight_optimizer": self.weight_optimizer.state_dict(),
                "architecture_optimizer": self.architecture_optimizer.state_dict(),
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
        for group in self.weight_optimizer.param_groups:
            group["lr"] = rate
        searching = self.epoch >= self.settings.warmup_epochs
        figures = self._steps(searching)
        figures["learning_rate"] = rate
        mixing = self.supernet.mixing()
        self.alpha_history.append(
            {kind: weights.detach().tolist() for kind, weights in mixing.operations.items()}
        )
        self.epoch += 1
        self.history.append(figures)
        self.seconds += time.perf_counter() - started
        self._save()
        self.context.report(Progress("search", self.epoch, total, figures))

    def _steps(self, searching: bool) -> dict[str, float]:  # one of two kinds
        """The epoch's steps; mean losses and accuracies in percent."""
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        architecture_sum = torch.zeros(2, dtype=torch.float64, device=self.device)
        others = self._architecture_batches() if searching else itertools.repeat(None)
        steps_done = number_of_training_batches(
            len(self.pictures["weights"]), self.settings.batch_size
        )
        # The first step in which every optimizer has its state: the step of most memory.
        sampled = min(1, steps_done - 1) if self.epoch == self.settings.warmup_epochs else -1
        for index, (batch, other) in enumerate(zip(self._batches("weights"), others, strict=False)):
            held = (self.supernet, self.weight_optimizer, self.architecture_optimizer)
            with (
                self.memory.sample(*held, *batch, *(other or ()))
                if index == sampled
                else contextlib.nullcontext()
            ):
                losses, architecture = self._step(batch, other)
            sums += losses
            architecture_sum += architecture
        loss = float(sums[0] + architecture_sum[0])
        if not math.isfinite(loss):
            raise NumericalError(f"search: the loss is {loss} in epoch {self.epoch + 1}")
        figures = {
            "train_loss": float(sums[0]) / steps_done,
            "train_accuracy": 100 * float(sums[1] / sums[2]),
        }
        if searching:
            figures["architecture_loss"] = float(architecture_sum[0]) / steps_done
            figures["architecture_accuracy"] = 100 * float(architecture_sum[1]) / steps_done
        return figures

    def _step(self, batch: Batch, other: Batch | None) -> tuple[Tensor, Tensor]:
        """An architecture step, where there is a batch for it, and a weight step.

        Returns:
            (loss, correct, pictures) of the weight batch and (loss, share correct) of the other.
        """
        architecture = torch.zeros(2, dtype=torch.float64, device=self.device)
        if other is not None:
            architecture = self._architecture_step(batch, other)
        with self.context.runtime.autocast():
            logits = self.supernet(batch[0])
            loss = functional.cross_entropy(logits, batch[1])
        torch.autograd.backward(loss, inputs=self.weights)
        torch.nn.utils.clip_grad_norm_(self.weights, self.settings.weights.clip_norm)
        self.weight_optimizer.step()
        self.weight_optimizer.zero_grad(set_to_none=True)
        correct = (logits.detach().argmax(dim=1) == batch[1]).sum()
        counted = torch.tensor(float(len(batch[1])), device=self.device)
        return torch.stack([loss.detach(), correct, counted]).double(), architecture

    def _architecture_step(self, batch: Batch, other: Batch) -> Tensor:
        hits: list[Tensor] = []

        def architecture_loss() -> Tensor:
            with self.context.runtime.autocast():
                logits = self.supernet(other[0])
                loss = functional.cross_entropy(logits, other[1])
            hits.append((logits.detach().argmax(dim=1) == other[1]).double().mean())
            return loss + self._regularization()

        def training_loss() -> Tensor:
            with self.context.runtime.autocast():
                return functional.cross_entropy(self.supernet(batch[0]), batch[1])

        if self.settings.order == "second":
            found, loss = steps.second_order(
                architecture_loss,
                training_loss,
                self.architecture,
                self.weights,
                self.weight_optimizer,
            )
        else:
            found, loss = steps.first_order(architecture_loss, self.architecture)
        for parameter, gradient in zip(self.architecture, found, strict=True):
            parameter.grad = gradient
        self.architecture_optimizer.step()
        self.architecture_optimizer.zero_grad(set_to_none=True)
        return torch.stack([loss.double(), hits[-1]])

    def _regularization(self) -> Tensor:
        kinds = self.supernet.space.cell_types
        alpha = torch.cat([self.supernet.alpha[kind] for kind in kinds])
        mask = torch.cat([self.supernet.mask_of(kind) for kind in kinds])
        options: dict[str, Any] = self.settings.regularizer.options
        term: Tensor = self.regularizer(alpha, mask, self.epoch, self.settings.epochs, **options)
        return term

    def _batches(self, part: str) -> Iterator[Batch]:
        """One epoch of the pictures that train the weights, or of those that train α."""
        return training_batches(
            self.dataset,
            self.pictures[part],
            self.settings.batch_size,
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
            self.memory.figures(),
        )
