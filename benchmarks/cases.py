"""The supernets that the benchmarks measure, and the per-edge formulation of them.

C = 16, 8 cells (in the NAS-Bench-201 space, 5 a stage), pictures of 3 × 32 × 32, 10 classes,
float32 unless told otherwise. A search step is one step on α and one on the weights, with the
optimizers and settings of a study's defaults. The per-edge formulation is that of tests/reference:
a module for every operation of every edge, each run on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.reference.pairing import REFERENCES
from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.batches import Batch
from zostudy.networks.dry_run import predicted_peak
from zostudy.networks.memory import Holder, PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.runtime import Runtime, seeded
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace, search_space

SPACE = search_space("darts")
TOPOLOGIES = search_space("nasbench201")
CLASSES = 10

#: Cells of each space's supernet, as `SupernetSettings.cells` counts them.
_CELLS = {SPACE.name: 8, TOPOLOGIES.name: 5}

Recompute = Literal["none", "partial", "full"]


@dataclass(frozen=True)
class Size:
    """Size of a supernet and of its pictures.

    Attributes:
        cells: As `SupernetSettings.cells` counts them; 0 for as many as the space's study has.
        channels: C.
        side: Height and width of a picture in pixels.
    """

    cells: int = 0
    channels: int = 16
    side: int = 32


FULL = Size()


def random_half(seed: int) -> OperationMask:
    """Each operation with probability 0.5, one at least on every edge."""
    generator = seeded("cpu", seed, "benchmarks/mask")
    rows = {}
    for kind in SPACE.cell_types:
        drawn = torch.rand(len(SPACE.edges), len(SPACE.operations), generator=generator)
        kept = drawn < 0.5
        kept[torch.arange(len(kept)), drawn.argmin(dim=1)] = True
        rows[kind] = tuple(tuple(bool(value) for value in row) for row in kept)
    return OperationMask(SPACE, rows)


def settings_of(space: SearchSpace, partial_channels: int, size: Size = FULL) -> SupernetSettings:
    """The supernet's size."""
    return SupernetSettings(
        cells=size.cells or _CELLS[space.name],
        channels=size.channels,
        partial_channels=partial_channels,
        edge_normalization=partial_channels > 1,
    )


def batches(batch_size: int, device: torch.device, size: Size = FULL) -> tuple[Batch, Batch]:
    """Random pictures and labels, for the weights and for α."""
    generator = seeded("cpu", 0, "benchmarks/pictures")
    images = torch.randn(2, batch_size, 3, size.side, size.side, generator=generator)
    images = images.to(device)
    labels = torch.randint(0, CLASSES, (2, batch_size), generator=generator).to(device)
    return (images[0].clone(), labels[0].clone()), (images[1].clone(), labels[1].clone())


class Search:
    """Steps of a search with zostudy's supernet."""

    def __init__(
        self,
        mask: OperationMask,
        partial_channels: int,
        batch_size: int,
        recompute: Recompute = "none",
        runtime: Runtime | None = None,
        size: Size = FULL,
    ) -> None:
        runtime = runtime or Runtime(torch.device("cpu"))
        torch.manual_seed(0)
        supernet = Supernet(
            mask.space,
            mask,
            settings_of(mask.space, partial_channels, size),
            in_channels=3,
            classes=CLASSES,
            recompute=recompute,
        ).to(runtime.device)
        settings = SearchSettings(batch_size=batch_size, recompute=recompute)
        mixer = Mixer(supernet, settings, torch.Generator())
        self._learner = Learner(supernet, mixer, settings, runtime)
        self.batches = batches(batch_size, runtime.device, size)

    def step(self) -> None:
        """One step on α and one on the weights."""
        self._learner.step(*self.batches, epoch=0)

    def held(self) -> tuple[Holder, ...]:
        """What lives from one step to the next."""
        return (*self._learner.held(), *self.batches[0], *self.batches[1])


class PerEdgeSearch:
    """The same with the per-edge formulation."""

    def __init__(
        self,
        mask: OperationMask,
        partial_channels: int,
        batch_size: int,
        runtime: Runtime | None = None,
        size: Size = FULL,
    ) -> None:
        self._runtime = runtime or Runtime(torch.device("cpu"))
        device = self._runtime.device
        torch.manual_seed(0)
        self._network: nn.Module = REFERENCES[mask.space.name](
            mask.rows,
            **settings_of(mask.space, partial_channels, size).model_dump(exclude={"channel_split"}),
            in_channels=3,
            classes=CLASSES,
        ).to(device)
        named = dict(self._network.named_parameters())
        self._architecture = [p for n, p in named.items() if n.startswith(("alpha", "beta"))]
        self._weights = [p for n, p in named.items() if not n.startswith(("alpha", "beta"))]
        settings = SearchSettings()
        sgd, adam = settings.weights, settings.architecture
        self._clip = sgd.clip_norm
        self._sgd = torch.optim.SGD(
            self._weights, sgd.learning_rate, sgd.momentum, weight_decay=sgd.weight_decay
        )
        self._adam = torch.optim.Adam(
            self._architecture, adam.learning_rate, adam.betas, weight_decay=adam.weight_decay
        )
        self.batches = batches(batch_size, device, size)

    def step(self) -> None:
        """One step on α and one on the weights."""
        (images, labels), (other_images, other_labels) = self.batches
        loss = self._loss(other_images, other_labels)
        torch.autograd.backward(loss, inputs=self._architecture)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        del loss  # and its graph
        loss = self._loss(images, labels)
        torch.autograd.backward(loss, inputs=self._weights)
        nn.utils.clip_grad_norm_(self._weights, self._clip)
        self._sgd.step()
        self._sgd.zero_grad(set_to_none=True)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._runtime.autocast():
            return functional.cross_entropy(self._network(images), labels)

    def held(self) -> tuple[Holder, ...]:
        """What lives from one step to the next."""
        return (self._network, self._sgd, self._adam, *self.batches[0], *self.batches[1])


def peak_megabytes(
    make: Callable[[Runtime], Search | PerEdgeSearch], precision: str = "fp32"
) -> float:
    """The predicted peak of a search's second step, in 2²⁰ bytes."""

    def work(runtime: Runtime) -> None:
        search = make(runtime)
        search.step()
        with PeakMemory(runtime.device).sample(*search.held()):
            search.step()

    return predicted_peak(work, Runtime(torch.device("cpu"), precision)) / 2**20
