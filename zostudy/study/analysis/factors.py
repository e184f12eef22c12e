"""What each swept setting does to a metric: differences between its values, over seeds.

Two values of a setting are compared where everything else is the same: points that differ in it
alone, and of those the seeds that both have. A seed stands for its initialization, its random
mask and, with ``dataset.splits: by_seed``, its split, which all points with that seed share; what
chance they bring is in the spread over seeds. So the differences of one seed are averaged
over the other settings first, and the seeds are the replicates: their mean difference is compared
with its own spread by Student's t-test, two-sided. All comparisons of a study and a metric are one
family, corrected by Holm's method: that any of them is called a difference where there is none has
a probability of at most α.

Symbols:
    d   difference of one seed, averaged over the other settings
    n   seeds
    α   share of null studies in which a difference may be claimed; 0.05

References:
    Holm, "A simple sequentially rejective multiple test procedure", 1979. Demšar, "Statistical
    comparisons of classifiers over multiple data sets", JMLR 2006, on replicates.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from zostudy.study.analysis.significance import ALPHA, holm, paired, runs_needed

#: Values of a setting up to which every pair of them is compared.
_ALL_PAIRS = 4


@dataclass(frozen=True)
class Comparison:
    """Two values of a swept setting.

    Attributes:
        setting: Its path.
        first: One value.
        second: Another.
        pairs: Pairs of trials that differ in nothing else.
        seeds: n, the seeds over which they are spread.
        difference: Mean of the metric at ``second`` minus that at ``first``, in the metric's unit.
        interval: Its 95 % interval, not corrected; None with a single seed.
        p: Holm's corrected p-value; None with a single seed.
        effect: The difference in standard deviations of d (Cohen's d); None where they are unknown.
    """

    setting: str
    first: Any
    second: Any
    pairs: int
    seeds: int
    difference: float
    interval: tuple[float, float] | None = None
    p: float | None = None
    effect: float | None = None

    @property
    def differs(self) -> bool:
        """Whether it is told from noise."""
        return self.p is not None and self.p < ALPHA

    @property
    def seeds_needed(self) -> int | None:
        """Seeds with which a difference like this is found with a probability of 80 %, if known."""
        return None if self.effect is None else runs_needed(self.effect)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "setting": self.setting,
            "first": self.first,
            "second": self.second,
            "pairs": self.pairs,
            "seeds": self.seeds,
            "difference": self.difference,
            "interval": list(self.interval) if self.interval else None,
            "p": self.p,
            "effect": self.effect,
            "seeds_needed": self.seeds_needed,
            "differs": self.differs,
        }


def comparisons(trials: Sequence[Mapping[str, Any]], metric: str) -> list[Comparison]:
    """Pairs of values of every swept setting, where the study has both.

    Of a setting with more than four values, each is compared with the first, which counts as the
    baseline: all pairs would be so many that none could be told from noise.

    Args:
        trials: Those of a results document.
        metric: The metric's name.

    Returns:
        In the order of the settings and of their values; a pair that no two trials share is left
        out.
    """
    complete = [t for t in trials if t["state"] == "complete" and metric in t["metrics"]]
    paths = list(dict.fromkeys(path for trial in complete for path in trial["params"]))
    found = []
    for path in paths:
        values = list(dict.fromkeys(_plain(t["params"].get(path)) for t in complete))
        for first, second in _pairs(values):
            by_seed = _differences(complete, path, first, second, metric)
            if by_seed:
                found.append(_compared(path, first, second, by_seed))
    return _corrected(found)


def _pairs(values: Sequence[object]) -> Iterable[tuple[object, object]]:
    if len(values) > _ALL_PAIRS:
        return ((values[0], value) for value in values[1:])
    return itertools.combinations(values, 2)


def _differences(
    trials: Sequence[Mapping[str, Any]], path: str, first: object, second: object, metric: str
) -> dict[int, list[float]]:
    """For each seed, the differences between trials that differ in one setting alone."""
    sides: dict[object, dict[tuple[object, int], float]] = {first: {}, second: {}}
    for trial in trials:
        value = _plain(trial["params"].get(path))
        if value in sides:
            others = tuple((p, _plain(v)) for p, v in trial["params"].items() if p != path)
            sides[value][others, trial["seed"]] = trial["metrics"][metric]
    found = defaultdict(list)
    for key, value in sides[first].items():
        if key in sides[second]:
            found[key[1]].append(sides[second][key] - value)
    return found


def _compared(path: str, first: Any, second: Any, by_seed: Mapping[int, list[float]]) -> Comparison:  # noqa: ANN401  # any setting's values
    means = [fmean(differences) for differences in by_seed.values()]
    found = paired(means)
    pairs = sum(map(len, by_seed.values()))
    return Comparison(
        path, first, second, pairs, len(means),
        found.difference, found.interval, found.p, found.effect,
    )  # fmt: skip


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's corrected p-values."""
    corrected = holm([one.p for one in found])
    return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def _plain(value: object) -> object:
    """A value that can be compared and hashed, as shown."""
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
