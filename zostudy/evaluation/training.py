"""Training the stand-alone network of a genotype from scratch (docs/method.md, section 6).

Symbols:
    t, T   epoch from 0, and epochs in all
    η(t)   learning rate, η_min + (η_0 − η_min) (1 + cos(π t / T)) / 2
    p(t)   probability to drop a path, p · t / T
    L      cross entropy, plus the auxiliary weight times that of the auxiliary head
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.settings import EvaluateSettings
from zostudy.data.batches import (
    Batch,
    evaluation_batches,
    number_of_training_batches,
    training_batches,
)
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.errors import ConfigError, NumericalError
from zostudy.evaluation import cost
from zostudy.networks import distributed
from zostudy.networks.dry_run import make_state, predicted_peak
from zostudy.networks.memory import PeakMemory
from zostudy.networks.standalone import AUXILIARY, DropPath, StandaloneNetwork
from zostudy.runtime import Runtime, seed_everything, seeded
from zostudy.space.genotype import Genotype
from zostudy.stage import Progress, StageContext

PHASE = "evaluate"

#: Steps of an epoch, and epochs of a session, whose memory is measured.
_SAMPLED = 2

#: Streams of the trial's seed, one a use.
_ORDER, _DROP_PATH = "evaluate/order", "evaluate/drop path"


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What the evaluation of a genotype found.

    Attributes:
        validation_accuracy: Percent, after the last epoch; None without a validation part.
        test_accuracy: Percent, after the last epoch.
        seconds: Seconds of work, those of interrupted sessions counted in.
        memory: Peak memory in bytes by the name of the metric, see `PeakMemory.metrics`.
        costs: What the network costs, by the name of the metric; see `cost.of_genotype`.
        weights: The network's state on the CPU, without the auxiliary head.
        history: Figures of each epoch, by name.
    """

    validation_accuracy: float | None
    test_accuracy: float
    seconds: float
    memory: dict[str, float]
    costs: dict[str, int]
    weights: dict[str, Tensor] = field(repr=False)
    history: list[dict[str, float]] = field(repr=False)

    @property
    def peak_bytes(self) -> int:
        """Peak memory of the phase in bytes."""
        return int(self.memory["peak_bytes"])

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as a record keeps them beside the weights."""
        return {
            "test_accuracy": self.test_accuracy,
            "validation_accuracy": self.validation_accuracy,
            "history": list(self.history),
            **self.costs,
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "figures": dict(self.memory),
        }


def evaluate(
    genotype: Genotype,
    dataset: Dataset,
    settings: EvaluateSettings,
    context: StageContext,
) -> EvaluationResult:
    """Train the network of a genotype and measure its accuracy after the last epoch.

    The validation part is measured after every epoch, the test part once, at the end. The state is
    kept after every epoch; a run that goes on from it gives the same bits on the CPU as one that
    was never interrupted.

    Args:
        genotype: The architecture.
        dataset: Trained on its training part.
        settings: Size of the network and its training.
        context: Device, seed, checkpoint and report; one report an epoch.

    Under torchrun, processes share every batch (`context.runtime.processes`) and end with the same
    weights: augmentation, order, dropped paths, statistics of BN, loss and gradient are those of
    the whole batch, so that the result is that of one process but for the order of sums.

    Raises:
        NumericalError: A loss, a gradient or a score is not finite.
        ConfigError: A batch has fewer pictures than there are processes.

    References:
        docs/method.md, section 6; Liu et al. 2018, "DARTS", appendix A.2. The accuracy is that of
        the last epoch, because the best epoch's would be picked on the test part.
    """
    training = _Training(genotype, dataset, settings, context)
    while training.epoch < settings.epochs:
        metrics = training.run_epoch()
        context.checkpoint.save(training.state())
        context.report(Progress(PHASE, training.epoch, settings.epochs, metrics))
    network = training.network
    test_accuracy = accuracy(network, dataset, dataset.test, settings.batch_size, context.runtime)
    return EvaluationResult(
        validation_accuracy=training.history[-1].get("validation_accuracy"),
        test_accuracy=test_accuracy,
        seconds=training.seconds(),
        memory=training.memory.metrics(),
        costs=cost.of_genotype(genotype, network, dataset),
        weights={
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in network.state_dict().items()
            if not name.startswith(AUXILIARY)
        },
        history=training.history,
    )


def predict_peak(
    genotype: Genotype,
    dataset: Dataset,
    settings: EvaluateSettings,
    runtime: Runtime,
) -> int:
    """The peak that `evaluate` will measure on the CPU, from a step without numbers.

    Args:
        genotype: The architecture.
        dataset: The data set, or its outline.
        settings: Size of the network and its training.
        runtime: Its precision counts.

    Returns:
        Bytes of live tensors.
    """

    def step(imaginary: Runtime) -> None:
        context = StageContext(imaginary, seed=0)
        _Training(genotype, dataset.outline(), settings, context).later_step()

    return predicted_peak(step, runtime)


def standalone(
    genotype: Genotype,
    dataset: Dataset,
    settings: EvaluateSettings,
    *,
    auxiliary: bool = False,
) -> StandaloneNetwork:
    """The untrained network of a genotype for a data set, which `EvaluationResult.weights` fit.

    Args:
        genotype: The architecture.
        dataset: Whose channels and classes it has.
        settings: Its number of cells and channels.
        auxiliary: Whether to build the auxiliary head, which only training uses.
    """
    return StandaloneNetwork(
        genotype,
        cells=settings.cells,
        channels=settings.channels,
        classes=len(dataset.classes),
        in_channels=dataset.channels,
        auxiliary=auxiliary,
    )


def accuracy(
    network: nn.Module, dataset: Dataset, pictures: Pictures, batch_size: int, runtime: Runtime
) -> float:
    """Percent of the pictures whose highest score is that of their class, in eval mode.

    Args:
        network: Maps normalized pictures to class scores; left in eval mode.
        dataset: Whose mean and standard deviation normalize.
        pictures: The part to measure.
        batch_size: Pictures in a batch.
        runtime: Device and precision.

    Raises:
        NumericalError: A score is not finite.
    """
    network.eval()
    share = runtime.processes.share(len(pictures))
    mine = pictures.select(torch.arange(len(pictures))[share])
    correct = torch.zeros((), dtype=torch.int64, device=runtime.device)
    finite = torch.ones((), dtype=torch.bool, device=runtime.device)
    with torch.inference_mode(), runtime.autocast():
        for images, labels in evaluation_batches(dataset, mine, batch_size, runtime.device):
            logits = network(images)
            finite &= logits.isfinite().all()
            correct += (logits.argmax(1) == labels).sum()
    counts = torch.stack([correct, (~finite).long()])
    if runtime.processes.count > 1:
        distributed.summed(counts)
    if counts[1]:
        raise NumericalError(f"{PHASE}: a class score is not finite; needs finite weights")
    return 100 * counts[0].item() / len(pictures)


def _check_shares(pictures: int, batch_size: int, processes: int) -> None:
    """Whether every process has a share of every batch.

    Raises:
        ConfigError: One would have none.
    """
    last = pictures % batch_size
    smallest = last if last > 1 else batch_size
    if smallest < processes:
        raise ConfigError(
            f"evaluate.batch_size: {batch_size} leaves a batch of {smallest} of {pictures} "
            f"pictures, fewer than the {processes} processes that share it"
        )


class _Training:
    """A training between two epochs: all that a checkpoint holds, and what it is made from."""

    def __init__(
        self,
        genotype: Genotype,
        dataset: Dataset,
        settings: EvaluateSettings,
        context: StageContext,
    ) -> None:
        self.dataset, self.settings, self.runtime = dataset, settings, context.runtime
        self.started = time.perf_counter()
        self.earlier_seconds = 0.0
        self.memory = PeakMemory(self.runtime.device)
        seed_everything(context.seed)
        with self.runtime.initialization_device:
            network = standalone(
                genotype, dataset, settings, auxiliary=settings.auxiliary_weight > 0
            )
        # Faster than the default on every device; tensor and weights must agree.
        self.network = network.to(memory_format=torch.channels_last).to(self.runtime.device)
        self.forward: Callable[..., Any] = self.network.forward_training
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            settings.weights.learning_rate,
            momentum=settings.weights.momentum,
            weight_decay=settings.weights.weight_decay,
            foreach=True,  # the same bits as tensor by tensor, in fewer operations
        )
        self.order = seeded("cpu", context.seed, _ORDER)
        self.drops = self.runtime.generator(context.seed, _DROP_PATH)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        saved = context.checkpoint.load()
        if saved is not None:
            self._restore(saved)
        self.first_epoch = self.epoch
        if self.runtime.processes.count > 1:
            _check_shares(len(dataset.train), settings.batch_size, self.runtime.processes.count)
            self.forward = distributed.data_parallel(self.network, self.runtime.device)

    def state(self) -> dict[str, Any]:
        """What the next session needs to go on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "drops": self.drops.get_state(),
            "epoch": self.epoch,
            "history": self.history,
            "seconds": self.seconds(),
            "peak_bytes": self.memory.peak_bytes,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.order.set_state(saved["order"])
        self.drops.set_state(saved["drops"])
        self.epoch = saved["epoch"]
        self.history = list(saved["history"])
        self.earlier_seconds = saved["seconds"]
        self.memory = PeakMemory(self.runtime.device, saved["peak_bytes"])

    def seconds(self) -> float:
        """Seconds of work so far, in all sessions."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch, measure the validation part, and return the epoch's metrics."""
        settings, dataset = self.settings, self.dataset
        rate = settings.weights.learning_rate_at(self.epoch, settings.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        metrics = {**self._train(), "learning_rate": rate}
        if dataset.validation is not None:
            metrics["validation_accuracy"] = accuracy(
                self.network, dataset, dataset.validation, settings.batch_size, self.runtime
            )
        self.epoch += 1
        self.history.append(metrics)
        return metrics

    def _batches(self) -> Iterator[Batch]:
        settings, device = self.settings, self.runtime.device
        return training_batches(
            self.dataset,
            self.dataset.train,
            settings.batch_size,
            settings.augment,
            self.order,
            device,
        )

    def _drop_path(self) -> DropPath:
        return DropPath(self.settings.drop_path * self.epoch / self.settings.epochs, self.drops)

    def _train(self) -> dict[str, float]:
        settings, drop_path = self.settings, self._drop_path()
        # The first epoch drops no path; the second step of an epoch finds the optimizer's state.
        sampled = self.epoch - self.first_epoch < _SAMPLED
        self.network.train()
        steps = number_of_training_batches(len(self.dataset.train), settings.batch_size)
        sums, seen = torch.zeros(3, dtype=torch.float64, device=self.runtime.device), 0
        for index, (images, labels) in enumerate(self._batches()):
            step = self._sampled_step if sampled and index < _SAMPLED else self._step
            sums += step(images, labels, drop_path)
            seen += len(labels)
        if self.runtime.processes.count > 1:
            distributed.summed(sums)
        loss, correct, norm = sums.tolist()
        for name, value in (("training loss", loss / seen), ("gradient norm", norm / steps)):
            if not math.isfinite(value):
                raise NumericalError(
                    f"{PHASE}: epoch {self.epoch + 1} of {settings.epochs}: {name} is {value}; "
                    "needs a finite number; a lower evaluate.weights.learning_rate may help"
                )
        return {"train_loss": loss / seen, "train_accuracy": 100 * correct / seen}

    def _sampled_step(self, images: Tensor, labels: Tensor, drop_path: DropPath) -> Tensor:
        """A step whose memory is measured."""
        with self.memory.sample(self.network, self.optimizer, images, labels):
            return self._step(images, labels, drop_path)

    def later_step(self) -> None:
        """A step of an epoch that drops paths, if any does; the optimizer has its state."""
        make_state(self.optimizer)
        self.network.train()
        self.epoch = min(1, self.settings.epochs - 1)
        images, labels = next(self._batches())
        self._sampled_step(images, labels, self._drop_path())

    def _step(self, images: Tensor, labels: Tensor, drop_path: DropPath) -> Tensor:
        """One step of SGD: summed loss, correct pictures and gradient norm, left on the device."""
        whole, processes = len(labels), self.runtime.processes
        if processes.count > 1:
            share = processes.share(whole)
            images, labels = images[share], labels[share]
            drop_path = replace(drop_path, batch=whole, first=share.start)
        with self.runtime.autocast():
            logits, auxiliary = self.forward(images, drop_path)
            loss = total = functional.cross_entropy(logits, labels)
            if auxiliary is not None:
                weight = self.settings.auxiliary_weight
                total = loss + weight * functional.cross_entropy(auxiliary, labels)
        if processes.count > 1:  # so that the mean over processes is that over the whole batch
            total = total * (len(labels) * processes.count / whole)
        total.backward()  # type: ignore[no-untyped-call]  # torch gives no types
        clip = self.settings.weights.clip_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        correct = (logits.detach().argmax(1) == labels).sum()
        return torch.stack([loss.detach() * len(labels), correct, norm]).double()
