"""What choosing at random gives, known from a table: what a search is to be compared with.

Every architecture of the table is equally likely. A point's mean over n seeds is compared with the
mean of n independent choices: ``by_chance`` is the probability that those do at least as well.

Symbols:
    n   seeds of a point
    p   probability of each accuracy, in steps of 0.01 percentage points
    S   sum of n independent accuracies; its distribution is p convolved n times with itself
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from zostudy.config.loading import StudyFile
from zostudy.errors import InputError
from zostudy.evaluation.table import Table, read
from zostudy.space.search_space import search_space

#: Quantiles of accuracy that are told.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

#: Steps of a percentage point in which accuracies are counted.
_STEPS = 100

#: A point that so many random choices match is not told from chance.
NOISE = 0.05

Document = dict[str, Any]


def with_random_choice(document: Document, file: StudyFile) -> Document:
    """A results document with what random choice gives beside its points, where a table tells.

    Returns:
        The document with ``random_choice`` (``architectures``, ``metrics``; or the ``reason`` why
        it is not known) and, in every point, ``by_chance``; as it is where networks are trained.
    """
    config = file.config
    if not config.evaluate.evaluator.knows_all:
        return document
    try:
        space = search_space(config.search_space.name, config.extensions)
        table = read(config.evaluate, space)
    except InputError as error:
        return document | {"random_choice": {"reason": str(error)}}
    points = [point | {"by_chance": _by_chance(table, point)} for point in document["points"]]
    return document | {"points": points, "random_choice": summary(table)}


def summary(table: Table) -> Document:
    """Mean, standard deviation and quantiles over all architectures of a table."""
    accuracies = table.accuracies
    found = {
        "test_accuracy": accuracies,
        "regret": accuracies.max() - accuracies,
        "percentile": table.percentiles(accuracies),
    }
    return {
        "architectures": len(accuracies),
        "metrics": {name: distribution(values) for name, values in found.items()},
    }


def distribution(values: Float64[np.ndarray, " architectures"]) -> Document:
    """Mean, standard deviation and quantiles of all values there are."""
    quantiles = np.quantile(values, QUANTILES)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }


def _by_chance(table: Table, point: Mapping[str, Any]) -> float | None:
    accuracy = point["metrics"].get("test_accuracy")
    return accuracy and by_chance(table.accuracies, accuracy["mean"], point["n"])


def by_chance(
    accuracies: Float64[np.ndarray, " architectures"], mean: float, choices: int
) -> float:
    """Probability that so many random choices have at least this mean accuracy.

    Args:
        accuracies: Of all that can be chosen, percent.
        mean: The mean to reach, percent.
        choices: How many are chosen, independently.

    Returns:
        The probability, with accuracies rounded to 0.01 percentage points; what rounds to the mean
        has reached it.
    """
    counts = np.bincount(np.rint(accuracies * _STEPS).astype(int))
    length = choices * (len(counts) - 1) + 1
    spectrum = np.fft.rfft(counts / len(accuracies), length)
    sums = np.fft.irfft(spectrum**choices, length)
    needed = math.ceil((mean * _STEPS - 0.5) * choices)
    return float(sums[max(needed, 0) :].sum().clip(0, 1))


def sentences(document: Mapping[str, Any]) -> str:
    """What random choice gives and which points it matches; nothing where no table tells."""
    chosen = document.get("random_choice")
    if chosen is None:
        return ""
    if "reason" in chosen:
        return f"random choice is not shown: {chosen['reason']}"
    accuracy = chosen["metrics"]["test_accuracy"]
    quantiles = ", ".join(
        f"{100 * float(q):g} %: {value:.2f}" for q, value in accuracy["quantiles"].items()
    )
    compared = [point for point in document["points"] if point["by_chance"] is not None]
    matched = sum(point["by_chance"] >= NOISE for point in compared)
    return (
        f"random choice: any of {chosen['architectures']:,} architectures, equally likely; "
        f"quantiles of test % {quantiles}. By chance: the probability that as many random "
        f"choices have at least a point's mean; it is {100 * NOISE:g} % or more, inside the noise, "
        f"at {matched} of {len(compared)} points"
    )
