"""The results of a study as one document: what ``zostudy results --json`` prints.

Keys: ``study``; ``trials``, each with ``number``, ``state`` (complete or failed), ``params`` (the
swept settings), ``seed``, ``metrics``, ``genotype``, ``mlflow_run_id`` and, where it failed, its
``reason``; ``points``, each with ``params``, ``n`` (complete trials) and for every metric ``mean``
and ``sd``; ``best``. Only points of the present study file are in it.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from zostudy.config.loading import StudyFile
from zostudy.config.sweep import ObjectiveSettings
from zostudy.study import sweep
from zostudy.study.points import Attempt, Standing, TrialOutcome

Document = dict[str, Any]


def document(file: StudyFile) -> Document:
    """What is known of the study.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
    """
    return from_standing(file, sweep.standing(file))


def from_standing(file: StudyFile, standing: Standing) -> Document:
    """The document of a study that stands so.

    A point is the best if the mean over its seeds of the first objective is; only points whose
    seeds are all complete are compared. ``best`` is null without objectives.
    """
    begun = [standing.attempts[p.key] for p in standing.points if p.key in standing.attempts]
    trials = [trial for attempt in begun for trial in _trials(attempt, standing.seeds)]
    whole = [attempt for attempt in begun if not standing.missing(attempt.point)]
    return {
        "study": file.config.study,
        "trials": trials,
        "points": [_point(attempt) for attempt in begun],
        "best": _best(whole, file.config.sweep.objectives, standing.seeds),
    }


def _trials(attempt: Attempt, seeds: Sequence[int]) -> list[Document]:
    found = []
    for seed in seeds:
        outcome = attempt.outcomes.get(seed)
        if outcome is None:
            continue
        trial: Document = {
            "number": attempt.numbers[seed],
            "state": "failed",
            "params": dict(attempt.point.values),
            "seed": seed,
            "metrics": {},
            "genotype": None,
            "mlflow_run_id": None,
        }
        if isinstance(outcome, TrialOutcome):
            trial |= {
                "state": "complete",
                "metrics": outcome.metrics,
                "genotype": outcome.genotype,
                "mlflow_run_id": outcome.mlflow_run_id,
            }
        else:
            trial["reason"] = outcome.reason
        found.append(trial)
    return found


def _complete(attempt: Attempt) -> list[TrialOutcome]:
    return [o for o in attempt.outcomes.values() if isinstance(o, TrialOutcome)]


def _point(attempt: Attempt) -> Document:
    outcomes = _complete(attempt)
    names = outcomes[0].metrics if outcomes else {}
    shared = [name for name in names if all(name in o.metrics for o in outcomes)]
    return {
        "params": dict(attempt.point.values),
        "n": len(outcomes),
        "metrics": {name: _spread([o.metrics[name] for o in outcomes]) for name in shared},
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation (n − 1); a single value has none."""
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


def _best(
    attempts: Sequence[Attempt], objectives: Sequence[ObjectiveSettings], seeds: Sequence[int]
) -> Document | None:
    """The best point, with the trial of it that has the highest validation accuracy."""
    if not attempts or not objectives:
        return None
    metric = objectives[0].metric
    sign = 1 if objectives[0].direction == "maximize" else -1
    best = max(attempts, key=lambda a: sign * fmean(o.metrics[metric] for o in _complete(a)))
    trial = max(
        _trials(best, seeds), key=lambda trial: trial["metrics"].get("validation_accuracy", 0.0)
    )
    kept = ("number", "seed", "genotype", "mlflow_run_id")
    return _point(best) | {key: trial[key] for key in kept}
