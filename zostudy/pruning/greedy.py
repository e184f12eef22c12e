"""Algorithm 1: prune round by round, the lowest-scored operations of every edge at once.

Symbols:
    N_t   the mask after t rounds; N_0 the full search space
    ξ     pruning level in (0, 1]: rounds stop when the mask's level is at most ξ
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zostudy.space.mask import Measure, OperationMask, Place, from_dict

Scores = Mapping[Place, float]


@dataclass(frozen=True)
class Round:
    """One round: a mask, what its operations scored, and what was removed.

    Attributes:
        mask: N_t, before the removal.
        scores: Score of every operation that could be removed.
        removed: The operations removed.
        seconds: Time of the round.
        peak_bytes: Most live tensor bytes so far in the stage.
        repeats: Samples that the scores are means of.
        errors: Standard error of every score; empty after one repeat.
        reliability: What halves of the repeats say of each other, by the names of `Reliability`;
            empty where that is undefined.
    """

    mask: OperationMask
    scores: Scores
    removed: tuple[Place, ...]
    seconds: float
    peak_bytes: int
    repeats: int = 1
    errors: Scores = field(default_factory=dict)
    reliability: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {
            "mask": self.mask.to_dict(),
            "scores": _listed(self.scores),
            "removed": [list(place) for place in self.removed],
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "repeats": self.repeats,
            "errors": _listed(self.errors),
            "reliability": dict(self.reliability),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], like: OperationMask) -> "Round":
        """A round from what `to_dict` gave."""
        return cls(
            from_dict(data["mask"], like.space),
            _scores(data["scores"]),
            tuple(_place(place) for place in data["removed"]),
            data["seconds"],
            data["peak_bytes"],
            data["repeats"],
            _scores(data["errors"]),
            data["reliability"],
        )


def _listed(scores: Scores) -> list[Any]:
    return [[list(place), score] for place, score in scores.items()]


def _scores(listed: list[Any]) -> dict[Place, float]:
    return {_place(place): score for place, score in listed}


def _place(values: list[Any]) -> Place:
    kind, edge, column = values
    return kind, edge, column


def lowest(mask: OperationMask, scores: Scores, operations_per_round: int) -> tuple[Place, ...]:
    """On every edge, the operations of lowest score, but never the last one that has a score.

    Args:
        mask: The mask.
        scores: Scores; an operation without one is not removed.
        operations_per_round: Most operations removed from one edge.
    """
    removed: list[Place] = []
    for kind, rows in mask.rows.items():
        for edge, row in enumerate(rows):
            places = [(kind, edge, column) for column, kept in enumerate(row) if kept]
            scored = sorted((p for p in places if p in scores), key=lambda p: scores[p])
            removed.extend(scored[: min(operations_per_round, len(scored) - 1)] if scored else ())
    return tuple(removed)


def reached(mask: OperationMask, xi: float, measure: Measure) -> bool:
    """Whether the mask's level is at most ξ (line 3 of Algorithm 1)."""
    return mask.level(measure) <= xi * (1 + 1e-12)


def rounds_until(
    mask: OperationMask,
    stop: Callable[[OperationMask], bool],
    next_round: Callable[[OperationMask, int], Round],
    known: list[Round],
) -> tuple[OperationMask, list[Round]]:
    """Prune until a mask satisfies the condition or nothing can be removed.

    Args:
        mask: N_0.
        stop: The condition.
        next_round: Gives round t for N_t.
        known: Rounds done before; they are taken as they are. New rounds are appended.

    Returns:
        The last mask, and the rounds that led to it.
    """
    used: list[Round] = []
    while not stop(mask):
        if len(used) == len(known):
            known.append(next_round(mask, len(used)))
        used.append(known[len(used)])
        if not used[-1].removed:
            break
        mask = mask.changed(remove=used[-1].removed)
    return mask, used


def last_scores(rounds: list[Round]) -> dict[Place, float]:
    """For every operation the score of the last round that scored it, later rounds above earlier.

    An operation that lasted longer ranks above one that went before it; within a round the
    score decides. So a repair brings back what the pruning valued most.
    """
    order: dict[Place, tuple[int, float]] = {}
    for index, done in enumerate(rounds):
        order |= {place: (index, score) for place, score in done.scores.items()}
    ranked = sorted(order, key=lambda place: order[place])
    return {place: float(position) for position, place in enumerate(ranked)}
