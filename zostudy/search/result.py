"""What a search hands over, whatever its strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        genotype: The genotype that it chose.
        history: For each epoch, or few architectures that were scored, its metrics.
        alpha_history: For each epoch of a one-shot search, how strong each operation was by cell
            type, edge and operation; of a softmax, its mixing weights.
        seconds: Time it took, earlier sessions counted in.
        peak_bytes: Most live tensor bytes of a step (CPU), or the allocator's peak (CUDA).
        metrics: Further metrics of memory and of the decision.
        notes: What is to be said of it, a sentence each.
        healthy: The genotype of the last epoch before a collapse, and that epoch, from 1; nothing
            where the search did not collapse or was never healthy.
        scored: Of a search by score alone, the architectures in the order in which they were
            scored, and the values of each; nothing for one that has none.
    """

    genotype: Genotype
    history: Sequence[Mapping[str, float]]
    alpha_history: Sequence[Mapping[str, list[list[float]]]]
    seconds: float
    peak_bytes: int
    metrics: Mapping[str, float]
    notes: Sequence[str] = field(default=())
    healthy: tuple[Genotype, int] | None = None
    scored: Sequence[tuple[Genotype, Sequence[float] | None]] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as a record keeps them."""
        return {
            "genotype": self.genotype.to_dict(),
            "history": list(self.history),
            "alpha_history": list(self.alpha_history),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "figures": dict(self.metrics),
            "notes": list(self.notes),
            "healthy": [self.healthy[0].to_dict(), self.healthy[1]] if self.healthy else None,
            "scored": [[genotype.to_dict(), values] for genotype, values in self.scored],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], space: SearchSpace) -> "SearchResult":
        """A result from what `to_dict` gave, now or before searches had all of it."""
        healthy = data.get("healthy")
        return cls(
            genotypes.from_dict(data["genotype"], space.extensions),
            data["history"],
            data["alpha_history"],
            data["seconds"],
            data["peak_bytes"],
            data["figures"],
            data.get("notes", ()),
            (genotypes.from_dict(healthy[0], space.extensions), healthy[1]) if healthy else None,
            [(genotypes.from_dict(g, space.extensions), v) for g, v in data.get("scored", ())],
        )
