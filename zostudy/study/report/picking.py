"""The trial to export, by conditions on its metrics: ``--pick 'macs<1e6'``."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zostudy.config.sweep import ObjectiveSettings
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS
from zostudy.options import nearest

_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """What a metric of a trial must be.

    Attributes:
        metric: Name of the metric.
        sign: ``<``, ``<=``, ``>`` or ``>=``.
        limit: What it is compared with, in the unit that results have it in.
    """

    metric: str
    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.limit:g}"

    def met(self, metrics: Mapping[str, float]) -> bool:
        """Whether a trial of these metrics meets it; it must have the metric."""
        value = metrics.get(self.metric, math.nan)
        return _COMPARED[self.sign](value, self.limit)

    def distance(self, metrics: Mapping[str, float]) -> float:
        """How far a trial is from meeting it, relative to the limit; 0 where it does."""
        if self.met(metrics):
            return 0.0
        value = metrics.get(self.metric, math.inf)
        return abs(value - self.limit) / (abs(self.limit) or 1.0)


def condition(text: str) -> Condition:
    """The condition that a text such as ``macs<1e6`` states.

    Raises:
        ConfigError: It states none, the metric is unknown, or it is one of the test part.
    """
    form = _FORM.fullmatch(text)
    try:
        limit = float(form[3]) if form else math.nan
    except ValueError:
        limit = math.nan
    if form is None or not math.isfinite(limit):
        raise ConfigError(
            f"--pick: {text!r} is no condition; allowed: a metric, one of <, <=, >, >= and a "
            "number, such as 'macs<1e6'"
        )
    if form[1] not in METRICS:
        raise ConfigError(f"--pick: unknown metric {form[1]!r}{nearest(form[1], METRICS)}")
    metric = METRICS[form[1]]
    judged = metric.source == "evaluate" and metric.better != "neither"
    if judged and not (metric.objective or metric.hardware):
        raise ConfigError(
            f"--pick: {metric.name} comes from the test part, by which nothing may be chosen; its "
            "figure would no longer be honest. Choose by validation_accuracy or by a cost"
        )
    return Condition(form[1], form[2], limit)


def picked(
    trials: Sequence[Mapping[str, Any]],
    conditions: Sequence[Condition],
    objectives: Sequence[ObjectiveSettings],
) -> int:
    """The number of the best trial among those that meet all conditions, by its own metrics.

    Args:
        trials: As `zostudy.study.report.results` lists them.
        conditions: What they must meet.
        objectives: The study's; a later one decides where trials are equal in those before it.

    Raises:
        ConfigError: There is no objective, or no complete trial that meets the conditions.
    """
    if not objectives:
        raise ConfigError("--pick: the study has no objectives to choose by; choose with --trial N")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        raise ConfigError("--pick: no trial is complete yet; `zostudy run` runs the study")
    meeting = [t for t in complete if all(c.met(t["metrics"]) for c in conditions)]
    if not meeting:
        raise ConfigError(_none(complete, conditions))

    def losses(trial: Mapping[str, Any]) -> list[float]:
        signs = [-1.0 if goal.direction == "maximize" else 1.0 for goal in objectives]
        values = [trial["metrics"].get(goal.metric, math.nan) for goal in objectives]
        found = [sign * value for sign, value in zip(signs, values, strict=True)]
        return [math.inf if math.isnan(loss) else loss for loss in found]

    return int(min(meeting, key=losses)["number"])


def _none(complete: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> str:
    """Why no trial can be picked, with the one that is nearest."""
    wanted = " and ".join(map(str, conditions))
    for one in conditions:
        if not any(one.metric in trial["metrics"] for trial in complete):
            return f"--pick: no complete trial has the metric {one.metric}"
    near = min(complete, key=lambda t: max(c.distance(t["metrics"]) for c in conditions))
    held = ", ".join(
        f"{name} {near['metrics'][name]:.7g}" if name in near["metrics"] else f"no {name}"
        for name in dict.fromkeys(c.metric for c in conditions)
    )
    return f"--pick: no complete trial has {wanted}; nearest: trial {near['number']} with {held}"
