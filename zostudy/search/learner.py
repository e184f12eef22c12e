"""What a search trains: the supernet, the optimizers of its weights and of α, and one step of both.

A batch is computed in micro-batches, whose gradients are added before an optimizer moves. Batch
normalization takes its statistics from each micro-batch by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.search import SearchSettings
from zostudy.data.batches import Batch
from zostudy.networks.memory import Holder
from zostudy.networks.supernet import Supernet
from zostudy.runtime import Runtime
from zostudy.search import curvature, steps
from zostudy.search.freezing import Freezer
from zostudy.search.mixer import Mixer


class Learner:
    """A supernet in training.

    Args:
        supernet: The supernet, on its device.
        mixer: How it mixes.
        settings: The search.
        runtime: The device and its precision.

    Attributes:
        weights: w.
        architecture: α and β.
        weight_optimizer: SGD on w.
        architecture_optimizer: Adam on α and β.
        freezer: What of w is trained no more.
    """

    def __init__(
        self, supernet: Supernet, mixer: Mixer, settings: SearchSettings, runtime: Runtime
    ) -> None:
        self.supernet = supernet
        self.mixer = mixer
        self._settings = settings
        self._runtime = runtime
        self.weights = supernet.weight_parameters()
        self.architecture = supernet.architecture_parameters()
        sgd, adam = settings.weights, settings.architecture
        self.weight_optimizer = torch.optim.SGD(
            self.weights,
            lr=sgd.learning_rate,
            momentum=sgd.momentum,
            weight_decay=sgd.weight_decay,
            foreach=True,  # the same bits as tensor by tensor, in fewer operations
        )
        self.architecture_optimizer = torch.optim.Adam(
            self.architecture,
            lr=adam.learning_rate,
            betas=adam.betas,
            weight_decay=adam.weight_decay,
            foreach=True,
        )
        self.freezer = Freezer(supernet, settings, self.weights)
        name = settings.regularizer.name
        component = supernet.space.find("regularizer", name, "search.regularizer.name")
        self._regularizer = component.load()

    def held(self) -> tuple[Holder, ...]:
        """What lives from one step to the next."""
        optimizers = self.weight_optimizer, self.architecture_optimizer
        return self.supernet, *optimizers, self.freezer.total

    def step(self, batch: Batch, other: Batch | None, epoch: int) -> tuple[Tensor, Tensor]:
        """An architecture step, where there is a batch for it, and a weight step.

        Args:
            batch: Pictures that train the weights.
            other: Pictures that train α.
            epoch: The epoch, from 0, which relaxations and regularizers depend on.

        Returns:
            (loss, correct, pictures) of the weight batch and (loss, share correct) of the other.
        """
        architecture = torch.zeros(2, dtype=torch.float64, device=self._runtime.device)
        of_weights: Sequence[Tensor] = ()
        if other is not None:
            self.mixer.begin(epoch)
            architecture, of_weights = self._architecture_step(batch, other, epoch)
        self.mixer.begin(epoch)
        self.mixer.perturb(lambda weights: self._ascent(batch, weights))
        hits: list[Tensor] = []
        total = torch.zeros((), device=self._runtime.device)
        with steps.frozen(self.architecture):
            for loss in self._losses(batch, hits):
                loss.backward()  # type: ignore[no-untyped-call]  # torch gives no types
                total = total + loss.detach()
                del loss  # and its graph, before the next is made
        if of_weights:
            self.freezer.observe(of_weights)
            del of_weights
        with self.freezer.holding():
            nn.utils.clip_grad_norm_(self.weights, self._settings.weights.clip_norm)
            self.weight_optimizer.step()
        self.weight_optimizer.zero_grad(set_to_none=True)
        counted = torch.full((), len(batch[1]), device=self._runtime.device)
        return torch.stack([total, torch.stack(hits).sum(), counted]).double(), architecture

    def largest_eigenvalue(self, batch: Batch, epoch: int) -> float:
        """The largest eigenvalue, by its size, of the Hessian of a batch's loss for α and β."""
        self.mixer.begin(epoch)

        def gradient() -> list[Tensor]:
            return steps.gradients(
                lambda: self._losses(batch, []), self.architecture, self.weights
            )[0]

        return curvature.largest_eigenvalue(gradient, self.architecture)

    def _architecture_step(
        self, batch: Batch, other: Batch, epoch: int
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Loss and share correct; and the gradients for the weights, where they are compared."""
        hits: list[Tensor] = []

        def architecture_loss(offsets: Sequence[Tensor] = ()) -> Iterator[Tensor]:
            yield from self._losses(other, hits, offsets)
            term = self._regularization(epoch)
            if term.requires_grad:
                yield term

        def training_loss() -> Iterator[Tensor]:
            return self._losses(batch, [])

        if self._settings.order == "second":
            found, loss = steps.second_order(
                architecture_loss,
                training_loss,
                self.architecture,
                self.weights,
                self.weight_optimizer,
            )
        elif self._settings.order == "harmonized":
            found, loss = self._harmonized(architecture_loss)
        elif not self.freezer.idle:
            found, loss = steps.gradients(architecture_loss, [*self.architecture, *self.weights])
        else:
            found, loss = steps.gradients(architecture_loss, self.architecture, self.weights)
        count = len(self.architecture)
        for parameter, gradient in zip(self.architecture, found[:count], strict=True):
            parameter.grad = gradient
        self.architecture_optimizer.step()
        self.architecture_optimizer.zero_grad(set_to_none=True)
        first_pass = torch.stack(hits[: self._parts(len(other[1]))])
        share = first_pass.sum().double() / len(other[1])
        return torch.stack([loss.double(), share]), found[count:]

    def _harmonized(self, architecture_loss: Any) -> tuple[list[Tensor], Tensor]:  # noqa: ANN401  # a loss
        sequence, alpha = self.supernet.sequence, self.supernet.alpha
        return steps.harmonized(
            architecture_loss,
            self.architecture,
            self.weights,
            [alpha[kind].detach() for kind in sequence],
            [
                [number for number, own in enumerate(sequence) if own == kind]
                for kind in self.supernet.space.cell_types
            ],
            self._settings.harmony * self.mixer.progress,
        )

    def _ascent(self, batch: Batch, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of the training loss for the mixing weights."""
        given = {kind: own.detach().clone().requires_grad_() for kind, own in weights.items()}
        with steps.frozen(self.architecture):
            found, _ = steps.gradients(
                lambda: self._losses(batch, [], weights=given), list(given.values()), self.weights
            )
        return dict(zip(given, found, strict=True))

    def _losses(
        self,
        batch: Batch,
        hits: list[Tensor],
        offsets: Sequence[Tensor] = (),
        weights: dict[str, Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """The mean loss of a batch in parts, one a micro-batch; appends how many are correct."""
        whole = len(batch[1])
        parts = [tensor.tensor_split(self._parts(whole)) for tensor in batch]
        for part, (images, labels) in enumerate(zip(*parts, strict=True)):
            with self._runtime.autocast():
                logits = self.supernet(images, self.mixer.mixing(offsets, weights, part))
                loss = functional.cross_entropy(logits, labels)
            hits.append((logits.detach().argmax(dim=1) == labels).sum())
            yield loss * (len(labels) / whole)

    def _parts(self, pictures: int) -> int:
        """Micro-batches of a batch."""
        micro = self._settings.pictures_at_once // self._settings.accumulate
        return -(-pictures // micro)

    def _regularization(self, epoch: int) -> Tensor:
        kinds = self.supernet.space.cell_types
        alpha = torch.cat([self.supernet.alpha[kind] for kind in kinds])
        mask = torch.cat([self.supernet.mask_of(kind) for kind in kinds])
        options: dict[str, Any] = self._settings.regularizer.options
        term: Tensor = self._regularizer(alpha, mask, epoch, self._settings.epochs, **options)
        return term
