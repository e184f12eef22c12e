"""The metrics of a trial, each declared once: what it is called, measured in and used for.

The results document, the tables, MLflow's columns, objectives, constraints, the schema of a study
file and the documentation all follow from this list. A new metric of a genotype is declared here
and computed in `zostudy.evaluation.cost`; nothing else changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zostudy.units import READABLE, SHOWN, Unit

#: The phases of a trial in their order, each with the sources of the metrics that it measures.
PHASES = {
    "prune": ("prune",),
    "search": ("search",),
    "latency": ("latency",),
    "evaluate": ("evaluate", "genotype"),
}

#: The ways of evaluation, as study files name them; and those that measure an accuracy.
EVERY_WAY, MEASURING = ("training", "table", "predictor"), ("training", "table")


@dataclass(frozen=True)
class Metric:
    """One number that a trial has.

    Attributes:
        name: Its name in results, MLflow and study files.
        unit: What its stored value is counted in. Percentage points are ``points``; 1 for yes and 0
            for no are ``flag``, whose means are shares.
        title: What people call it, with the unit that they read it in: the head of its column, and
            its name in a trial's details.
        meaning: What it is, in one sentence.
        source: The phase that measures it; ``genotype`` where it follows from the genotype and the
            settings of the stand-alone network alone, so that it is known before an evaluation.
        better: Whether larger or smaller values are better; ``neither`` where that says nothing.
        objective: Whether a sweep may optimize it.
        constraint: Whether a sweep may limit it, because it is known before a trial is paid for.
        hardware: Whether it depends on the machine.
        by: The ways of evaluation that have it (``evaluate.by``).
        column: Whether tables have a column of it unasked.
        wide: Whether the results table leaves it out where it has a row for random choice.
        compared: Whether it is among MLflow's first columns.
    """

    name: str
    unit: Unit
    title: str
    meaning: str
    source: Literal["prune", "search", "latency", "evaluate", "genotype"]
    better: Literal["larger", "smaller", "neither"] = "neither"
    objective: bool = False
    constraint: bool = False
    hardware: bool = False
    by: tuple[str, ...] = EVERY_WAY
    column: bool = True
    wide: bool = False
    compared: bool = False

    @property
    def readable(self) -> str:
        """The name under which MLflow also has it in MB or minutes; else its own."""
        stem, _, suffix = self.name.rpartition("_")
        return f"{stem}_{READABLE[suffix][0]}" if suffix in READABLE else self.name

    def measured_by(self, evaluator: str) -> bool:
        """Whether a way of evaluation has it."""
        return evaluator in self.by

    @property
    def divisor(self) -> float:
        """What a stored value is divided by to be shown."""
        return SHOWN[self.unit][0]

    def shown(self, value: float) -> str:
        """A value as tables have it: MB of 2²⁰ bytes, seconds, millions of MACs."""
        divisor, form = SHOWN[self.unit]
        return format(value / divisor, form)

    def of_trial(self, value: float) -> str:
        """The value of a single trial: as tables have it, a flag as a word, points with theirs."""
        if self.unit == "flag":
            return "yes" if value else "no"
        return self.shown(value) + " points" * (self.unit == "points")


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
            f"{phase} MB",
            f"The most bytes of live tensors at any moment of {verb}.",
            phase,
            better="smaller",
            objective=True,
            constraint=True,
            by=by,
            column=searched,
            compared=searched,
        ),
        Metric(
            f"{phase}_predicted_bytes",
            "bytes",
            f"{phase} MB predicted",
            f"The peak of {verb} as it was predicted before it began.",
            phase,
            better="smaller",
            by=by,
            column=False,
        ),
        Metric(
            f"{phase}_predicted_ratio",
            "ratio",
            f"{phase} MB, measured / predicted",
            f"The measured peak of {verb} divided by the predicted one.",
            phase,
            by=by,
            column=False,
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
        "predicted % from",
        "Lower end of the interval of the predicted accuracy.",
        "evaluate",
        better="larger",
        by=("predictor",),
    ),
    Metric(
        "predicted_high",
        "percent",
        "predicted % to",
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
        "rank in the table",
        "The place of the genotype in the table by test accuracy; 1 is the best.",
        "evaluate",
        better="smaller",
        by=("table",),
        column=False,
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
        "operations left",
        "Candidate operations that the mask leaves in the supernet.",
        "prune",
        column=False,
    ),
    Metric(
        "prune_repeats",
        "count",
        "pruning repeats",
        "Networks whose scores the zero-shot ranking averages.",
        "prune",
        column=False,
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
        "pruned again",
        "The share of the pruned operations that the other half of the repeats would prune too.",
        "prune",
        better="larger",
        column=False,
    ),
    Metric(
        "prune_pruned_again_by_chance",
        "fraction",
        "pruned again by chance",
        "That share as it would be by chance.",
        "prune",
        column=False,
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
        "epochs with this genotype",
        "For how many epochs the genotype had been what it is when the search ended.",
        "search",
        better="larger",
        column=False,
    ),
    Metric(
        "search_start_genotype",
        "flag",
        "genotype of the start",
        "Whether the genotype is the one that the random start of α gives: 1 or 0.",
        "search",
        better="smaller",
        column=False,
    ),
    Metric(
        "search_skips",
        "count",
        "skip connections",
        "Skip connections in the genotype.",
        "search",
        column=False,
    ),
    Metric(
        "search_collapsed",
        "flag",
        "collapsed to skips",
        "Whether skip connections make up too much of a cell (search.collapsed_share): 1 or 0.",
        "search",
        better="smaller",
        column=False,
    ),
    *_of_phase("prune", "pruning"),
    *_of_phase("search", "the search"),
    Metric(
        "latency_ms",
        "milliseconds",
        "latency ms",
        "Milliseconds that the stand-alone network takes for a batch of the first of "
        "latency.batch_sizes (median), or that a table or predictor says it takes.",
        "latency",
        better="smaller",
        objective=True,
        constraint=True,
        hardware=True,
        compared=True,
    ),
    Metric(
        "latency_p95_ms",
        "milliseconds",
        "latency ms, slowest 5 %",
        "The 95th percentile of these milliseconds, where they are measured.",
        "latency",
        better="smaller",
        hardware=True,
        column=False,
    ),
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
        if name in METRICS and suffix in READABLE:
            found[METRICS[name].readable] = value / READABLE[suffix][1]
    return found


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
