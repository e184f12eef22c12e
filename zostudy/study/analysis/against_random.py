"""Methods against random choice in their own search space, from results of elsewhere.

A method's random counterpart is what the table names as such; else the method called ``Random``
and the method's name; else the one called ``Random`` and the beginning of its name, up to a
hyphen, space, or other sign, where nothing else on that data set is compared with it.
Counterparts that share seeds with the method are compared in pairs, all others as independent
groups. All comparisons of a table are one family, corrected by Holm's method. The number of runs
that would settle an open one is that with which a comparison is found at α divided by the number
of comparisons, the strictest level that Holm's method asks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from scipy import stats

from zostudy.errors import DataError
from zostudy.study.analysis.outside_results import OutsideResults
from zostudy.study.analysis.significance import ALPHA, Estimate, holm, independent, paired
from zostudy.study.analysis.significance import runs_needed as runs_for

_RANDOM = "random "

#: Runs of the smaller group up to which every order of ranks is counted.
_EXACT = 8


@dataclass(frozen=True)
class Gain:
    """What a method gives over its random counterpart on a data set.

    Attributes:
        dataset: The data set.
        method: The method.
        counterpart: Random choice in the method's search space.
        runs: Runs of the method, or pairs.
        random_runs: Runs of the counterpart, or pairs.
        paired: Whether they were compared in pairs.
        mean: The method's mean accuracy over its runs, percent.
        random_mean: The counterpart's.
        found: The difference, percentage points.
        p: Holm's corrected p-value; None without a spread.
        p_ranks: That of a test of ranks (Mann-Whitney; Wilcoxon for pairs), corrected likewise.
        family: Comparisons of the table that were tested.
    """

    dataset: str
    method: str
    counterpart: str
    runs: int
    random_runs: int
    paired: bool
    mean: float
    random_mean: float
    found: Estimate
    p: float | None
    p_ranks: float | None
    family: int = 1

    @property
    def differs(self) -> bool:
        """Whether it is told from noise."""
        return self.p is not None and self.p < ALPHA

    @property
    def runs_needed(self) -> int | None:
        """Runs of each with which a gain like this is found four times of five, if known."""
        if not self.found.scaled:
            return None
        alpha = ALPHA / self.family
        return runs_for(self.found.scaled, degrees=self.found.degrees, alpha=alpha)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "dataset": self.dataset,
            "method": self.method,
            "counterpart": self.counterpart,
            "runs": self.runs,
            "random_runs": self.random_runs,
            "paired": self.paired,
            "mean": self.mean,
            "random_mean": self.random_mean,
            "difference": self.found.difference,
            "interval": list(self.found.interval) if self.found.interval else None,
            "effect": self.found.effect,
            "p_alone": self.found.p,
            "p": self.p,
            "p_ranks": self.p_ranks,
            "differs": self.differs,
            "runs_needed": self.runs_needed,
        }


def gains(results: OutsideResults) -> list[Gain]:
    """Every method with a random counterpart, on every data set, in the order of the table.

    Raises:
        DataError: No method has one, or the table names one that is not there.
    """
    found = [
        _gain(results, dataset, method, random)
        for dataset in results.datasets
        for method, random in counterparts(results, dataset).items()
    ]
    if not found:
        raise DataError(
            f"{results.name}: no method has a random counterpart; call it 'Random METHOD', or name "
            "it in a column counterpart"
        )
    family = max(1, sum(one.p is not None for one in found))
    corrected = zip(
        found, holm([one.p for one in found]), holm([one.p_ranks for one in found]), strict=True
    )
    return [replace(one, p=p, p_ranks=ranks, family=family) for one, p, ranks in corrected]


def counterparts(results: OutsideResults, dataset: str) -> dict[str, str]:
    """For the methods of a data set that have one, the random counterpart.

    Raises:
        DataError: The table names one that is not there.
    """
    methods = results.methods(dataset)
    found = {}
    for method in methods:
        named = results.counterparts.get((dataset, method))
        if named == method:
            raise DataError(f"{results.name}: {method} on {dataset} is its own counterpart")
        if named is not None and named not in methods:
            raise DataError(
                f"{results.name}: {method} on {dataset} has the counterpart {named!r}, which has "
                "no row there"
            )
        if named is not None:
            found[method] = named
    taken = set(found.values())
    random = {m[len(_RANDOM) :].strip().lower(): m for m in methods if is_random(m)}
    searched = [m for m in methods if not is_random(m) and m not in taken and m not in found]
    for method in searched:
        if method.lower() in random:
            found[method] = random[method.lower()]
    taken = set(found.values())
    free = {name: m for name, m in random.items() if m not in taken}
    for name, counterpart in free.items():
        variants = [m for m in searched if m not in found and _is_variant(m.lower(), name)]
        if len(variants) == 1:
            found[variants[0]] = counterpart
    return {method: found[method] for method in methods if method in found}


def is_random(method: str) -> bool:
    """Whether a method's name says that it is random choice."""
    return method.lower().startswith(_RANDOM)


def _is_variant(method: str, name: str) -> bool:
    """Whether a name is another one and an addition, as MANAS-LS is of MANAS."""
    return method.startswith(name) and not method[len(name) : len(name) + 1].isalnum()


def _gain(results: OutsideResults, dataset: str, method: str, random: str) -> Gain:
    own, other = (results.accuracies[dataset, name] for name in (method, random))
    shared = [run for run in own if run in other] if results.shared_seeds else []
    pairs = len(shared) > 1
    values, others = list(own.values()), list(other.values())
    if pairs:
        values, others = [own[run] for run in shared], [other[run] for run in shared]
        found = paired([a - b for a, b in zip(values, others, strict=True)])
    else:
        found = independent(others, values)
    return Gain(
        dataset=dataset,
        method=method,
        counterpart=random,
        runs=len(values),
        random_runs=len(others),
        paired=pairs,
        mean=fmean(values),
        random_mean=fmean(others),
        found=found,
        p=found.p,
        p_ranks=None if found.p is None else _ranks(values, others, pairs=pairs),
    )


def _ranks(values: Sequence[float], others: Sequence[float], *, pairs: bool) -> float:
    if not pairs:  # values that are equal within a group alone do not change its ranks
        few = min(len(values), len(others)) <= _EXACT and not set(values) & set(others)
        method = "exact" if few else "asymptotic"
        return float(stats.mannwhitneyu(values, others, method=method).pvalue)
    if list(values) == list(others):
        return 1.0
    return float(stats.wilcoxon(values, others).pvalue)


def notes(results: OutsideResults, found: Sequence[Gain]) -> list[str]:
    """What a reader must know of the table: what was left out, guessed, or is odd."""
    compared = {(one.dataset, one.method) for one in found}
    random = {(one.dataset, one.counterpart) for one in found}
    alone = [key for key in results.accuracies if key not in compared | random]
    said = [
        f"On {one.dataset}, {one.method} is compared with {one.counterpart}."
        for one in found
        if is_random(one.counterpart)
        and (one.dataset, one.method) not in results.counterparts
        and one.counterpart[len(_RANDOM) :].strip().lower() != one.method.lower()
    ]
    said += [
        f"{method} on {dataset} has "
        + ("no method it belongs to" if is_random(method) else "no random counterpart")
        + " there, and is not compared."
        for dataset, method in alone
    ]
    said += [f"{text}: the same accuracies, counted as they are." for text in _copies(results)]
    unpaired = [one for one in found if results.shared_seeds and not one.paired]
    said += [
        f"{one.method} and {one.counterpart} on {one.dataset} share fewer than two seeds, and are "
        "compared as independent groups."
        for one in unpaired
    ]
    said += [
        f"{one.method} on {one.dataset}: only the {one.runs} seeds that it shares with "
        f"{one.counterpart} are compared."
        for one in found
        if one.paired
        and one.runs
        < max(len(results.accuracies[one.dataset, m]) for m in (one.method, one.counterpart))
    ]
    if results.ignored:
        said.append(f"Columns that were left out: {', '.join(results.ignored)}.")
    return said


def _copies(results: OutsideResults) -> list[str]:
    """Methods that have the same accuracies on a data set, in at least two runs that differ."""
    found: dict[tuple[str, tuple[float, ...]], list[str]] = {}
    for (dataset, method), runs in results.accuracies.items():
        if len(set(runs.values())) > 1:
            found.setdefault((dataset, tuple(sorted(runs.values()))), []).append(method)
    return [
        f"{' and '.join(methods)} on {dataset}"
        for (dataset, _), methods in found.items()
        if len(methods) > 1
    ]


def means(results: OutsideResults, found: Sequence[Gain]) -> Mapping[str, Mapping[str, float]]:
    """For every method that is compared and every counterpart, the mean accuracy by data set."""
    kept: dict[str, dict[str, float]] = {}
    for one in found:
        for name in (one.method, one.counterpart):
            runs = results.accuracies[one.dataset, name]
            kept.setdefault(name, {})[one.dataset] = fmean(runs.values())
    return kept
