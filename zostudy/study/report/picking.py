"""The trial to export, by conditions on its point and its metrics: ``--pick 'macs<1e6'``."""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from zostudy.config.sweep import SweepSettings
from zostudy.errors import ConfigError
from zostudy.metrics import METRICS
from zostudy.options import nearest
from zostudy.study.ingredients import trials_named
from zostudy.study.report.results import keeps_to

_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")
#: A number with a unit, which belongs to the metric's name.
_WITH_UNIT = re.compile(r"([-+.\d]+(?:[eE][-+]?\d+)?)([A-Za-z]+)")


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
            f"number, such as 'macs<1e6'{_without_unit(form) if form else ''}"
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


def _without_unit(form: re.Match[str]) -> str:
    """What a condition on a number with a unit may mean, such as ``latency<5ms``."""
    found = _WITH_UNIT.fullmatch(form[3])
    if found:
        unit = f"_{found[2].casefold()}"
        metric = form[1].removesuffix(unit) + unit
        if metric in METRICS:
            return f"; did you mean '{metric}{form[2]}{found[1]}'?"
    return ""


def picked(
    trials: Sequence[Mapping[str, Any]], conditions: Sequence[Condition], sweep: SweepSettings
) -> int:
    """The number of a trial of the best point among those that meet all conditions.

    Points are compared by the means over their seeds, so that a lucky seed chooses nothing. Of the
    best point it is the trial with the highest validation accuracy, or predicted accuracy, among
    those that meet the conditions themselves, of which a point needs one.

    Args:
        trials: As `zostudy.study.report.results` lists them.
        conditions: What means and trial must meet.
        sweep: The study's. Of its objectives, a later one decides where points are equal in those
            before it; points that lack a seed, or break a constraint, are not compared.

    Raises:
        ConfigError: There is no objective, or no complete point that meets the conditions.
    """
    if not sweep.objectives:
        raise ConfigError("--pick: the study has no objectives to choose by; choose with --trial N")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        raise ConfigError("--pick: no trial is complete yet; `zostudy run` runs the study")
    points = [point for point in _points(complete) if len(point) == len(sweep.seeds)]
    if not points:
        raise ConfigError(
            f"--pick: no point has all of its {len(sweep.seeds)} seeds yet; `zostudy run` runs "
            "what is missing, or choose with --trial N"
        )
    points = [p for p in points if keeps_to([t["metrics"] for t in p], sweep.constraints)]
    if not points:
        raise ConfigError("--pick: no complete point keeps to sweep.constraints")

    def losses(point: _Trials) -> list[float]:
        means, found = _means(point), []
        for goal in sweep.objectives:
            sign = -1.0 if goal.direction == "maximize" else 1.0
            found.append(sign * means[goal.metric] if goal.metric in means else math.inf)
        return found

    on_average = [point for point in points if _meets(_means(point), conditions)]
    if not on_average:
        raise ConfigError(_none(points, conditions))
    meeting = [p for p in on_average if any(_meets(t["metrics"], conditions) for t in p)]
    if not meeting:
        numbers = trials_named([trial["number"] for trial in min(on_average, key=losses)])
        raise ConfigError(
            f"--pick: {numbers} have {_wanted(conditions)} on average, but none of them has it all "
            "itself; choose with --trial N"
        )
    own = [t for t in min(meeting, key=losses) if _meets(t["metrics"], conditions)]

    def accuracy(trial: Mapping[str, Any]) -> float:
        metrics = trial["metrics"]
        return float(metrics.get("validation_accuracy", metrics.get("predicted_accuracy", 0.0)))

    return int(max(own, key=accuracy)["number"])


_Trials = list[Mapping[str, Any]]


def _meets(metrics: Mapping[str, float], conditions: Sequence[Condition]) -> bool:
    return all(condition.met(metrics) for condition in conditions)


def _wanted(conditions: Sequence[Condition]) -> str:
    return " and ".join(map(str, conditions))


def _points(trials: Sequence[Mapping[str, Any]]) -> list[_Trials]:
    """The trials of each point together."""
    found: dict[str, _Trials] = {}
    for trial in trials:
        found.setdefault(json.dumps(trial["params"], sort_keys=True), []).append(trial)
    return list(found.values())


def _means(point: _Trials) -> dict[str, float]:
    """The mean over the seeds of every metric that all of them have."""
    return {
        name: fmean(trial["metrics"][name] for trial in point)
        for name in point[0]["metrics"]
        if all(name in trial["metrics"] for trial in point)
    }


def _none(points: Sequence[_Trials], conditions: Sequence[Condition]) -> str:
    """Why no point can be picked, with the one that is nearest."""
    for one in conditions:
        if not any(one.metric in _means(point) for point in points):
            return f"--pick: no complete trial has the metric {one.metric}"
    near = min(points, key=lambda p: max(c.distance(_means(p)) for c in conditions))
    means = _means(near)
    held = ", ".join(
        f"{name} {means[name]:.7g}" if name in means else f"no {name}"
        for name in dict.fromkeys(c.metric for c in conditions)
    )
    numbers = trials_named([trial["number"] for trial in near])
    of_mean = "" if len(near) == 1 else " on average"
    wanted = _wanted(conditions)
    return f"--pick: no complete point has {wanted}; nearest: {numbers} with {held}{of_mean}"
