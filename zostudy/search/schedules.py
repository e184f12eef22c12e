"""Schedules: what becomes of a search after an epoch, if it does not simply go on.

A schedule is ``(record, *, options) -> Decision``. It is asked after every epoch but the last, and
goes by the record alone, so that a search that was interrupted decides the same. The fact
``stages`` names a function beside it, ``(mask, cells, strengths, *, options) -> [Restage, ...]``,
that says what the later stages are if operations have these strengths, for the prediction of
memory; all stages are of equal length.

Symbols:
    t    epochs that are done
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.registry import search_schedule
from zostudy.search.decision import Strengths
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask


@dataclass(frozen=True)
class SearchRecord:
    """What a schedule goes by.

    Attributes:
        epoch: t, epochs that are done.
        epochs: Epochs of the search.
        warmup_epochs: First epochs of it, which train the weights only.
        mask: What is searched now.
        cells: Cells of the supernet now.
        strengths: For each epoch, how strong each operation was at its end.
        genotypes: For each epoch, the genotype that these strengths give.
        eigenvalues: For each epoch since the warm-up, the largest eigenvalue of the Hessian of the
            loss for α; empty unless the schedule has the fact ``eigenvalue``.
    """

    epoch: int
    epochs: int
    warmup_epochs: int
    mask: OperationMask
    cells: int
    strengths: Sequence[Strengths]
    genotypes: Sequence[Genotype]
    eigenvalues: Sequence[float]


@dataclass(frozen=True)
class Stop:
    """The search ends.

    Attributes:
        reason: Why, in words.
        epoch: The epoch, from 1, whose α gives the genotype.
    """

    reason: str
    epoch: int


@dataclass(frozen=True)
class Restage:
    """The search goes on with another supernet.

    Attributes:
        mask: What it searches.
        cells: Cells of the supernet.
        fresh: Whether weights and α start anew; otherwise both are carried over.
        reason: Why, in words.
    """

    mask: OperationMask
    cells: int
    fresh: bool
    reason: str


#: Nothing: the search goes on as it is.
Decision = Stop | Restage | None


@search_schedule("none")
def none(record: SearchRecord) -> Decision:
    """The search runs for all of its epochs."""
    del record
    return None


@search_schedule("skip_stop", needs=("skip",))
def skip_stop(
    record: SearchRecord,
    *,
    skips: Annotated[int, "[0, 1000]"] = 2,
    stable_epochs: Annotated[int, "[0, 1000000]"] = 10,
) -> Decision:
    """Stop before a genotype of too many skip connections, or when the ranking stays the same.

    Args:
        record: The search so far.
        skips: Skip connections in the cells of one type at which it stops; 0 for no such rule. The
            genotype is that of the epoch before.
        stable_epochs: Epochs for which the ranking of the operations that have parameters must not
            change on any edge; 0 for no such rule.

    References:
        DARTS+, section 3.3 (Liang et al. 2019), both criteria.
    """
    searched = record.epoch - record.warmup_epochs
    if searched < 1:
        return None
    most = max(skip_connections(record.genotypes[-1]).values())
    if skips and most >= skips and searched > 1:
        return Stop(f"a cell has {most} skip connections", record.epoch - 1)
    if stable_epochs and searched > stable_epochs:
        recent = [
            _learned_ranking(record.mask, one) for one in record.strengths[-stable_epochs - 1 :]
        ]
        if all(one == recent[0] for one in recent):
            return Stop(f"the ranking was the same for {stable_epochs} epochs", record.epoch)
    return None


def skip_connections(genotype: Genotype) -> dict[str, int]:
    """Skip connections in a cell of each type."""
    return {
        kind: sum(name == genotype.space.identity for node in nodes for name, _ in node)
        for kind, nodes in genotype.cells.items()
    }


def _learned_ranking(mask: OperationMask, strengths: Strengths) -> list[list[int]]:
    """For each edge, the operations with parameters from the strongest to the weakest."""
    names = mask.space.operations
    return [
        sorted(
            (
                column
                for column, name in enumerate(names)
                if mask.rows[kind][edge][column] and mask.space.learns(name)
            ),
            key=lambda column: -row[column],
        )
        for kind, rows in strengths.items()
        for edge, row in enumerate(rows)
    ]


@search_schedule("eigenvalue_stop", eigenvalue=True, needs=("pictures",))
def eigenvalue_stop(
    record: SearchRecord,
    *,
    window: Annotated[int, "[1, 1000000]"] = 5,
    largest_rise: Annotated[float, "(1, 1000000]"] = 1.333,
) -> Decision:
    """Stop when the largest eigenvalue of α's Hessian rises: the curvature foretells a collapse.

    Args:
        record: The search so far.
        window: Epochs that each of the two compared means is over.
        largest_rise: Times by which the later mean may exceed the earlier; the genotype is that of
            the end of the earlier window.

    References:
        R-DARTS, section 4.2 (Zela et al. 2020), where the mean of 5 epochs ends the search when the
        one before is below 0.75 of it.
    """
    found = record.eigenvalues
    if len(found) < 2 * window:
        return None
    before, now = (sum(part) / window for part in (found[-2 * window : -window], found[-window:]))
    if before > 0 and now > largest_rise * before:
        reason = f"the largest eigenvalue rose from {before:.3g} to {now:.3g}"
        return Stop(reason, record.epoch - window)
    return None


@search_schedule("shrinking")
def shrinking(
    record: SearchRecord,
    *,
    every: Annotated[int, "[1, 1000000]"] = 5,
    operations_left: Annotated[int, "[1, 1000]"] = 2,
) -> Decision:
    """Every few epochs each edge loses its weakest operation; the others keep their weights.

    Args:
        record: The search so far.
        every: Epochs, after the warm-up, between two removals.
        operations_left: Operations that an edge keeps at least.

    References:
        Progressive shrinking, as in ASAP (Noy et al. 2020) and PR-DARTS, by the strength of α.
    """
    searched = record.epoch - record.warmup_epochs
    if searched < 1 or searched % every:
        return None
    counts = [
        sum(row) for rows in record.mask.rows.values() for row in rows if sum(row) > operations_left
    ]
    if not counts:
        return None
    mask = strongest(record.mask, record.strengths[-1], lambda n: max(operations_left, n - 1))
    return Restage(mask, record.cells, fresh=False, reason="each edge lost its weakest operation")


@search_schedule("progressive", stages="progressive_stages", check="check_stages")
def progressive(
    record: SearchRecord,
    *,
    stages: Annotated[int, "[2, 100]"] = 3,
    cells_added: Annotated[int, "[0, 1000]"] = 3,
    kept: Annotated[float, "(0, 1)"] = 0.6,
) -> Decision:
    """The supernet grows deeper from stage to stage, and each edge has fewer operations.

    Args:
        record: The search so far.
        stages: Stages of equal length; each begins with fresh weights and a warm-up of its own.
        cells_added: Cells that each stage adds.
        kept: Share of an edge's operations that the next stage keeps, rounded up.

    References:
        P-DARTS, sections 3.2 and 3.3 (Chen et al. 2019): 5, 11 and 17 cells; 8, 5 and 3 operations.
    """
    if record.epoch not in stage_starts(record.epochs, stages):
        return None
    return _next_stage(record.mask, record.cells + cells_added, record.strengths[-1], kept)


def check_stages(epochs: int, *, stages: int, cells_added: int, kept: float) -> str:
    """Why a search of so many epochs cannot have the stages; empty if it can."""
    del cells_added, kept
    if epochs < 2 * stages:
        allowed = f"at most {epochs // 2}" if epochs >= 4 else "search.epochs of 4 or more"
        return f"stages: {stages} leaves a stage without two epochs; allowed: {allowed}"
    return ""


def progressive_stages(
    mask: OperationMask,
    cells: int,
    strengths: Strengths,
    *,
    stages: int,
    cells_added: int,
    kept: float,
) -> list[Restage]:
    """The stages after the first, if operations have these strengths."""
    found: list[Restage] = []
    for stage in range(1, stages):
        now = found[-1].mask if found else mask
        found.append(_next_stage(now, cells + stage * cells_added, strengths, kept))
    return found


def _next_stage(mask: OperationMask, cells: int, strengths: Strengths, kept: float) -> Restage:
    # The product of 0.55 and 20 is a little above 11.
    shrunk = strongest(mask, strengths, lambda n: math.ceil(kept * n - 1e-9))
    return Restage(shrunk, cells, fresh=True, reason=f"the next stage has {cells} cells")


def stage_starts(epochs: int, stages: int) -> tuple[int, ...]:
    """The epochs, from 0, with which the stages begin after the first."""
    return tuple(round(epochs * stage / stages) for stage in range(1, stages))


def strongest(
    mask: OperationMask, strengths: Strengths, left: Callable[[int], int]
) -> OperationMask:
    """The mask without the weakest operations of each edge.

    An operation that a genotype may keep stays on every edge that has one.

    Args:
        mask: What is searched.
        strengths: How strong each operation is.
        left: From the number of an edge's operations, how many stay.
    """
    space = mask.space
    rows = {}
    for kind, edges in mask.rows.items():
        shrunk = []
        for row, values in zip(edges, strengths[kind], strict=True):
            columns = [column for column, kept in enumerate(row) if kept]
            order = sorted(columns, key=values.__getitem__, reverse=True)
            stay = order[: left(len(order))]
            usable = [c for c in order if space.operations[c] in space.keepable]
            if usable and not any(c in stay for c in usable):
                stay[-1] = usable[0]
            shrunk.append(tuple(column in stay for column in range(len(row))))
        rows[kind] = tuple(shrunk)
    return OperationMask(space, rows)


def later_stages(
    mask: OperationMask,
    supernet: SupernetSettings,
    settings: SearchSettings,
    order: Sequence[int] = (),
) -> Sequence[Restage]:
    """What the stages after the first will be like.

    Args:
        mask: What is searched at first.
        supernet: Size of the first supernet.
        settings: The search.
        order: Operations from the one that stays the longest; as the space has them, if it is not
            given.
    """
    schedule = settings.schedule
    component = mask.space.find("search_schedule", schedule.name, "search.schedule.name")
    name = component.facts.get("stages")
    if name is None:
        return ()
    foretell: Callable[..., Sequence[Restage]] = component.sibling(str(name))
    columns = range(len(mask.space.operations))
    row = [-float((order or columns).index(column)) for column in columns]
    strengths = {kind: [row] * len(rows) for kind, rows in mask.rows.items()}
    return foretell(mask, supernet.cells, strengths, **schedule.options)
