"""What results from elsewhere say, in sentences: which methods beat random choice, what is open."""

from collections.abc import Sequence

from zostudy.config.sizes import counted
from zostudy.study.analysis.against_random import Gain
from zostudy.study.analysis.ranks import Ranks
from zostudy.study.analysis.significance import ALPHA, MOST_RUNS
from zostudy.study.report.answers import probability

#: Open comparisons of which the runs needed are said first.
_NEAREST = 5


def answers(gains: Sequence[Gain]) -> list[str]:
    """The sentences that a reader wants first."""
    told = [one for one in gains if one.differs]
    better = sum(one.found.difference > 0 for one in told)
    found = [
        f"{len(told)} of {counted(len(gains), 'comparison')} "
        f"{'is' if len(told) == 1 else 'are'} told from noise: {better} better than random choice "
        f"in the same search space, {len(told) - better} worse."
    ]
    found += [gain(one) for one in told]
    return [*found, *_open(gains), *_by_ranks(gains)]


def _open(gains: Sequence[Gain]) -> list[str]:
    """What is not told from noise, and what would settle it."""
    found = []
    single = [one for one in gains if one.p is None]
    if single:
        found.append(
            f"{counted(len(single), 'comparison')} with a single run on a side: nothing can be "
            "told from noise there."
        )
    left = [one for one in gains if one.p is not None and not one.differs]
    if not left:
        return found
    needed = {id(one): one.runs_needed for one in left}
    near = sorted((n, i) for i, one in enumerate(left) if (n := needed[id(one)]) is not None)
    text = (
        f"{len(left)} are not told from noise, which does not say that there is nothing. If the "
        "gain seen is the true one"
    )
    nearest = ", ".join(f"{_name(left[i])} {n}" for n, i in near[:_NEAREST])
    many = sum(n is None for n in needed.values())
    parts = [
        f"so many runs of each would find it four times of five: {nearest}"
        + (f" (and {len(near) - _NEAREST} more below)" if len(near) > _NEAREST else "")
        if near
        else "",
        f"{many} {'takes' if many == 1 else 'take'} more than {MOST_RUNS:,} runs" if many else "",
    ]
    return [*found, f"{text}, {'; '.join(filter(None, parts))}."]


def _by_ranks(gains: Sequence[Gain]) -> list[str]:
    """Whether a test that takes no normal distribution for granted says the same."""
    tested = [one for one in gains if one.p is not None and one.p_ranks is not None]
    if not tested:
        return []
    by_ranks = {id(one) for one in tested if one.p_ranks is not None and one.p_ranks < ALPHA}
    fewer = [_name(one) for one in tested if one.differs and id(one) not in by_ranks]
    more = [_name(one) for one in tested if not one.differs and id(one) in by_ranks]
    said = [
        f"does not tell {', '.join(fewer)}" if fewer else "",
        f"also tells {', '.join(more)}" if more else "",
    ]
    text = " and ".join(filter(None, said)) or "tells the same ones"
    return [f"A test of ranks, which takes no normal distribution for granted, {text}."]


def gain(one: Gain) -> str:
    """What a method gives over random choice, and whether it is told from noise."""
    what = (
        f"{_name(one)}: {one.mean:.2f} % against {one.random_mean:.2f} % of {one.counterpart}, "
        f"{signed(one.found.difference)}"
    )
    runs = counted(one.runs, "pair") if one.paired else f"{one.runs} and {one.random_runs} runs"
    if one.found.interval is None or one.p is None:
        return f"{what} ({runs}: no interval)."
    low, high = map(signed, one.found.interval)
    effect = "" if one.found.effect is None else f"effect {signed(one.found.effect)}, "
    known = f"(95 % interval {low} to {high}, {effect}p = {probability(one.p)}, {runs})"
    if one.differs:
        return f"{what} {known}: told from noise."
    return f"{what} {known}: not told from noise{_needed(one)}."


def _needed(one: Gain) -> str:
    if one.found.scaled is None:
        return ""
    if one.runs_needed is None:
        return f"; if it is real, it takes more than {MOST_RUNS:,} runs of each to find"
    more = max(one.runs_needed - min(one.runs, one.random_runs), 0)
    each = "pairs" if one.paired else "of each"
    if not more:
        return f"; if it is real, {one.runs_needed} {each} find it only four times of five"
    total = f"{more} more runs, {one.runs_needed} {each},"
    return f"; if it is real, {total} would find it four times of five"


def ranking(ranks: Ranks, what: str) -> list[str]:
    """What the ranks of methods say, and which methods have none.

    Args:
        ranks: The ranks.
        what: What they are ranked by.
    """
    left_out = "; ".join(
        f"{method} is missing on {', '.join(where)}" for method, where in ranks.missing.items()
    )
    missing = [f"By {what}, not ranked: {left_out}."] if left_out else []
    if ranks.p is None or ranks.critical_difference is None:
        return [
            f"By {what}, no ranks: it takes three methods that are on all data sets, and two data "
            "sets.",
            *missing,
        ]
    chance = (
        f"By {what}, the mean ranks of {len(ranks.mean_ranks)} methods over "
        f"{counted(len(ranks.datasets), 'data set')}"
    )
    p = f"(Friedman's test, p = {probability(ranks.p)})"
    if ranks.p >= ALPHA:
        return [f"{chance} do not differ more than chance lets them {p}.", *missing]
    names = list(ranks.mean_ranks)
    apart = [
        f"{one} from {other}"
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if ranks.mean_ranks[other] - ranks.mean_ranks[one] > ranks.critical_difference
    ]
    told = ", ".join(apart) or "none from another"
    return [
        f"{chance} differ {p}; told apart by Nemenyi's test (critical difference "
        f"{ranks.critical_difference:.2f}): {told}.",
        *missing,
    ]


def signed(value: float) -> str:
    """A difference with its sign, two decimals."""
    return f"{'−' if value < 0 else '+'}{abs(value):.2f}"


def _name(one: Gain) -> str:
    return f"{one.method} on {one.dataset}"
