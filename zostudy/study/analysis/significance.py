"""Whether a difference of means is told from noise: t-tests, Holm's correction, power.

Pairs are judged by their differences (Student's t-test of one sample), independent groups by
Welch's t-test, which takes no equal variances for granted. Both are two-sided.

Symbols:
    n   runs: pairs, or runs of each of two groups
    d   the difference in standard deviations: of the differences of pairs, or √(s₁² + s₂²) of
        groups
    f   degrees of freedom: n − 1 of pairs, and between n − 1 and 2 (n − 1) of two groups
    α   share of null studies in which a difference may be claimed; 0.05

References:
    Welch, "The generalization of 'Student's' problem when several different population variances
    are involved", 1947. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

from scipy import stats

#: Share of null studies in which a difference may be claimed.
ALPHA = 0.05

#: Probability with which so many runs as are named would find a difference like that seen.
POWER = 0.8

#: More runs than this are not named.
MOST_RUNS = 1000


@dataclass(frozen=True)
class Estimate:
    """A difference of means, and how far it can be trusted.

    Attributes:
        difference: Of the means, in the values' unit.
        interval: Its 95 % interval; None where there is no spread to judge by.
        p: Probability of such a difference by chance, of this test alone; None likewise.
        effect: The difference in standard deviations of one value, of pairs of their differences
            (Cohen's d); None where they are unknown or 0.
        degrees: f for each run more, f / (n − 1).
        scaled: d, by which power is reckoned; of pairs it is the effect.
    """

    difference: float
    interval: tuple[float, float] | None = None
    p: float | None = None
    effect: float | None = None
    degrees: float = 1.0
    scaled: float | None = None


def paired(differences: Sequence[float]) -> Estimate:
    """The mean of the differences of pairs."""
    mean, n = fmean(differences), len(differences)
    if n < 2:
        return Estimate(mean)
    spread = stdev(differences)
    if spread == 0:  # every pair says the same: how likely that is by chance, by the sign test
        return Estimate(mean, (mean, mean), 1.0 if mean == 0 else 2.0 ** (1 - n))
    effect = mean / spread
    return _estimate(mean, spread / math.sqrt(n), n - 1, Estimate(0, effect=effect, scaled=effect))


def independent(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The mean of the second group less that of the first."""
    difference, (n, m) = fmean(second) - fmean(first), (len(first), len(second))
    if min(n, m) < 2:
        return Estimate(difference)
    own, other = variance(first), variance(second)
    if own + other == 0:  # how likely it is that chance sorts the runs so
        p = 1.0 if difference == 0 else 2 / math.comb(n + m, n)
        return Estimate(difference, (difference,) * 2, min(1.0, p))
    error = math.sqrt(own / n + other / m)
    degrees = error**4 / ((own / n) ** 2 / (n - 1) + (other / m) ** 2 / (m - 1))
    together = ((n - 1) * own + (m - 1) * other) / (n + m - 2)
    known = Estimate(
        0,
        effect=difference / math.sqrt(together),
        degrees=(own + other) ** 2 / (own**2 + other**2),
        scaled=difference / math.sqrt(own + other),
    )
    return _estimate(difference, error, degrees, known)


def _estimate(difference: float, error: float, degrees: float, known: Estimate) -> Estimate:
    half = float(stats.t.ppf(1 - ALPHA / 2, degrees)) * error
    return Estimate(
        difference,
        (difference - half, difference + half),
        2 * float(stats.t.sf(abs(difference) / error, degrees)),
        known.effect,
        known.degrees,
        known.scaled,
    )


def holm(tests: Sequence[float | None]) -> list[float | None]:
    """The p-values of one family, corrected by Holm's method; what was not tested stays None."""
    tested = sorted((p, index) for index, p in enumerate(tests) if p is not None)
    corrected, least = list(tests), 0.0
    for rank, (p, index) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        corrected[index] = least
    return corrected


def power(effect: float, runs: int, *, degrees: float = 1.0, alpha: float = ALPHA) -> float:
    """Probability that a t-test finds a difference.

    Args:
        effect: d.
        runs: n.
        degrees: f / (n − 1).
        alpha: The p-value below which it is found.
    """
    degrees = degrees * (runs - 1)
    threshold = float(stats.t.ppf(1 - alpha / 2, degrees))
    return float(stats.ncf.sf(threshold**2, 1, degrees, runs * effect**2))  # F is t squared


def runs_needed(effect: float, *, degrees: float = 1.0, alpha: float = ALPHA) -> int | None:
    """The fewest runs with which such a difference is found four times of five.

    Returns:
        None where it takes more than 1,000.
    """

    def enough(runs: int) -> bool:
        return power(effect, runs, degrees=degrees, alpha=alpha) >= POWER

    if effect == 0 or not enough(MOST_RUNS):
        return None
    low, high = 1, MOST_RUNS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
