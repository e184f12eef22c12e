"""How far, and how fast, Algorithm 1 prunes; what that leaves is known without any score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from zostudy.pruning import greedy
from zostudy.pruning.scoring import removable
from zostudy.space.mask import Measure, OperationMask, Place
from zostudy.space.search_space import SearchSpace


@dataclass(frozen=True)
class Schedule:
    """How far, and how fast, operations are pruned.

    Attributes:
        space: The search space.
        xi: Pruning level; no round starts at or below it.
        measure: What the level counts.
        operations_per_round: Operations that an edge loses in one round.
        until: ``level``, or ``genotype`` for one operation an edge.
        none_operation: Whether the zero operation is a ``candidate``, ``kept`` or ``removed``.
    """

    space: SearchSpace
    xi: float
    measure: Measure
    operations_per_round: int
    until: Literal["level", "genotype"]
    none_operation: Literal["candidate", "kept", "removed"]

    @property
    def start(self) -> OperationMask:
        """The mask before the first round."""
        full = OperationMask.full(self.space)
        if self.none_operation != "removed":
            return full
        return full.changed(remove=[place for place in full.places() if self._is_zero(place)])

    def candidates(self, mask: OperationMask) -> list[Place]:
        """The operations of a mask that may go."""
        kept = self.none_operation == "kept"
        return [place for place in removable(mask) if not (kept and self._is_zero(place))]

    def lowest(self, mask: OperationMask, scores: greedy.Scores) -> tuple[Place, ...]:
        """The operations that a round removes, by the scores of the candidates."""
        return greedy.lowest(mask, scores, self.operations_per_round)

    def stop(self, mask: OperationMask) -> bool:
        """Whether the level is reached, or every edge is down to one operation."""
        edges = len(self.space.edges) * len(self.space.cell_types)
        level = self.xi if self.until == "level" else 0.0
        return mask.count() == edges or greedy.reached(mask, level, self.measure)

    def expected(self, generator: torch.Generator) -> Sequence[OperationMask]:
        """Masks that keep as many operations on each edge as those of the rounds, the last too.

        Args:
            generator: Draws the scores.
        """

        def draw(mask: OperationMask, _: int) -> greedy.Round:
            places = self.candidates(mask)
            drawn = torch.rand(len(places), generator=generator).tolist()
            scores = dict(zip(places, drawn, strict=True))
            return greedy.Round(mask, scores, self.lowest(mask, scores), 0.0, 0)

        last, rounds = greedy.rounds_until(self.start, self.stop, draw, [])
        return [*(done.mask for done in rounds), last]

    def _is_zero(self, place: Place) -> bool:
        return place[2] == self.space.zero_index
