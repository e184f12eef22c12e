"""Algorithm 1 as a mask source: scores averaged over initialisations, a trajectory that is kept."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch

from zostudy.data.batches import normalized
from zostudy.data.sources import Pictures
from zostudy.errors import ConfigError, NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.pruning import greedy
from zostudy.pruning.mask_sources import Foreseen, PruneContext, PruneResult, repaired
from zostudy.pruning.scoring import Batch, Ranking, edge_scores, exact_scores
from zostudy.registry import mask_source
from zostudy.runtime import seeded
from zostudy.space.genotype import Genotype, Node
from zostudy.space.mask import Measure, OperationMask, Place
from zostudy.stage import Progress

#: Streams of the trial's seed, one a use.
_IMAGES, _WEIGHTS = "prune/images", "prune/weights"

NextRound = Callable[[OperationMask, int], greedy.Round]


def check_zero_shot(context: PruneContext, **options: Any) -> None:  # noqa: ANN401  # any option
    """Whether zero-shot pruning can work with these settings and this data.

    Raises:
        ConfigError: There are too few pictures, a batch would hold one, or a ranking function tells
            nothing of so few classes.
    """
    check_images(context.pictures, options["images"], options["batch_size"])
    logits = torch.randn(2, len(context.dataset.classes), generator=seeded("cpu", "prune/check"))
    for settings in _named(options["ranking"]):
        try:
            Ranking.of(settings, context.extensions).function(logits)
        except NumericalError as error:
            raise ConfigError(f"prune.ranking: {error}") from error


def foresee_zero_shot(  # the options that count
    context: PruneContext,
    *,
    images: int,
    batch_size: int,
    repeats: int,
    **options: Any,  # noqa: ANN401  # any option
) -> Foreseen:
    """What zero-shot pruning will leave: how many operations go from an edge needs no scores."""
    generator = seeded("cpu", "prune/foreseen")
    start = OperationMask.full(context.space)
    if options["none_operation"] == "removed":
        start = start.changed(remove=[p for p in start.places() if _is_zero(start, p)])
    to_genotype = options["until"] == "genotype"
    course = _Trajectory(context, start, 0.0 if to_genotype else options["xi"], options["measure"])
    passes = 0

    def next_round(mask: OperationMask, index: int) -> greedy.Round:  # noqa: ARG001  # as for a real one
        nonlocal passes
        places = [p for p in mask.places() if sum(mask.rows[p[0]][p[1]]) > 1]
        passes += len(places) + len(context.space.cell_types)
        kept = options["none_operation"] == "kept"
        drawn = torch.rand(len(places), generator=generator).tolist()
        scores = {
            place: score
            for place, score in zip(places, drawn, strict=True)
            if not (kept and _is_zero(mask, place))
        }
        removed = greedy.lowest(mask, scores, options["operations_per_round"])
        return greedy.Round(mask, scores, removed, 0.0, 0)

    mask, _ = greedy.rounds_until(start, course.stop, next_round, [])
    batches = -(-images // batch_size)
    return Foreseen(repaired(mask, {}).mask, passes * batches * repeats, to_genotype)


@mask_source(
    "zero_shot",
    continues=("xi", "measure", "until"),
    components={"ranking": "ranking_function"},
    check="check_zero_shot",
    foresee="foresee_zero_shot",
)
def zero_shot(  # noqa: PLR0913  # the settings of Algorithm 1
    context: PruneContext,
    *,
    xi: Annotated[float, "(0, 1]"] = 0.5,
    measure: Literal["operations", "architectures"] = "operations",
    operations_per_round: Annotated[int, "[1, inf)"] = 1,
    until: Literal["level", "genotype"] = "level",
    none_operation: Literal["candidate", "kept", "removed"] = "candidate",
    ranking: tuple[str, ...] = ("nngp",),
    images: Annotated[int, "[2, inf)"] = 384,
    batch_size: Annotated[int, "[2, inf)"] = 128,
    repeats: Annotated[int, "[1, inf)"] = 1,
) -> PruneResult:
    """Algorithm 1: prune by zero-shot scores, to a level or to a genotype (ETENAS).

    Args:
        context: What is pruned.
        xi: Pruning level; no round starts at or below it.
        measure: What the level counts (METHOD section 8).
        operations_per_round: Operations that an edge loses in one round.
        until: ``level``, or ``genotype`` for one operation an edge and two edges a node.
        none_operation: Whether the zero operation is a candidate as any other, is always kept, or
            is left out from the start.
        ranking: Ranking functions, summed.
        images: Pictures seen in each repeat.
        batch_size: Pictures in one batch.
        repeats: Independent initialisations and draws of pictures that scores are averaged over.

    References:
        The paper, Algorithm 1; METHOD section 5.
    """
    rankings = [Ranking.of(settings, context.extensions) for settings in _named(ranking)]
    scorer = _Scorer(context, rankings, images, batch_size, repeats)
    start = OperationMask.full(context.space)
    if none_operation == "removed":
        start = start.changed(remove=[p for p in start.places() if _is_zero(start, p)])

    def next_round(mask: OperationMask, index: int) -> greedy.Round:
        started = time.perf_counter()
        scores = scorer.operations(mask, index)
        if none_operation == "kept":
            scores = {place: s for place, s in scores.items() if not _is_zero(mask, place)}
        removed = greedy.lowest(mask, scores, operations_per_round)
        seconds = time.perf_counter() - started
        return greedy.Round(mask, scores, removed, seconds, scorer.memory.peak_bytes)

    known = _Trajectory(context, start, xi if until == "level" else 0.0, measure)
    mask, rounds = greedy.rounds_until(start, known.stop, known.keeping(next_round), known.rounds)
    result = repaired(
        mask,
        greedy.last_scores(rounds),
        rounds=rounds,
        seconds=sum(done.seconds for done in rounds),
        peak_bytes=max((done.peak_bytes for done in rounds), default=0),
        figures={"rounds": len(rounds), "level": mask.level(measure)},
    )
    return scorer.to_genotype(result) if until == "genotype" else result


def _named(ranking: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [{"name": entry} if isinstance(entry, str) else entry for entry in ranking]


def _is_zero(mask: OperationMask, place: Place) -> bool:
    return place[2] == mask.space.zero_index


def check_images(pictures: Pictures, images: int, batch_size: int) -> None:
    """Whether there are enough pictures to rank with.

    Raises:
        ConfigError: There are not.
    """
    if images > len(pictures.labels):
        raise ConfigError(
            f"prune.images: {images} is more than the {len(pictures.labels)} pictures that train "
            f"the weights; allowed: 2 to {len(pictures.labels)}"
        )
    if images % batch_size == 1:
        raise ConfigError(
            f"prune.batch_size: {batch_size} leaves a batch of one picture out of "
            f"prune.images {images}; batch normalisation needs two"
        )


class _Trajectory:
    """The rounds of one trajectory, kept in the stage's checkpoint as they come."""

    def __init__(
        self, context: PruneContext, start: OperationMask, xi: float, measure: Measure
    ) -> None:
        self._stage = context.stage
        self._xi = xi
        self._measure = measure
        self._edges = len(start.space.edges) * len(start.space.cell_types)
        state = self._stage.checkpoint.load() or {"rounds": "[]"}
        self.rounds = [greedy.Round.of(data, start) for data in json.loads(state["rounds"])]

    def stop(self, mask: OperationMask) -> bool:
        """Whether the pruning level is reached, or every edge is down to one operation."""
        return mask.count() == self._edges or greedy.reached(mask, self._xi, self._measure)

    def keeping(self, next_round: NextRound) -> NextRound:
        """The function, each of its rounds saved and reported."""

        def kept(mask: OperationMask, index: int) -> greedy.Round:
            done = next_round(mask, index)
            state = [r.to_dict() for r in (*self.rounds, done)]
            self._stage.checkpoint.save({"rounds": json.dumps(state)})
            after = mask.changed(remove=done.removed) if done.removed else mask
            level = after.level(self._measure)
            remaining = self._remaining(after, len(done.removed)) if done.removed else 0
            report = Progress("prune", index + 1, index + 1 + remaining, {"level": level})
            self._stage.report(report)
            return done

        return kept

    def _remaining(self, mask: OperationMask, removed: int) -> int:
        """Rounds still to come if each removes as much as the last."""
        if self.stop(mask):
            return 0
        if self._measure == "architectures":
            return 1
        goal = max(int(self._xi * mask.space.size), self._edges)
        return -(-max(mask.count() - goal, 1) // removed)


@dataclass
class _Scorer:
    """Scores averaged over initialisations and draws of pictures."""

    context: PruneContext
    rankings: Sequence[Ranking]
    images: int
    batch_size: int
    repeats: int

    def __post_init__(self) -> None:
        self.memory = PeakMemory(self.context.stage.runtime.device)

    def operations(self, mask: OperationMask, index: int) -> dict[Place, float]:
        """Scores of a mask's operations in round ``index``."""
        total: dict[Place, float] = {}
        for repeat in range(self.repeats):
            supernet, batches = self._draw(mask, index, repeat)
            memory = self.memory if index == repeat == 0 else None  # the largest supernet
            scores = exact_scores(supernet, self.rankings, batches, memory)
            for place, score in scores.items():
                total[place] = total.get(place, 0.0) + score / self.repeats
        return total

    def to_genotype(self, pruned: PruneResult) -> PruneResult:
        """Keep the best operation of each edge, then the best-scored edges of each node."""
        started = time.perf_counter()
        space, best = self.context.space, greedy.last_scores(list(pruned.rounds))
        chosen = {
            (kind, edge): max(
                (c for c, kept in enumerate(row) if kept and c != space.zero_index),
                key=lambda c, kind=kind, edge=edge: best.get((kind, edge, c), 0.0),  # type: ignore[misc]
            )
            for kind, rows in pruned.mask.rows.items()
            for edge, row in enumerate(rows)
            if any(kept and c != space.zero_index for c, kept in enumerate(row))
        }
        total = dict.fromkeys(chosen, 0.0)
        for repeat in range(self.repeats):
            supernet, batches = self._draw(pruned.mask, len(pruned.rounds), repeat)
            scores = edge_scores(supernet, self.rankings, batches, list(chosen))
            total = {edge: total[edge] + score for edge, score in scores.items()}
        cells: dict[str, tuple[Node, ...]] = {}
        for kind in space.cell_types:
            nodes = []
            for target in space.targets:
                usable = [e for e in space.incoming(target) if (kind, e) in chosen]
                usable.sort(key=lambda e, kind=kind: -total[kind, e])  # type: ignore[misc]
                kept = sorted(usable[: space.kept_edges])
                nodes.append(
                    tuple((space.operations[chosen[kind, e]], space.edges[e][0]) for e in kept)
                )
            cells[kind] = tuple(nodes)
        return replace(
            pruned,
            genotype=Genotype(space, cells),
            seconds=pruned.seconds + time.perf_counter() - started,
            peak_bytes=max(pruned.peak_bytes, self.memory.peak_bytes),
        )

    def _draw(self, mask: OperationMask, index: int, repeat: int) -> tuple[Supernet, list[Batch]]:
        """A freshly initialised supernet and pictures for it."""
        context, stage = self.context, self.context.stage
        device = stage.runtime.device
        supernet = Supernet(
            context.space,
            mask,
            context.supernet,
            in_channels=context.dataset.channels,
            classes=len(context.dataset.classes),
            extensions=context.extensions,
        )
        supernet.kaiming_normal_(seeded("cpu", stage.seed, _WEIGHTS, index, repeat))
        supernet.to(device)
        generator = seeded("cpu", stage.seed, _IMAGES, index, repeat)
        order = torch.randperm(len(context.pictures.labels), generator=generator)[: self.images]
        batches = [
            normalized(context.pictures.images[part].to(device), context.dataset)
            for part in torch.split(order, self.batch_size)
        ]
        return supernet, batches
