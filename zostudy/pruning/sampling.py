"""Scores taken again and again, each time with new weights and new pictures.

A sample is one initialization of the supernet, one draw of pictures, and the scores that they give.
Every sample is drawn by the trial's seed, its round and its number, so that it does not matter in
which session, or for which ξ, it is taken.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol

import torch

from zostudy.data.batches import normalized
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.pruning import exact, first_order, reliability
from zostudy.pruning.mask_sources import PruneContext
from zostudy.pruning.reliability import Samples
from zostudy.pruning.scoring import Edge, Removal, Scorer
from zostudy.runtime import seeded
from zostudy.space.mask import OperationMask, Place

#: Streams of the trial's seed, one a use.
_IMAGES, _WEIGHTS, _SPLITS = "prune/images", "prune/weights", "prune/splits"

#: The ways to compute scores, by the name that a study gives them.
SCORERS: Mapping[str, Scorer] = {"exact": exact, "first_order": first_order}


@dataclass(frozen=True)
class Taken(Generic[Removal]):
    """Samples of the scores of some operations or edges.

    Attributes:
        name: What they are samples of.
        removals: What was scored.
        samples: float[repeats, removals].
        seconds: Time that they took.
    """

    name: str
    removals: tuple[Removal, ...]
    samples: Samples
    seconds: float

    def scores(self) -> dict[Removal, float]:
        """Mean scores."""
        return dict(zip(self.removals, self.samples.mean(dim=0).tolist(), strict=True))

    def errors(self) -> dict[Removal, float]:
        """Standard errors of the mean scores; nothing after one repeat."""
        if len(self.samples) < 2:
            return {}
        errors = reliability.standard_errors(self.samples).tolist()
        return dict(zip(self.removals, errors, strict=True))


class SampleKeeper(Protocol):
    """Where samples are kept as they come, and how many are taken."""

    def unfinished(self, name: str) -> tuple[Samples, float] | None:
        """The samples of that name, and their seconds, that an interrupted session left."""

    def enough(self, samples: Samples, generator: torch.Generator) -> bool:
        """Whether no more samples are needed."""

    def keep(self, taken: Taken[Any]) -> None:
        """Keep samples that were taken so far."""


@dataclass(frozen=True)
class Sampler:
    """Takes samples of scores.

    Attributes:
        context: What is pruned.
        rankings: Ranking functions, summed.
        scorer: How scores are computed.
        images: Pictures in each sample.
        batch_size: Pictures in a batch.
        course: Where samples are kept as they come, and how many are taken.
    """

    context: PruneContext
    rankings: Sequence[Ranking]
    scorer: Scorer
    images: int
    batch_size: int
    course: SampleKeeper

    @functools.cached_property
    def memory(self) -> PeakMemory:
        """Measures the first pass, that of the largest supernet."""
        return PeakMemory(self.context.stage.runtime.device)

    def operations(self, mask: OperationMask, index: int, places: Sequence[Place]) -> Taken[Place]:
        """Samples of the scores of some of a mask's operations in round `index`."""

        def score(supernet: Supernet, batches: list[ProxyInputs]) -> dict[Place, float]:
            memory = None if self.memory.peak_bytes else self.memory
            return self.scorer.operation_scores(supernet, self.rankings, batches, memory)

        return self._until_enough(f"operations {index}", mask, places, score)

    def edges(self, mask: OperationMask, edges: Sequence[Edge]) -> Taken[Edge]:
        """Samples of the scores of edges."""

        def score(supernet: Supernet, batches: list[ProxyInputs]) -> dict[Edge, float]:
            return self.scorer.edge_scores(supernet, self.rankings, batches, edges)

        return self._until_enough("edges", mask, edges, score)

    def generator(self, name: str) -> torch.Generator:
        """Draws the splits by which the reliability of samples is found."""
        return seeded("cpu", self.context.stage.seed, _SPLITS, name)

    def _until_enough(
        self,
        name: str,
        mask: OperationMask,
        removals: Sequence[Removal],
        score: Callable[[Supernet, list[ProxyInputs]], dict[Removal, float]],
    ) -> Taken[Removal]:
        empty = torch.zeros(0, len(removals), dtype=torch.float64)
        samples, seconds = self.course.unfinished(name) or (empty, 0.0)
        taken = Taken(name, tuple(removals), samples, seconds)
        supernet = self._supernet(mask)
        while not self.course.enough(taken.samples, self.generator(name)):
            started = time.perf_counter()
            batches = self._draw(supernet, name, len(taken.samples))
            found = score(supernet, batches)
            row = torch.tensor([[found[removal] for removal in removals]], dtype=torch.float64)
            taken = replace(
                taken,
                samples=torch.cat([taken.samples, row]),
                seconds=taken.seconds + time.perf_counter() - started,
            )
            self.course.keep(taken)
        return taken

    def _supernet(self, mask: OperationMask) -> Supernet:
        context = self.context
        supernet = Supernet(
            context.space,
            mask,
            context.supernet,
            in_channels=context.dataset.channels,
            classes=len(context.dataset.classes),
        )
        return supernet.requires_grad_(requires_grad=False)

    def _draw(self, supernet: Supernet, name: str, number: int) -> list[ProxyInputs]:
        """New weights for the supernet, and pictures for it."""
        context, seed = self.context, self.context.stage.seed
        device = context.stage.runtime.device
        supernet.to("cpu").kaiming_normal_(seeded("cpu", seed, _WEIGHTS, name, number))
        supernet.to(device)
        generator = seeded("cpu", seed, _IMAGES, name, number)
        pictures = context.pictures
        order = torch.randperm(len(pictures.labels), generator=generator)[: self.images]
        return [
            ProxyInputs(
                normalized(pictures.images[part].to(device), context.dataset),
                pictures.labels[part].to(device),
                int(torch.randint(2**62, (), generator=generator)),
            )
            for part in torch.split(order, self.batch_size)
        ]
