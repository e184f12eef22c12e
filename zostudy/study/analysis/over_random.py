"""What a search gives over random genotypes of the same space, masks, seeds and training.

A seed's genotypes, searched and random, share its mask and the seed of their training. So the
difference of a seed is that of the point's trial and the mean of its random genotypes, and the
seeds are the replicates: their mean difference is compared with its own spread by Student's t-test,
two-sided. The points of a study are one family, corrected by Holm's method. The difference of the
whole study is the mean over its points, seed by seed, of the seeds that have most points.

Symbols:
    d   difference of one seed
    n   seeds that have both
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from zostudy.study.analysis.significance import ALPHA, Estimate, holm, paired

#: The metrics that are compared: those of a network, where larger is better.
METRICS = ("validation_accuracy", "test_accuracy", "predicted_accuracy")

#: A metric of trials by their seeds.
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Gain:
    """What is gained over random genotypes.

    Attributes:
        difference: Mean of d, in the metric's unit.
        seeds: n.
        genotypes: Random genotypes that were compared with.
        interval: Its 95 % interval, not corrected; None with a single seed.
        p: Of a point corrected by Holm's method; None with a single seed.
        percentile: Share of the random genotypes below the mean of the searched ones, percent.
    """

    difference: float
    seeds: int
    genotypes: int
    interval: tuple[float, float] | None
    p: float | None
    percentile: float

    @property
    def differs(self) -> bool:
        """Whether it is told from noise."""
        return self.p is not None and self.p < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        interval = list(self.interval) if self.interval else None
        return {**vars(self), "interval": interval, "differs": self.differs}


@dataclass(frozen=True)
class Side:
    """A point beside its random genotypes, by one metric.

    Attributes:
        group: Names its random genotypes, which other points may have too.
        searched: Its trials.
        random: For each seed, the random genotypes.
    """

    group: str
    searched: BySeed
    random: Mapping[int, Sequence[float]]

    def paired(self) -> "Side":
        """The seeds that have both."""
        both = [seed for seed in self.searched if self.random.get(seed)]
        searched = {seed: self.searched[seed] for seed in both}
        return Side(self.group, searched, {seed: self.random[seed] for seed in both})

    def differences(self) -> dict[int, float]:
        """The difference of every seed; each has both."""
        return {seed: own - fmean(self.random[seed]) for seed, own in self.searched.items()}


def gains(sides: Sequence[Side]) -> tuple[list[Gain | None], Gain | None]:
    """What every point gains, and the study; nothing where no seed has both."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    found: list[Gain | None] = []
    sides = [side.paired() for side in sides]
    for side in sides:
        differences = side.differences()
        for seed, difference in differences.items():
            by_seed[seed].append(difference)
        found.append(_gain(list(differences.values()), [side]) if differences else None)
    corrected = holm([one.p if one else None for one in found])
    points = [one and replace(one, p=p) for one, p in zip(found, corrected, strict=True)]
    every = max(map(len, by_seed.values()), default=0)  # else a point's level were a seed's
    means = [fmean(own) for own in by_seed.values() if len(own) == every]
    return points, _gain(means, sides) if means else None


def _gain(differences: Sequence[float], sides: Sequence[Side]) -> Gain:
    estimate: Estimate = paired(differences)
    below = [_percentile(side) for side in sides if side.differences()]
    random: dict[tuple[str, int], int] = {}
    for side in sides:
        random |= {(side.group, seed): len(own) for seed, own in side.random.items()}
    return Gain(
        estimate.difference,
        len(differences),
        sum(random.values()),
        estimate.interval,
        estimate.p,
        fmean(below),
    )


def _percentile(side: Side) -> float:
    """Share of random genotypes below the mean of the searched ones, equal ones by half."""
    mean, random = fmean(side.searched.values()), [v for own in side.random.values() for v in own]
    return 100 * fmean((value < mean) + 0.5 * (value == mean) for value in random)
