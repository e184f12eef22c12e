"""The state of a search between epochs: supernet, optimizers, streams of random numbers, record."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.batches import (
    Batch,
    evaluation_batches,
    number_of_training_batches,
    training_batches,
)
from zostudy.data.dataset import Dataset
from zostudy.errors import NumericalError
from zostudy.networks.dry_run import make_state
from zostudy.networks.memory import PeakMemory
from zostudy.networks.mixing import Mixing
from zostudy.networks.supernet import Supernet
from zostudy.runtime import seed_everything, seeded
from zostudy.search import decision
from zostudy.search.discretize import discretize
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer, auxiliary_operations
from zostudy.search.schedules import Restage, SearchRecord, Stop, later_stages, stage_starts
from zostudy.search.selections import Searched
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.mask import from_dict as mask_from_dict
from zostudy.stage import Progress, StageContext

#: Steps of an epoch, and epochs, whose memory is measured.
_SAMPLED = 2

#: Streams of the trial's seed, one a use.
_WEIGHT_BATCHES = "search/weight batches"
_ARCHITECTURE_BATCHES = "search/architecture batches"
_ARCHITECTURE = "search/architecture"
_WEIGHTS = "search/weights"
_MIXING = "search/mixing"


class Session:
    """A search between epochs.

    Args:
        mask: What is searched at first.
        dataset: The data set.
        supernet: Size of the first supernet.
        settings: The search.
        context: Device, seed, checkpoint and report.
        order: See `Mixer`.

    Attributes:
        settings: The search.
        epoch: Epochs that are done.
        reason: Why it ended before its last epoch; empty if it did not.
        history: For each epoch, its metrics.
        alpha_history: For each epoch, the strengths of the operations.
        genotypes: The genotype of the strengths at the start, then that of each epoch.
        seconds: Time it took.
        memory: What was measured.
    """

    def __init__(
        self,
        mask: OperationMask,
        dataset: Dataset,
        supernet: SupernetSettings,
        settings: SearchSettings,
        context: StageContext,
        order: Sequence[int] = (),
    ) -> None:
        self.settings = settings
        self.context = context
        self.dataset = dataset
        self.device = context.runtime.device
        self.order = order
        self.generators = {
            name: seeded("cpu", context.seed, stream)
            for name, stream in (
                ("weights", _WEIGHT_BATCHES),
                ("architecture", _ARCHITECTURE_BATCHES),
                ("mixing", _MIXING),
            )
        }
        parts = dataset.search_parts(settings.architecture_fraction)
        self.pictures = dict(zip(("weights", "architecture"), parts, strict=True))
        self.epoch = 0
        self.reason = ""
        self.history: list[dict[str, float]] = []
        self.alpha_history: list[dict[str, list[list[float]]]] = []
        self.genotypes: list[Genotype] = []
        self.eigenvalues: list[float] = []
        self.seconds = 0.0
        self.memory = PeakMemory(self.device)
        self._last_epoch = settings.epochs  # the one whose α gives the genotype
        self._start = 0.0
        self._stages = 1 + len(later_stages(mask, supernet, settings))
        self._build(mask, supernet, begin=0)

    def _build(self, mask: OperationMask, supernet: SupernetSettings, begin: int) -> None:
        """A supernet with fresh weights and α, for a stage that begins with an epoch."""
        self.supernet_settings, self.begin = supernet, begin
        # A later stage's weights follow from its beginning, not from what was drawn before it.
        own = seeded("cpu", self.context.seed, f"{_WEIGHTS}/{begin}").initial_seed()
        seed_everything(own if begin else self.context.seed)
        with self.context.runtime.initialization_device:
            self.supernet = Supernet(
                mask.space,
                mask,
                supernet,
                in_channels=self.dataset.channels,
                classes=len(self.dataset.classes),
                auxiliary=auxiliary_operations(self.settings),
                recompute=self.settings.recompute,
            )
        stream = _ARCHITECTURE if begin == 0 else f"{_ARCHITECTURE}/{begin}"
        self.supernet.initialize_architecture_(seeded("cpu", self.context.seed, stream))
        self.supernet.to(self.device)
        mixer = Mixer(self.supernet, self.settings, self.generators["mixing"], self.order)
        self.learner = Learner(self.supernet, mixer, self.settings, self.context.runtime)

    @property
    def ended(self) -> bool:
        """Whether no epoch is left."""
        return bool(self.reason) or self.epoch >= self.settings.epochs

    @property
    def by_strength(self) -> bool:
        """Whether the selection goes by the strengths of α."""
        return bool(
            self._component("selection", self.settings.selection.name).facts.get("by_strength")
        )

    def resume(self) -> None:
        """Take up the state of an earlier session, if there is one."""
        state = self.context.checkpoint.load()
        if state is None:
            self._start = decision.margin(self._strengths(), self.supernet.mask)
            self.genotypes = [discretize(self.learner.mixer.strengths(), self.supernet.mask)]
            return
        if state["stage"]["begin"] or state["stage"]["mask"] != self.supernet.mask.to_dict():
            mask = mask_from_dict(state["stage"]["mask"], self.supernet.space)
            size = self.supernet_settings.model_copy(update={"cells": state["stage"]["cells"]})
            self._build(mask, size, state["stage"]["begin"])
        self.supernet.load_state_dict(state["supernet"])
        self.learner.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.learner.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self.learner.freezer.load_state_dict(state["freezer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        for name in _RECORDED:
            setattr(self, name, state[name])
        extensions = self.supernet.space.extensions
        self.genotypes = [genotypes.from_dict(one, extensions) for one in state["genotypes"]]
        self.memory = PeakMemory(self.device, before=state["peak_bytes"])

    def _save(self) -> None:
        self.context.checkpoint.save(
            {
                "stage": {
                    "mask": self.supernet.mask.to_dict(),
                    "cells": self.supernet_settings.cells,
                    "begin": self.begin,
                },
                "supernet": self.supernet.state_dict(),
                "weight_optimizer": self.learner.weight_optimizer.state_dict(),
                "architecture_optimizer": self.learner.architecture_optimizer.state_dict(),
                "freezer": self.learner.freezer.state_dict(),
                "generators": {n: g.get_state() for n, g in self.generators.items()},
                "peak_bytes": self.memory.peak_bytes,
                "genotypes": [genotype.to_dict() for genotype in self.genotypes],
            }
            | {name: getattr(self, name) for name in _RECORDED}
        )

    def train_epoch(self) -> None:
        """One epoch over the pictures that train the weights, saved and reported."""
        started = time.perf_counter()
        begin, end, warmup = self._stage()
        rate = self.settings.weights.learning_rate_at(self.epoch - begin, end - begin)
        for group in self.learner.weight_optimizer.param_groups:
            group["lr"] = rate
        searching = self.epoch - begin >= warmup
        metrics = self._steps(searching, self.epoch - begin - warmup)
        metrics["learning_rate"] = rate
        self.alpha_history.append(self._strengths())
        self.genotypes.append(discretize(self.learner.mixer.strengths(), self.supernet.mask))
        metrics |= decision.of_epoch(
            self.alpha_history[-1],
            self._start,
            self.supernet.mask,
            self.genotypes,
        )
        if searching and self._measures_eigenvalue:
            self.eigenvalues.append(self._eigenvalue())
            metrics["eigenvalue"] = self.eigenvalues[-1]
        self.epoch += 1
        self.history.append(metrics)
        if self.epoch < self.settings.epochs:
            self._decide()
        self.seconds += time.perf_counter() - started
        self._save()
        self.context.report(Progress("search", self.epoch, self.settings.epochs, metrics))

    def _stage(self) -> tuple[int, int, int]:
        """The epochs, from 0, with which the stage begins and ends, and its warm-up."""
        total, warmup = self.settings.epochs, self.settings.warmup_epochs
        starts = (0, *stage_starts(total, self._stages), total)
        begin, end = (
            max(s for s in starts if s <= self.epoch),
            min(s for s in starts if s > self.epoch),
        )
        return begin, end, warmup * (end - begin) // total

    def _decide(self) -> None:
        """Ask the schedule what becomes of the search."""
        schedule = self.settings.schedule
        record = SearchRecord(
            self.epoch,
            self.settings.epochs,
            self.settings.warmup_epochs,
            self.supernet.mask,
            self.supernet_settings.cells,
            self.alpha_history,
            self.genotypes[1:],
            self.eigenvalues,
        )
        decided = self._component("search_schedule", schedule.name).load()(
            record, **schedule.options
        )
        if isinstance(decided, Stop):
            self._last_epoch = decided.epoch
            self.reason = f"the search ended after epoch {self.epoch}: {decided.reason}"
        elif isinstance(decided, Restage):
            before, learner = self.supernet, self.learner
            size = self.supernet_settings.model_copy(update={"cells": decided.cells})
            self._build(decided.mask, size, self.epoch if decided.fresh else self.begin)
            if decided.fresh:
                self._start = decision.margin(self._strengths(), decided.mask)
            else:
                self.supernet.inherit_(before)
                state = learner.architecture_optimizer.state_dict()
                self.learner.architecture_optimizer.load_state_dict(state)
                self.learner.freezer.inherit_(learner.freezer)

    def _steps(self, searching: bool, epoch_of_stage: int) -> dict[str, float]:
        """The epoch's steps; mean losses and accuracies in percent."""
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        architecture_sum = torch.zeros(2, dtype=torch.float64, device=self.device)
        others = self._architecture_batches() if searching else itertools.repeat(None)
        steps_done = number_of_training_batches(
            len(self.pictures["weights"]), self.settings.pictures_at_once
        )
        # Whole batches with and without the optimizers' state are among these few.
        sampled = searching and epoch_of_stage < _SAMPLED
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
            if not self.learner.freezer.idle:
                metrics["frozen"] = self.learner.freezer.share
            metrics["architecture_loss"] = float(architecture_sum[0]) / steps_done
            metrics["architecture_accuracy"] = 100 * float(architecture_sum[1]) / steps_done
        return metrics

    def _sampled_step(self, batch: Batch, other: Batch | None, epoch: int) -> tuple[Tensor, Tensor]:
        """A step whose memory is measured."""
        with self.memory.sample(*self.learner.held(), *batch, *(other or ())):
            return self.learner.step(batch, other, epoch)

    def later_step(self, epoch: int) -> None:
        """A step of an epoch, from 0, as any but the first: the optimizers have their state."""
        if not self.learner.architecture_optimizer.state:
            make_state(self.learner.weight_optimizer, self.learner.architecture_optimizer)
        batch, other = (next(self._batches(part)) for part in ("weights", "architecture"))
        self._sampled_step(batch, other, epoch)

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

    def _plain_batches(self) -> Iterator[Batch]:
        """The pictures that train α, once, without augmentation."""
        size = self.settings.pictures_at_once
        return evaluation_batches(self.dataset, self.pictures["architecture"], size, self.device)

    @property
    def _measures_eigenvalue(self) -> bool:
        name = self.settings.schedule.name
        wanted = self._component("search_schedule", name).facts.get("eigenvalue")
        return self.settings.eigenvalue or bool(wanted)

    def _eigenvalue(self) -> float:
        """The largest eigenvalue of α's Hessian, on one batch that is always the same."""
        return self.learner.largest_eigenvalue(next(self._plain_batches()), self.epoch)

    def _strengths(self) -> dict[str, list[list[float]]]:
        strengths = self.learner.mixer.strengths().operations
        return {kind: own.detach().tolist() for kind, own in strengths.items()}

    @torch.no_grad()
    def accuracy(self, mixing: Mixing) -> float:
        """The accuracy of the supernet under a mixing on the pictures that train α, in percent."""
        extra = len(auxiliary_operations(self.settings))
        if extra:
            operations = {
                kind: torch.cat([own, own.new_zeros(len(own), extra)], dim=1)
                for kind, own in mixing.operations.items()
            }
            active = {
                kind: tuple((*row, *(False for _ in range(extra))) for row in rows)
                for kind, rows in mixing.active.items()
            }
            mixing = Mixing(operations, mixing.edges, active)
        correct = count = 0
        for images, labels in self._plain_batches():
            with self.context.runtime.autocast():
                logits = self.supernet(images, mixing)
            correct += int((logits.argmax(dim=1) == labels).sum())
            count += len(labels)
        return 100 * correct / count

    def genotype(self) -> Genotype:
        """The genotype that the selection chooses, or that of an earlier epoch after a stop."""
        selection = self.settings.selection
        strengths = self.learner.mixer.strengths()
        if self._last_epoch < self.epoch:
            return self.genotypes[self._last_epoch]
        searched = Searched(self.supernet.mask, strengths, self.accuracy, self.context.seed)
        found: Genotype = self._component("selection", selection.name).load()(
            searched, **selection.options
        )
        return found

    def _component(self, kind: Any, name: str) -> Any:  # noqa: ANN401
        return self.supernet.space.find(kind, name, f"search.{kind}.name")


#: What a checkpoint holds of a session as it is.
_RECORDED = (
    "epoch",
    "reason",
    "history",
    "alpha_history",
    "eigenvalues",
    "seconds",
    "_last_epoch",
    "_start",
)


def sampled_epochs(settings: SearchSettings) -> Sequence[int]:
    """Epochs, from 0, whose steps need as much memory as any step that is measured.

    In the first and the last epoch of a search, parts that move with it, such as drops, are off.
    """
    first = settings.warmup_epochs
    measured = range(first, min(first + _SAMPLED, settings.epochs))
    moving = settings.order == "harmonized" or settings.perturbation.name != "none"
    if not (moving or settings.drop_path or settings.drop_skip):
        return measured[:1]
    inner = [epoch for epoch in measured if 0 < epoch < settings.epochs - 1]
    return inner[:1] or measured
