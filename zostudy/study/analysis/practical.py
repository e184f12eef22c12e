"""How probable it is that a difference is practically nothing, or a better or worse value.

The paired differences of seeds are taken as draws of a normal distribution of unknown mean and
spread. With a prior that prefers nothing (density 1/σ), what is known of the mean after n seeds is
Student's t-distribution of n − 1 degrees of freedom around the mean difference, with its standard
error as scale. The share of it within ±rope, the *region of practical equivalence*, is the
probability that the difference is practically nothing; the shares below and above are those of the
two ways in which it is not.

This is the correlated Bayesian t-test with a correlation of 0. A correlation corrects for training
sets that overlap between the folds of a cross-validation; seeds are independent given the pictures
of the study, and it is of these pictures that the probabilities speak.

Symbols:
    n     seeds
    rope  half the width of the region, in the metric's unit

References:
    Benavoli, Corani, Demšar, and Zaffalon, "Time for a change: a tutorial for comparing multiple
    classifiers through Bayesian analysis", JMLR 2017. Kruschke, "Rejecting or accepting parameter
    values in Bayesian estimation", 2018, on the region.
"""

from dataclasses import dataclass
from typing import Literal

from scipy import stats

from zostudy.study.analysis.significance import ALPHA

#: Probability from which on a difference counts as settled.
SETTLED = 0.95

Outcome = Literal["worse", "same", "better"]


@dataclass(frozen=True)
class Practical:
    """Probabilities of what a difference is; they add up to 1.

    Attributes:
        worse: It is below −rope.
        same: It is practically nothing.
        better: It is above rope.
    """

    worse: float
    same: float
    better: float

    @property
    def settled(self) -> Outcome | None:
        """What it is with a probability of at least 95 %, if anything is so probable."""
        named: dict[Outcome, float] = {
            "worse": self.worse,
            "same": self.same,
            "better": self.better,
        }
        return next((what for what, share in named.items() if share >= SETTLED), None)


def practical(
    difference: float, interval: tuple[float, float] | None, seeds: int, rope: float
) -> Practical | None:
    """What a mean of paired differences says, where larger is better.

    Args:
        difference: The mean.
        interval: Its 95 % interval by Student's t-test, of which the scale follows.
        seeds: n.
        rope: Above 0.

    Returns:
        None where there is no spread to judge by: of one seed, or of equal differences.
    """
    if interval is None or interval[0] == interval[1]:
        return None
    half = (interval[1] - interval[0]) / 2
    known = stats.t(seeds - 1, difference, half / float(stats.t.ppf(1 - ALPHA / 2, seeds - 1)))
    worse, better = float(known.cdf(-rope)), float(known.sf(rope))
    return Practical(worse, max(0.0, 1 - worse - better), better)
