"""What each swept setting does to a metric: differences between its values, over seeds.

Two values of a setting are compared where everything else is the same: points that differ in it
alone, and of those the seeds that both have. A seed stands for its initialization, its split and
its random mask, which all points with that seed share. So the differences of one seed are averaged
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
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from scipy import stats

#: Share of null studies in which a difference may be claimed.
ALPHA = 0.05

#: Probability with which so many seeds as are named would find a difference like that seen.
POWER = 0.8

#: Values of a setting up to which every pair of them is compared.
_ALL_PAIRS = 4

#: More seeds than this are not named.
MOST_SEEDS = 1000


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
        return None if self.effect is None else seeds_needed(self.effect)

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
    pairs = sum(map(len, by_seed.values()))
    found = Comparison(path, first, second, pairs, len(means), fmean(means))
    if len(means) < 2:
        return found
    spread = stdev(means)
    if spread == 0:  # every seed says the same: how likely that is by chance, by the sign test
        p = 1.0 if found.difference == 0 else 2.0 ** (1 - len(means))
        return replace(found, interval=(found.difference,) * 2, p=p)
    degrees, error = len(means) - 1, spread / math.sqrt(len(means))
    half = float(stats.t.ppf(1 - ALPHA / 2, degrees)) * error
    effect = found.difference / spread
    return replace(
        found,
        interval=(found.difference - half, found.difference + half),
        p=2 * float(stats.t.sf(abs(found.difference) / error, degrees)),
        effect=effect,
    )


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's corrected p-values."""
    tested = sorted((one.p, index) for index, one in enumerate(found) if one.p is not None)
    corrected, least = list(found), 0.0
    for rank, (p, index) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        corrected[index] = replace(found[index], p=least)
    return corrected


def power(effect: float, seeds: int) -> float:
    """Probability that the t-test of one comparison finds a difference of that many deviations."""
    degrees = seeds - 1
    threshold = float(stats.t.ppf(1 - ALPHA / 2, degrees))
    return float(stats.ncf.sf(threshold**2, 1, degrees, seeds * effect**2))  # F is t squared


def seeds_needed(effect: float) -> int | None:
    """The fewest seeds with which a difference of that many deviations is found four times of five.

    Returns:
        None where it takes more than 1,000.
    """
    if effect == 0 or not power(effect, MOST_SEEDS) >= POWER:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle) >= POWER else (middle, high)
    return high


def _plain(value: object) -> object:
    """A value that can be compared and hashed, as shown."""
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
