"""Methods ranked on each data set: whether their mean ranks differ, and which from which.

Symbols:
    k   methods
    N   data sets, on each of which every method has a rank: 1 the best, equals share theirs
    R   mean rank of a method over the data sets
    CD  critical difference q √(k (k + 1) / (6 N)) of two mean ranks, where √2 q is the 95 %
        quantile of the studentized range of k values with infinite degrees of freedom

References:
    Friedman, 1937. Nemenyi, 1963. Demšar, "Statistical comparisons of classifiers over multiple
    data sets", JMLR 2006.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from scipy import stats

from zostudy.study.analysis.significance import ALPHA

#: Methods and data sets below which nothing can be said.
_LEAST_METHODS, _LEAST_DATASETS = 3, 2


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of the methods that are on all data sets.

    Attributes:
        mean_ranks: R by method, the best first; empty where there are too few.
        datasets: The data sets.
        missing: Methods that were left out, each with the data sets that it is not on.
        p: Friedman's, that ranks so different come by chance; None where there are too few.
        critical_difference: CD; None likewise.
    """

    mean_ranks: Mapping[str, float]
    datasets: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]]
    p: float | None = None
    critical_difference: float | None = None

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Methods in the order of their ranks that are not told apart, the largest such groups."""
        if self.critical_difference is None:
            return []
        names = list(self.mean_ranks)
        found: list[tuple[int, int]] = []
        for start, name in enumerate(names):
            most = self.mean_ranks[name] + self.critical_difference
            end = max(i for i, other in enumerate(names) if self.mean_ranks[other] <= most)
            if end > start and (not found or end > found[-1][1]):
                found.append((start, end))
        return [tuple(names[start : end + 1]) for start, end in found]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "datasets": list(self.datasets),
            "mean_ranks": dict(self.mean_ranks),
            "missing": {method: list(where) for method, where in self.missing.items()},
            "p": self.p,
            "critical_difference": self.critical_difference,
            "groups": [list(group) for group in self.groups],
        }


def ranks(values: Mapping[str, Mapping[str, float]], datasets: Sequence[str]) -> Ranks:
    """Rank methods by values, of which larger ones are better.

    Args:
        values: For each method, its value by data set.
        datasets: All data sets.
    """
    missing = {
        method: lacking
        for method, own in values.items()
        if (lacking := tuple(d for d in datasets if d not in own))
    }
    kept = [method for method in values if method not in missing]
    k, n = len(kept), len(datasets)
    if k < _LEAST_METHODS or n < _LEAST_DATASETS:
        return Ranks({}, tuple(datasets), missing)
    by_dataset = [stats.rankdata([-values[method][d] for method in kept]) for d in datasets]
    mean = {
        method: fmean(map(float, own))
        for method, own in zip(kept, zip(*by_dataset, strict=True), strict=True)
    }
    samples = [[values[method][d] for d in datasets] for method in kept]
    equal = all(len(set(own)) == 1 for own in zip(*samples, strict=True))
    p = 1.0 if equal else float(stats.friedmanchisquare(*samples).pvalue)
    q = float(stats.studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    return Ranks(
        mean_ranks=dict(sorted(mean.items(), key=lambda item: item[1])),
        datasets=tuple(datasets),
        missing=missing,
        p=p,
        critical_difference=q * math.sqrt(k * (k + 1) / (6 * n)),
    )
