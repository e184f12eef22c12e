"""The rounds of one trajectory: how many samples each takes, what is kept, what comes of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zostudy.errors import ConfigError
from zostudy.pruning import greedy, reliability
from zostudy.pruning.mask_sources import PruneResult
from zostudy.pruning.reliability import Samples
from zostudy.pruning.sampling import Sampler, Taken
from zostudy.pruning.schedule import Schedule
from zostudy.pruning.scoring import Edge
from zostudy.runtime import seeded
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask, Place
from zostudy.space.search_space import Node
from zostudy.stage import Progress, StageContext

#: The first number of repeats after which their reliability is looked at.
_FIRST_LOOK = 4


@dataclass(frozen=True)
class Repeats:
    """How many samples are taken.

    Attributes:
        at_most: The number, or the most.
        until_reliability: No more are taken once their reliability is this; 1 for never.
    """

    at_most: int
    until_reliability: float = 1.0

    @classmethod
    def of(cls, value: int | Mapping[str, Any]) -> "Repeats":
        """From a study's ``repeats``: a number, or when to stop and the most.

        Raises:
            ConfigError: It is neither.
        """
        if isinstance(value, int):
            return cls(value)
        if set(value) != {"until_reliability", "at_most"}:
            raise ConfigError(
                f"prune.repeats: {dict(value)!r} is not allowed; allowed: a number from 1, or "
                "{until_reliability: 0.7, at_most: 512}"
            )
        until, most = value["until_reliability"], value["at_most"]
        if isinstance(until, bool) or not isinstance(until, int | float) or not 0 < until < 1:
            raise ConfigError(
                f"prune.repeats.until_reliability: {until!r} is not allowed; allowed: (0, 1)"
            )
        if isinstance(most, bool) or not isinstance(most, int) or most < _FIRST_LOOK:
            raise ConfigError(
                f"prune.repeats.at_most: {most!r} is not allowed; allowed: whole numbers from "
                f"{_FIRST_LOOK}"
            )
        return cls(most, float(until))

    def enough(self, samples: Samples, generator: torch.Generator) -> bool:
        """Whether no more samples are needed; looked at whenever their number has doubled."""
        count = len(samples)
        if count >= self.at_most or count < _FIRST_LOOK or self.until_reliability == 1:
            return count >= self.at_most
        if count & (count - 1):
            return False
        found = reliability.split_half(samples, count, generator)
        return found is not None and found >= self.until_reliability


class Trajectory:
    """The rounds of one trajectory, kept in the stage's checkpoint as they come.

    Args:
        stage: Whose checkpoint and report are used.
        schedule: How far and how fast is pruned.
        repeats: How many samples a round takes.

    Attributes:
        rounds: The rounds that are done.
    """

    def __init__(self, stage: StageContext, schedule: Schedule, repeats: Repeats) -> None:
        self._stage = stage
        self._schedule = schedule
        self._repeats = repeats
        masks = schedule.expected(seeded("cpu", "prune/foreseen"))
        of_edges = schedule.until == "genotype" and schedule.space.ranks_edges
        self._expected = len(masks) - 1 + of_edges
        state = stage.checkpoint.load() or {"rounds": "[]"}
        self._unfinished = state.get("unfinished")
        start = schedule.start
        self.rounds = [greedy.Round.of(data, start) for data in json.loads(state["rounds"])]

    def unfinished(self, name: str) -> tuple[Samples, float] | None:
        """The samples of that name, and their seconds, that an interrupted session left."""
        left = self._unfinished
        return None if left is None or left["name"] != name else (left["samples"], left["seconds"])

    def enough(self, samples: Samples, generator: torch.Generator) -> bool:
        """Whether a round needs no more samples."""
        return self._repeats.enough(samples, generator)

    def keep(self, taken: Taken[Any]) -> None:
        """Save the samples of a round that goes on, and report."""
        unfinished = {
            "name": taken.name,
            "samples": taken.samples,
            "seconds": taken.seconds,
        }
        self._save(self.rounds, {"unfinished": unfinished})
        if len(taken.samples) < self._repeats.at_most:
            self._report(len(self.rounds), len(taken.samples), {})

    def finished(self, done: greedy.Round) -> greedy.Round:
        """Save a round, which the caller adds to the rounds, and report."""
        self._save([*self.rounds, done], {})
        level = done.mask.changed(remove=done.removed).level(self._schedule.measure)
        self._report(len(self.rounds) + 1, 0, {"level": level, **done.reliability})
        return done

    def _save(self, rounds: Sequence[greedy.Round], rest: dict[str, Any]) -> None:
        state = {"rounds": json.dumps([done.to_dict() for done in rounds])}
        self._stage.checkpoint.save(state | rest)

    def _report(self, rounds: int, samples: int, metrics: Mapping[str, float]) -> None:
        most = self._repeats.at_most
        done, total = rounds * most + samples, self._expected * most
        self._stage.report(Progress("prune", done, total, metrics))


@dataclass(frozen=True)
class Rounds:
    """How a round is made.

    Attributes:
        sampler: Takes the samples.
        course: Keeps them, and the rounds.
        schedule: How far and how fast is pruned.
    """

    sampler: Sampler
    course: Trajectory
    schedule: Schedule

    def next(self, mask: OperationMask, index: int) -> greedy.Round:
        """Round `index`."""
        taken = self.sampler.operations(mask, index, self.schedule.candidates(mask))

        def prune(scores: Tensor) -> tuple[Place, ...]:
            named = dict(zip(taken.removals, scores.tolist(), strict=True))
            return self.schedule.lowest(mask, named)

        found = reliability.assess(taken.samples, prune, self.sampler.generator(taken.name))
        return self.course.finished(
            greedy.Round(
                mask,
                taken.scores(),
                prune(taken.samples.mean(dim=0)),
                taken.seconds,
                self.sampler.memory.peak_bytes,
                len(taken.samples),
                taken.errors(),
                asdict(found) if found else {},
            )
        )


def metrics(rounds: Sequence[greedy.Round]) -> dict[str, float]:
    """Number of rounds, and their mean repeats and reliability; without what is undefined."""
    found = {"rounds": float(len(rounds))}
    if rounds:
        found["repeats"] = sum(done.repeats for done in rounds) / len(rounds)
    for name in rounds[0].reliability if rounds else ():
        known = [done.reliability[name] for done in rounds if name in done.reliability]
        found[name] = sum(known) / len(known)
    return found


def to_genotype(pruned: PruneResult, sampler: Sampler) -> PruneResult:
    """Keep the best operation of each edge, then the best-scored edges of each node (ETENAS).

    Edges are scored only where the search space does not keep them all.
    """
    space, best = pruned.mask.space, greedy.last_scores(list(pruned.rounds))
    keepable = {space.operations.index(name) for name in space.keepable}
    chosen = {
        (kind, edge): max(
            (c for c, kept in enumerate(row) if kept and c in keepable),
            key=lambda c, kind=kind, edge=edge: best.get((kind, edge, c), 0.0),  # type: ignore[misc]
        )
        for kind, rows in pruned.mask.rows.items()
        for edge, row in enumerate(rows)
        if any(kept and c in keepable for c, kept in enumerate(row))
    }
    if space.ranks_edges:
        pruned = _with_edge_scores(pruned, sampler, list(chosen))
    cells: dict[str, tuple[Node, ...]] = {}
    for kind in space.cell_types:
        nodes = []
        for target in space.targets:
            usable = [e for e in space.incoming(target) if (kind, e) in chosen]
            usable.sort(key=lambda e, kind=kind: -pruned.edge_scores.get((kind, e), 0.0))  # type: ignore[misc]
            kept = sorted(usable[: space.kept(target)])
            nodes.append(
                tuple((space.operations[chosen[kind, e]], space.edges[e][0]) for e in kept)
            )
        cells[kind] = tuple(nodes)
    return replace(pruned, genotype=Genotype(space, cells))


def _with_edge_scores(pruned: PruneResult, sampler: Sampler, edges: Sequence[Edge]) -> PruneResult:
    """With scores of edges, and how far they can be trusted."""
    taken = sampler.edges(pruned.mask, edges)
    trust: dict[str, float] = {}
    if len(taken.samples) > 1:
        drawn = sampler.generator(taken.name)
        found = reliability.split_half(taken.samples, len(taken.samples), drawn)
        trust = {} if found is None else {"edge_reliability": found}
    return replace(
        pruned,
        seconds=pruned.seconds + taken.seconds,
        peak_bytes=max(pruned.peak_bytes, sampler.memory.peak_bytes),
        metrics={**pruned.metrics, **trust},
        edge_scores=taken.scores(),
        edge_errors=taken.errors(),
    )
