"""How much of a metric's variance between trials each swept setting explains.

An analysis of variance with seeds as blocks: a setting's sum of squares is what the model of all
settings loses without it (type II, so that a grid may have gaps), that of an interaction what the
model of all settings gains by it. Both contain chance, which is taken out (ε²). What nothing
explains is noise and interactions of three settings and more.

Symbols:
    SS   sum of squares that a term explains; SS_t of all trials about the mean of their seed
    f    degrees of freedom of a term
    s²   mean square of what the full model leaves
    ε²   (SS − f s²) / SS_t, but at least 0

References:
    Kelley, "An unbiased correlation ratio measure", PNAS 1935, on ε². Hutter, Hoos and
    Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014, on
    shares of variance as importances.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

#: Combinations of the values of two settings above which they are left to the rest.
_MOST_COLUMNS = 500

Matrix = Float64[np.ndarray, "trials columns"]

#: A setting that is a number with more values than this is cut into as many parts as `_PARTS`.
_MOST_VALUES, _PARTS = 8, 4


@dataclass(frozen=True)
class Importances:
    """Shares of the variance of one metric.

    Attributes:
        shares: For each setting, and each pair of them, its share, from 0 to 1; of pairs none where
            there are not trials enough to tell them from noise.
        rest: The share that none of them explains.
        trials: Trials.
        cut: The settings whose values were cut into parts.
    """

    shares: Mapping[tuple[str, ...], float]
    rest: float
    trials: int
    cut: tuple[str, ...] = ()


def importances(trials: Sequence[Mapping[str, Any]], metric: str) -> Importances | None:
    """How much each swept setting explains.

    Args:
        trials: Those of a results document.
        metric: The metric's name.

    Returns:
        None where fewer than two settings have several values, nothing varies, or there are too few
        trials to tell anything from noise.
    """
    known = [t for t in trials if t["state"] == "complete" and metric in t["metrics"]]
    paths = list(dict.fromkeys(path for trial in known for path in trial["params"]))
    levels = {path: _levels([trial["params"].get(path) for trial in known]) for path in paths}
    several = {path: found for path, found in levels.items() if len(set(found)) > 1}
    if len(several) < 2:
        return None
    values = np.array([trial["metrics"][metric] for trial in known], dtype=float)
    seeds = _columns([str(trial["seed"]) for trial in known])
    single: dict[tuple[str, ...], Matrix] = {
        (path,): _columns(found) for path, found in several.items()
    }
    pairs: dict[tuple[str, ...], Matrix] = {
        (a, b): _columns(list(zip(several[a], several[b], strict=True)))
        for a, b in itertools.combinations(several, 2)
        if len(set(zip(several[a], several[b], strict=True))) <= _MOST_COLUMNS
    }
    total, _ = _left(values, [seeds])
    if total <= 1e-12 * max(1.0, float(np.square(values).sum())):
        return None
    everything = _left(values, [seeds, *single.values(), *pairs.values()])
    settings = _left(values, [seeds, *single.values()])
    fits = bool(pairs) and everything[1] > 0
    if not fits and settings[1] <= 0:
        return None
    error = everything if fits else settings
    noise = error[0] / error[1]
    shares: dict[tuple[str, ...], float] = {}
    for name in single:
        without = _left(values, [seeds, *(c for other, c in single.items() if other != name)])
        shares[name] = _share(without, settings, noise, total)
    for name in pairs if fits else ():
        shares[name] = _share(
            settings, _left(values, [seeds, *single.values(), pairs[name]]), noise, total
        )
    cut = tuple(path for path in several if _is_cut([t["params"].get(path) for t in known]))
    return Importances(shares, max(0.0, 1 - sum(shares.values())), len(known), cut)


def _share(
    without: tuple[float, int], with_it: tuple[float, int], noise: float, total: float
) -> float:
    explained, degrees = without[0] - with_it[0], without[1] - with_it[1]
    return max(0.0, explained - degrees * noise) / total


def _left(values: Float64[np.ndarray, " trials"], terms: Sequence[Matrix]) -> tuple[float, int]:
    """Sum of squares and degrees of freedom that a model leaves."""
    columns = np.concatenate(terms, axis=1)
    found, _, rank, _ = np.linalg.lstsq(columns, values, rcond=None)
    return float(np.square(values - columns @ found).sum()), len(values) - int(rank)


def _columns(levels: Sequence[object]) -> Matrix:
    """A column a level, 1 where a trial has it."""
    names = list(dict.fromkeys(levels))
    return np.array([[float(level == name) for name in names] for level in levels])


def _is_cut(values: Sequence[object]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and len(set(values)) > _MOST_VALUES


def _levels(values: Sequence[Any]) -> list[str]:
    """The values as levels; many numbers as parts of equal numbers of trials."""
    if not _is_cut(values):
        return [str(value) for value in values]
    ends = np.quantile(values, np.linspace(0, 1, _PARTS + 1)[1:-1])
    return [str(part) for part in np.searchsorted(ends, values)]
