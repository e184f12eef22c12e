"""What the outcomes of a unit are worth: values of objectives, and what is above a constraint."""

import math
from collections.abc import Sequence
from statistics import fmean

from zostudy.config.settings import StudyConfig
from zostudy.errors import ZostudyError
from zostudy.study.points import Failure, Outcome, TrialOutcome


def check(config: StudyConfig, outcome: TrialOutcome) -> None:
    """Whether an outcome has finite values of all objectives.

    Raises:
        ZostudyError: It has not.
    """
    for objective in config.sweep.objectives:
        value = outcome.metrics.get(objective.metric, math.nan)
        if not math.isfinite(value):
            raise ZostudyError(f"objective {objective.metric} is {value}; needs a finite number")


def excesses(config: StudyConfig, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """By which part of its limit each constrained figure is above it, at the worst of the seeds."""
    known = [o.metrics for o in outcomes if not isinstance(o, Failure)]
    return {
        name: max(metrics[name] / limit.most - 1 for metrics in known if name in metrics)
        for name, limit in config.sweep.constraints.items()
        if any(name in metrics for metrics in known)
    }


def values(config: StudyConfig, outcomes: Sequence[TrialOutcome]) -> list[float]:
    """The means over the seeds of the objectives; 0, which means nothing, where there are none."""
    objectives = config.sweep.objectives
    return [fmean(o.metrics[goal.metric] for o in outcomes) for goal in objectives] or [0.0]
