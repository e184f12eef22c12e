"""How far scores can be trusted: what two halves of the repeats say of each other.

Symbols:
    S     float[repeats, operations], the score of every operation in every repeat
    ρ     Spearman correlation between the mean scores of two halves, averaged over splits
    R_n   reliability of a mean over n repeats: the correlation that it would have with the mean
          over n others. From halves of h, with k = n / h: R_n = k ρ / (1 + (k − 1) ρ)

References:
    Spearman 1910; Brown 1910.
"""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Samples = Float[Tensor, "repeats operations"]

#: Random splits into halves that every figure is averaged over.
SPLITS = 50

#: What would be pruned by mean scores.
Prune = Callable[[Float[Tensor, " operations"]], Collection[Hashable]]


@dataclass(frozen=True)
class Reliability:
    """What the halves of the repeats say; all of it is undefined for a single repeat.

    Attributes:
        reliability: R_n, Spearman–Brown corrected; where the halves contradict each other (ρ < 0),
            ρ itself.
        pruned_again: Share of what one half prunes that the other half prunes too.
        pruned_again_by_chance: The same if scores were drawn at random.
    """

    reliability: float
    pruned_again: float
    pruned_again_by_chance: float


def standard_errors(samples: Samples) -> Float[Tensor, " operations"]:
    """Standard error of every mean score.

    Raises:
        ValueError: There is one repeat, of which nothing is known.
    """
    if len(samples) < 2:
        raise ValueError("standard_errors: one repeat has no spread; needs at least 2")
    errors: Tensor = samples.std(dim=0, correction=1) / len(samples) ** 0.5
    return errors


def split_half(samples: Samples, repeats: int, generator: torch.Generator) -> float | None:
    """Reliability of a mean over some number of repeats.

    Args:
        samples: At least two repeats.
        repeats: The n of R_n.
        generator: Draws the splits.

    Returns:
        R_n; None where a half gives every operation the same score, so that nothing is ranked.
    """
    half = min(max(repeats, 1), len(samples) // 2)
    found = []
    for _ in range(SPLITS):
        first, second = _halves(samples, half, generator)
        found.append(float(torch.corrcoef(torch.stack([_ranks(first), _ranks(second)]))[0, 1]))
    correlation = sum(found) / len(found)
    return None if correlation != correlation else corrected(correlation, repeats / half)


def corrected(correlation: float, factor: float) -> float:
    """Spearman–Brown: a correlation between halves, for `factor` times as many repeats."""
    if correlation <= 0:
        return correlation
    return factor * correlation / (1 + (factor - 1) * correlation)


def assess(samples: Samples, prune: Prune, generator: torch.Generator) -> Reliability | None:
    """What halves of the repeats say of each other.

    Args:
        samples: Scores.
        prune: What would be pruned.
        generator: Draws the splits.

    Returns:
        Nothing for one repeat, or where all scores are equal.
    """
    if len(samples) < 2:
        return None
    reliability = split_half(samples, len(samples), generator)
    if reliability is None:
        return None
    again, chance = 0.0, 0.0
    for _ in range(SPLITS):
        first, second = (prune(h) for h in _halves(samples, len(samples) // 2, generator))
        drawn = prune(torch.rand(samples.shape[1], generator=generator, dtype=samples.dtype))
        again += _shared(first, second) / SPLITS
        chance += _shared(first, drawn) / SPLITS
    return Reliability(reliability, again, chance)


def _shared(first: Collection[Hashable], second: Collection[Hashable]) -> float:
    return len(set(first) & set(second)) / max(1, len(first))


def _halves(
    samples: Samples, half: int, generator: torch.Generator
) -> tuple[Float[Tensor, " operations"], Float[Tensor, " operations"]]:
    """Mean scores of two disjoint random halves."""
    order = torch.randperm(len(samples), generator=generator)
    return samples[order[:half]].mean(dim=0), samples[order[half : 2 * half]].mean(dim=0)


def _ranks(scores: Float[Tensor, " operations"]) -> Float[Tensor, " operations"]:
    """Ranks from 1; equal scores share the mean of their ranks."""
    _, place, count = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks: Tensor = (count.cumsum(0) - (count - 1) / 2).to(scores.dtype)[place]
    return ranks
