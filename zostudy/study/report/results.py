"""The results of a study as one document: what ``zostudy results --json`` prints.

Keys: ``study``; ``trials``, each with ``number``, ``state`` (complete, failed, or excluded by a
constraint), ``params`` (the swept settings), ``seed``, ``metrics``, ``genotype``, ``mlflow_run_id``
and, where it is not complete, its ``reason``; ``points``, each with ``params``, ``n`` (complete
trials) and for every metric ``mean`` and ``sd``; ``pareto``, the points that no other one
dominates; ``best``. Where a table tells accuracies, also ``random_choice`` and, in every point,
``by_chance`` (`zostudy.study.analysis.random_choice`). Where complete trials are made of something
else than the study is today, ``apart`` has their numbers (``trials``) and ``differences``
(``ingredient``, ``then``, ``now``); they are not in the rest. ``notes`` are sentences on what the
trials are made of. A trial's ``made_of`` has its ingredients (`zostudy.study.ingredients`), where
they are recorded. Only points of the present study file are in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from zostudy.config.limits import ConstraintSettings
from zostudy.config.loading import StudyFile
from zostudy.config.sweep import ObjectiveSettings
from zostudy.study.analysis.random_choice import with_random_choice
from zostudy.study.ingredients import Apart
from zostudy.study.points import Attempt, Standing, TrialOutcome, to_record
from zostudy.study.sweep.standings import standing as standing_of
from zostudy.study.tracking.journal import known_runs

Document = dict[str, Any]


def document(file: StudyFile) -> Document:
    """What is known of the study.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
    """
    found = with_random_choice(from_standing(file, standing_of(file)), file)
    known = known_runs(Path(file.config.storage.folder))
    for trial in [*found["trials"], *([found["best"]] if found["best"] else [])]:
        trial["mlflow_run_id"] = known.get(trial["mlflow_run_id"], trial["mlflow_run_id"])
    return found


def from_standing(file: StudyFile, standing: Standing) -> Document:
    """The document of a study that stands so.

    Points are compared by the means over their seeds of the objectives; only points whose seeds
    are all complete, and that keep to the constraints, are compared. The Pareto front are those
    that no other one is better than in one objective and at least as good as in all. ``best`` is
    null where there are several objectives and more than one point on it, and without objectives.
    """
    objectives = file.config.sweep.objectives
    begun = [standing.attempts[p.key] for p in standing.points if p.key in standing.attempts]
    trials = [trial for attempt in begun for trial in _trials(attempt, standing.seeds)]
    whole = [
        attempt
        for attempt in begun
        if not standing.missing(attempt.point) and _keeps_to(attempt, file.config.sweep.constraints)
    ]
    front = [_with_trial(attempt, standing.seeds) for attempt in _front(whole, objectives)]
    return {
        "study": file.config.study,
        "trials": trials,
        "points": [_point(attempt) for attempt in begun],
        "pareto": front,
        "best": front[0] if len(front) == 1 or (front and len(objectives) == 1) else None,
    } | _notes(standing)


def _notes(standing: Standing) -> Document:
    """What is to be said of what the trials are made of, where there is something."""
    apart, notes = [_apart(apart) for apart in standing.apart], list(standing.notes)
    return ({"apart": apart} if apart else {}) | ({"notes": notes} if notes else {})


def _apart(apart: Apart) -> Document:
    differences = [
        {"ingredient": d.name, "then": d.then or None, "now": d.now or None}
        for d in apart.differences
    ]
    return {"trials": list(apart.trials), "differences": differences}


def _trials(attempt: Attempt, seeds: Sequence[int]) -> list[Document]:
    found = []
    for seed in seeds:
        outcome = attempt.outcomes.get(seed)
        if outcome is None:
            continue
        known = to_record(outcome)
        trial: Document = {
            "number": attempt.numbers[seed],
            "state": known["state"],
            "params": dict(attempt.point.values),
            "seed": seed,
            "metrics": known.get("metrics", {}),
            "genotype": known.get("genotype"),
            "mlflow_run_id": known.get("mlflow_run_id") or None,
        }
        if attempt.made_of.get(seed):
            trial["made_of"] = dict(attempt.made_of[seed])
        if "reason" in known:
            trial["reason"] = known["reason"]
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


def _keeps_to(attempt: Attempt, constraints: Mapping[str, ConstraintSettings]) -> bool:
    return all(
        outcome.metrics.get(name, 0.0) <= limit.most
        for name, limit in constraints.items()
        for outcome in _complete(attempt)
    )


def _front(attempts: Sequence[Attempt], objectives: Sequence[ObjectiveSettings]) -> list[Attempt]:
    """The points that no other one dominates, in their order; none without objectives."""
    if not objectives:
        return []
    losses = [
        tuple(
            fmean(o.metrics[goal.metric] for o in _complete(attempt))
            * (-1 if goal.direction == "maximize" else 1)
            for goal in objectives
        )
        for attempt in attempts
    ]
    best = undominated(losses)
    return [attempt for attempt, own in zip(attempts, losses, strict=True) if own in best]


def undominated(losses: Sequence[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Those that no other is better than in one loss and at least as good as in all."""
    front: list[tuple[float, ...]] = []
    for own in sorted(set(losses)):  # what dominates another comes before it
        if not any(_dominates(other, own) for other in front):
            front.append(own)
    return set(front)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _with_trial(attempt: Attempt, seeds: Sequence[int]) -> Document:
    """A point, with the trial of it that has the highest validation or predicted accuracy."""

    def accuracy(trial: Document) -> float:
        metrics = trial["metrics"]
        return float(metrics.get("validation_accuracy", metrics.get("predicted_accuracy", 0.0)))

    trial = max(_trials(attempt, seeds), key=accuracy)
    kept = ("number", "seed", "genotype", "mlflow_run_id")
    return _point(attempt) | {key: trial[key] for key in kept}
