"""The metrics of a trial, each declared once: what it is called, measured in and used for.

The results document, the tables, MLflow's columns, objectives, constraints, the schema of a study
file and the documentation all follow from this list. A new metric of a genotype is declared here
and computed in `zostudy.evaluation.cost`; nothing else changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: The phases of a trial in their order, each with the sources of the metrics that it measures.
PHASES = {"prune": ("prune",), "search": ("search",), "evaluate": ("evaluate", "genotype")}

#: What a value is counted in, as it is stored.
Unit = Literal[
    "percent", "percentile", "points", "bytes", "seconds", "count", "macs", "fraction", "ratio"
]

#: How values are shown: what they are divided by, and their format.
_SHOWN: dict[Unit, tuple[float, str]] = {
    "percent": (1, ".2f"),
    "percentile": (1, ".1f"),
    "points": (1, ".2f"),
    "bytes": (2**20, ".1f"),
    "seconds": (1, ".1f"),
    "count": (1, ",.0f"),
    "macs": (1e6, ".2f"),
    "fraction": (1, ".2f"),
    "ratio": (1, ".2f"),
}

#: By the end of a metric's name, the unit that people compare it in, and what divides its value.
_READABLE = {"bytes": ("MB", 2**20), "seconds": ("minutes", 60)}


#: The ways of evaluation, as study files name them; and those that measure an accuracy.
EVERY_WAY, MEASURING = ("training", "table", "predictor"), ("training", "table")


@dataclass(frozen=True)
class Metric:
    """One number that a trial has.

    Attributes:
        name: Its name in results, MLflow and study files.
        unit: What its stored value is counted in. Percentage points are ``points``; multiply and
            accumulate operations are ``macs``.
        title: The head of its column in tables; empty where tables leave it out.
        meaning: What it is, in one sentence.
        source: The phase that measures it; ``genotype`` where it follows from the genotype and the
            settings of the stand-alone network alone, so that it is known before an evaluation.
        better: Whether larger or smaller values are better; ``neither`` where that says nothing.
        objective: Whether a sweep may optimize it.
        constraint: Whether a sweep may limit it, because it is known before a trial is paid for.
        hardware: Whether it depends on the machine.
        by: The ways of evaluation that have it (``evaluate.by``).
        wide: Whether the results table leaves it out where it has a row for random choice.
        compared: Whether it is among MLflow's first columns.
    """

    name: str
    unit: Unit
    title: str
    meaning: str
    source: Literal["prune", "search", "evaluate", "genotype"]
    better: Literal["larger", "smaller", "neither"] = "neither"
    objective: bool = False
    constraint: bool = False
    hardware: bool = False
    by: tuple[str, ...] = EVERY_WAY
    wide: bool = False
    compared: bool = False

    @property
    def readable(self) -> str:
        """The name under which MLflow also has it in MB or minutes; else its own."""
        stem, _, suffix = self.name.rpartition("_")
        return f"{stem}_{_READABLE[suffix][0]}" if suffix in _READABLE else self.name

    def measured_by(self, evaluator: str) -> bool:
        """Whether a way of evaluation has it."""
        return evaluator in self.by

    @property
    def divisor(self) -> float:
        """What a stored value is divided by to be shown."""
        return _SHOWN[self.unit][0]

    def shown(self, value: float) -> str:
        """A value as tables have it: MB of 2²⁰ bytes, seconds, millions of MACs."""
        divisor, form = _SHOWN[self.unit]
        return format(value / divisor, form)


def _of_phase(phase: Literal["prune", "search", "evaluate"], verb: str) -> tuple[Metric, ...]:
    """What is measured of every phase."""
    searched = phase == "search"
    by = ("training",) if phase == "evaluate" else EVERY_WAY
    return (
        Metric(
            f"{phase}_seconds",
            "seconds",
            f"{phase} s",
            f"How long {verb} took, without the time that reading the pictures took.",
            phase,
            better="smaller",
            objective=True,
            hardware=True,
            by=by,
            wide=phase == "prune",
            compared=searched,
        ),
        Metric(
            f"{phase}_peak_bytes",
            "bytes",
            "search MB" if searched else "",
            f"The most bytes of live tensors at any moment of {verb}.",
            phase,
            better="smaller",
            objective=True,
            constraint=True,
            by=by,
            compared=searched,
        ),
        Metric(
            f"{phase}_predicted_bytes",
            "bytes",
            "",
            f"The peak of {verb} as it was predicted before it began.",
            phase,
            better="smaller",
            by=by,
        ),
        Metric(
            f"{phase}_predicted_ratio",
            "ratio",
            "",
            f"The measured peak of {verb} divided by the predicted one.",
            phase,
            by=by,
        ),
    )


_DECLARED = (
    Metric(
        "validation_accuracy",
        "percent",
        "validation %",
        "Accuracy on the validation part after the last epoch; the only accuracy to select by.",
        "evaluate",
        better="larger",
        objective=True,
        by=MEASURING,
        compared=True,
    ),
    Metric(
        "test_accuracy",
        "percent",
        "test %",
        "Accuracy on the test part after the last epoch; never used to select.",
        "evaluate",
        better="larger",
        by=MEASURING,
        compared=True,
    ),
    Metric(
        "predicted_accuracy",
        "percent",
        "predicted %",
        "Accuracy that a predictor expects of the genotype; nothing was measured.",
        "evaluate",
        better="larger",
        objective=True,
        by=("predictor",),
        compared=True,
    ),
    Metric(
        "predicted_low",
        "percent",
        "predicted from",
        "Lower end of the interval of the predicted accuracy.",
        "evaluate",
        better="larger",
        by=("predictor",),
    ),
    Metric(
        "predicted_high",
        "percent",
        "predicted to",
        "Upper end of the interval of the predicted accuracy.",
        "evaluate",
        better="larger",
        by=("predictor",),
    ),
    Metric(
        "regret",
        "points",
        "regret",
        "How far the test accuracy lies below the best one of the table.",
        "evaluate",
        better="smaller",
        by=("table",),
        compared=True,
    ),
    Metric(
        "rank",
        "count",
        "",
        "The place of the genotype in the table by test accuracy; 1 is the best.",
        "evaluate",
        better="smaller",
        by=("table",),
    ),
    Metric(
        "percentile",
        "percentile",
        "percentile",
        "The share of the table's architectures whose test accuracy is lower.",
        "evaluate",
        better="larger",
        by=("table",),
        compared=True,
    ),
    Metric(
        "operations",
        "count",
        "",
        "Candidate operations that the mask leaves in the supernet.",
        "prune",
    ),
    Metric(
        "prune_repeats",
        "count",
        "",
        "Networks whose scores the zero-shot ranking averages.",
        "prune",
    ),
    Metric(
        "prune_reliability",
        "fraction",
        "reliability",
        "Rank correlation of the scores between halves of the repeats.",
        "prune",
        better="larger",
    ),
    Metric(
        "prune_pruned_again",
        "fraction",
        "",
        "The share of the pruned operations that the other half of the repeats would prune too.",
        "prune",
        better="larger",
    ),
    Metric(
        "prune_pruned_again_by_chance",
        "fraction",
        "",
        "That share as it would be by chance.",
        "prune",
    ),
    Metric(
        "search_lead",
        "ratio",
        "lead",
        "How far the best operation of an edge leads the second at the end of the search, in "
        "multiples of the lead that the random start of α makes; below 3, chance decided.",
        "search",
        better="larger",
        compared=True,
    ),
    Metric(
        "search_stable_epochs",
        "count",
        "",
        "For how many epochs the genotype had been what it is when the search ended.",
        "search",
        better="larger",
    ),
    Metric(
        "search_start_genotype",
        "fraction",
        "",
        "Whether the genotype is the one that the random start of α gives: 1 or 0.",
        "search",
        better="smaller",
    ),
    Metric(
        "search_skips",
        "count",
        "",
        "Skip connections in the genotype.",
        "search",
    ),
    Metric(
        "search_collapsed",
        "fraction",
        "",
        "Whether skip connections make up too much of a cell (search.collapsed_share): 1 or 0.",
        "search",
        better="smaller",
    ),
    *_of_phase("prune", "pruning"),
    *_of_phase("search", "the search"),
    *_of_phase("evaluate", "training the genotype"),
    Metric(
        "parameters",
        "count",
        "parameters",
        "Learnable numbers of the stand-alone network, without its auxiliary head.",
        "genotype",
        better="smaller",
        objective=True,
        constraint=True,
        wide=True,
        compared=True,
    ),
    Metric(
        "macs",
        "macs",
        "M MACs",
        "Multiply-accumulate operations of the stand-alone network for one picture.",
        "genotype",
        better="smaller",
        objective=True,
        constraint=True,
        wide=True,
    ),
)

#: Every metric by its name, in the order of the columns of tables.
METRICS = {metric.name: metric for metric in _DECLARED}

#: What a sweep may optimize.
OBJECTIVES = tuple(metric.name for metric in _DECLARED if metric.objective)

#: What a sweep may limit.
LIMITED = tuple(metric.name for metric in _DECLARED if metric.constraint)

#: What a search may limit: of these, what follows from a genotype alone.
COSTS = tuple(m.name for m in _DECLARED if m.constraint and m.source == "genotype")


def readable(values: Mapping[str, float]) -> dict[str, float]:
    """Values by name, and those in bytes or seconds in MB (2²⁰ bytes) or minutes as well."""
    found = dict(values)
    for name, value in values.items():
        suffix = name.rpartition("_")[2]
        if name in METRICS and suffix in _READABLE:
            found[METRICS[name].readable] = value / _READABLE[suffix][1]
    return found


def repeats(name: str, device: str) -> bool:
    """Whether the same computation gives the same value of a figure again.

    Durations are not the same again, and on CUDA neither are peaks of memory, which its allocator
    counts with what libraries take.

    Args:
        name: A metric of a trial, or a figure of an epoch or round.
        device: Type of the device: ``cpu`` or ``cuda``.
    """
    if name in METRICS and METRICS[name].hardware:
        return False
    own = ("peak_bytes", "predicted_ratio") if device == "cuda" else ()
    return not name.endswith(("seconds", *own))


def of(*sources: str) -> tuple[Metric, ...]:
    """The metrics that some sources have."""
    return tuple(metric for metric in _DECLARED if metric.source in sources)


def measured(phase: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a trial that the values of a phase's record hold.

    A value stands there under the metric's name, or without the phase's name in front.
    """
    held = values["figures"] | values
    found = {}
    for metric in of(*PHASES[phase]):
        for name in (metric.name, metric.name.removeprefix(f"{phase}_")):
            if held.get(name) is not None:
                found[metric.name] = held[name]
    return found
