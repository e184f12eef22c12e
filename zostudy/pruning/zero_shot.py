"""Algorithm 1 as a mask source: scores averaged over initializations, a trajectory that is kept."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal

import torch

from zostudy.data.sources import Pictures
from zostudy.errors import ConfigError, NumericalError
from zostudy.proxies.inputs import Ranking
from zostudy.pruning import greedy
from zostudy.pruning.mask_sources import ExpectedMask, PruneContext, PruneResult, repaired
from zostudy.pruning.sampling import SCORERS, Sampler
from zostudy.pruning.schedule import Schedule
from zostudy.pruning.scoring import removable
from zostudy.pruning.trajectory import Repeats, Rounds, Trajectory, metrics, to_genotype
from zostudy.registry import components, mask_source
from zostudy.runtime import seeded
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace


def check_zero_shot(context: PruneContext, **options: Any) -> None:  # noqa: ANN401  # any option
    """Whether zero-shot pruning can work with these settings and this data.

    Raises:
        ConfigError: There are too few pictures, a batch would hold one, the scorer cannot use a
            ranking function, or a ranking function tells nothing of so few classes.
    """
    check_images(context.pictures, options["images"], options["batch_size"])
    Repeats.of(options["repeats"])
    rankings = _rankings(options["ranking"], context.space)
    if options["scorer"] == "first_order":
        check_differentiable(rankings, context.space)
    drawn = torch.randn(2, len(context.dataset.classes), generator=seeded("cpu", "prune/check"))
    for ranking in rankings:
        if {"logits", "features"}.issuperset(ranking.reads):
            try:
                ranking.value({"logits": drawn, "features": drawn})
            except NumericalError as error:
                raise ConfigError(f"prune.ranking: {error}") from error


def check_differentiable(rankings: Sequence[Ranking], space: SearchSpace) -> None:
    """Whether the first-order scorer can use the ranking functions.

    Raises:
        ConfigError: It cannot use one of them.
    """
    known = components("ranking_function", space.extensions)
    usable = [name for name, c in known.items() if c.facts.get("differentiable") is not False]
    for ranking in rankings:
        if not ranking.differentiable:
            raise ConfigError(
                f"prune.ranking: {ranking.name!r} is not differentiable, which prune.scorer "
                f"'first_order' needs; allowed: scorer 'exact', or {', '.join(usable)}"
            )


def expected_zero_shot_mask(context: PruneContext, **options: Any) -> ExpectedMask:  # noqa: ANN401  # any option
    """What zero-shot pruning will leave: how many operations go from an edge needs no scores."""
    own = {field.name: options[field.name] for field in fields(Schedule) if field.name in options}
    *masks, last = Schedule(context.space, **own).expected(seeded("cpu", "prune/foreseen"))
    exact = options["scorer"] == "exact"
    passes = sum(len(removable(mask)) + 1 if exact else 1 for mask in masks)
    batches = -(-options["images"] // options["batch_size"])
    steps = passes * batches * Repeats.of(options["repeats"]).at_most
    return ExpectedMask(repaired(last, {}).mask, steps, options["until"] == "genotype")


@mask_source(
    "zero_shot",
    continues=("xi", "measure", "until"),
    level="xi",
    genotype={"until": "genotype"},
    components={"ranking": "ranking_function"},
    check="check_zero_shot",
    expected_mask="expected_zero_shot_mask",
)
def zero_shot(  # noqa: PLR0913  # the settings of Algorithm 1
    context: PruneContext,
    *,
    xi: Annotated[float, "(0, 1]"] = 0.5,
    measure: Literal["operations", "architectures"] = "operations",
    operations_per_round: Annotated[int, "[1, 1000]"] = 1,
    until: Literal["level", "genotype"] = "level",
    none_operation: Literal["candidate", "kept", "removed"] = "candidate",
    ranking: tuple[str, ...] = ("nngp",),
    scorer: Literal["first_order", "exact"] = "first_order",
    images: Annotated[int, "[2, 1000000]"] = 384,
    batch_size: Annotated[int, "[2, 1000000]"] = 128,
    repeats: Annotated[
        int | dict[str, float],
        "[1, 1000000]",
        {"until_reliability": "(0, 1)", "at_most": "[4, 1000000]"},
    ] = 16,
) -> PruneResult:
    """Algorithm 1: prune by zero-shot scores, to a level or to a genotype (ETENAS).

    Args:
        context: What is pruned.
        xi: Pruning level; no round starts at or below it.
        measure: What the level counts (docs/method.md, section 8).
        operations_per_round: Operations that an edge loses in one round.
        until: ``level``, or ``genotype`` for one operation an edge and the edges the space keeps.
        none_operation: Whether the zero operation may go as any other, stays, or is never there.
        ranking: Ranking functions, summed.
        scorer: ``exact`` leaves every operation out in turn, as Algorithm 1 does; ``first_order``
            has all scores from one backward pass, for about a hundredth of the time.
        images: Pictures seen in each repeat.
        batch_size: Pictures in one batch.
        repeats: Initializations and draws of pictures that scores are averaged over; or as many as
            it takes: ``{until_reliability: R, at_most: N}``.

    References:
        The paper, Algorithm 1; docs/method.md, sections 5 and 9.
    """
    schedule = Schedule(context.space, xi, measure, operations_per_round, until, none_operation)
    course = Trajectory(context.stage, schedule, Repeats.of(repeats))
    rankings = _rankings(ranking, context.space)
    sampler = Sampler(context, rankings, SCORERS[scorer], images, batch_size, course)
    pruning = Rounds(sampler, course, schedule)
    mask, rounds = greedy.rounds_until(schedule.start, schedule.stop, pruning.next, course.rounds)
    result = _result(mask, rounds, measure)
    return to_genotype(result, sampler) if until == "genotype" else result


def _result(
    mask: OperationMask, rounds: list[greedy.Round], measure: Literal["operations", "architectures"]
) -> PruneResult:
    return repaired(
        mask,
        greedy.last_scores(rounds),
        rounds=rounds,
        seconds=sum(done.seconds for done in rounds),
        peak_bytes=max((done.peak_bytes for done in rounds), default=0),
        metrics=metrics(rounds) | {"level": mask.level(measure)},
    )


def _rankings(ranking: Sequence[Any], space: SearchSpace) -> list[Ranking]:
    settings = [{"name": entry} if isinstance(entry, str) else entry for entry in ranking]
    return [Ranking.of(entry, space) for entry in settings]


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
            f"prune.images {images}; batch normalization needs two"
        )
