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
they are recorded. Only points of the present study file are in it. With ``sweep.random_baseline``,
``random_baseline`` has its ``genotypes`` (their number), ``trials``, their means by mask
(``groups``, as points) and ``gain``, what the points have over them in the mean, by metric; every
point has the same of its own as ``over_random`` (`zostudy.study.analysis.over_random`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from zostudy.config.limits import ConstraintSettings
from zostudy.config.loading import StudyFile
from zostudy.config.sweep import ObjectiveSettings
from zostudy.study.analysis.over_random import METRICS, Side, gains
from zostudy.study.analysis.random_choice import with_random_choice
from zostudy.study.ingredients import Apart
from zostudy.study.points import Attempt, Standing, TrialOutcome, to_record
from zostudy.study.sweep.random_baseline import counterpart
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
    random = found.get("random_baseline", {}).get("trials", ())
    for trial in [*found["trials"], *random, *([found["best"]] if found["best"] else [])]:
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
    begun = [standing.attempts[p.key] for p in standing.searched if p.key in standing.attempts]
    trials = [trial for attempt in begun for trial in _trials(attempt, standing.seeds)]
    whole = [
        attempt
        for attempt in begun
        if not standing.missing(attempt.point)
        and keeps_to([o.metrics for o in _complete(attempt)], file.config.sweep.constraints)
    ]
    random, over_random = _beside_random(standing, begun, file.config.sweep.random_baseline)
    front = [
        _with_trial(attempt, standing.seeds) | over_random.get(attempt.point.key, {})
        for attempt in _front(whole, objectives)
    ]
    return {
        "study": file.config.study,
        "trials": trials,
        "points": [_point(a) | over_random.get(a.point.key, {}) for a in begun],
        "pareto": front,
        "best": front[0] if len(front) == 1 or (front and len(objectives) == 1) else None,
    } | (random | _notes(standing))


def _beside_random(
    standing: Standing, begun: Sequence[Attempt], genotypes: int
) -> tuple[Document, dict[str, Document]]:
    """What a document has of random genotypes, and what it has of them in each point."""
    if not genotypes:
        return {}, {}
    alike: dict[str, list[Attempt]] = defaultdict(list)
    for point in standing.baseline:
        if point.key in standing.attempts:
            alike[counterpart(point.config)].append(standing.attempts[point.key])
    own: dict[str, Document] = {attempt.point.key: {} for attempt in begun}
    gain: Document = {}
    for metric in METRICS:
        sides = []
        for attempt in begun:
            group = counterpart(attempt.point.config)
            sides.append(Side(group, _by_seed(attempt, metric), _drawn(alike[group], metric)))
        found, whole = gains(sides)
        for attempt, one in zip(begun, found, strict=True):
            own[attempt.point.key] |= {metric: one.to_dict()} if one else {}
        gain |= {metric: whole.to_dict()} if whole else {}
    groups = list(filter(None, alike.values()))
    random: Document = {
        "genotypes": genotypes,
        "groups": [_group(group) for group in groups],
        "trials": [
            trial
            for group in groups
            for attempt in group
            for trial in _trials(attempt, attempt.point.seeds_among(standing.seeds))
        ],
        "gain": gain,
    }
    return {"random_baseline": random}, {key: {"over_random": found} for key, found in own.items()}


def _drawn(random: Sequence[Attempt], metric: str) -> dict[int, list[float]]:
    """A metric of random genotypes by their seeds."""
    drawn: dict[int, list[float]] = defaultdict(list)
    for one in random:
        for seed, value in _by_seed(one, metric).items():
            drawn[seed].append(value)
    return drawn


def _by_seed(attempt: Attempt, metric: str) -> dict[int, float]:
    return {
        seed: outcome.metrics[metric]
        for seed, outcome in attempt.outcomes.items()
        if isinstance(outcome, TrialOutcome) and metric in outcome.metrics
    }


def _group(attempts: Sequence[Attempt]) -> Document:
    """The random genotypes of one mask as one point."""
    drawn = ("search.strategy", "search.draw")
    values = {k: v for k, v in attempts[0].point.values.items() if k not in drawn}
    return _summary(values, [outcome for attempt in attempts for outcome in _complete(attempt)])


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
    return _summary(attempt.point.values, _complete(attempt))


def _summary(values: Mapping[str, Any], outcomes: Sequence[TrialOutcome]) -> Document:
    names = outcomes[0].metrics if outcomes else {}
    shared = [name for name in names if all(name in o.metrics for o in outcomes)]
    return {
        "params": dict(values),
        "n": len(outcomes),
        "metrics": {name: _spread([o.metrics[name] for o in outcomes]) for name in shared},
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation (n − 1); a single value has none."""
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


def keeps_to(
    trials: Iterable[Mapping[str, float]], constraints: Mapping[str, ConstraintSettings]
) -> bool:
    """Whether the metrics of all trials keep to the constraints."""
    return all(
        metrics.get(name, 0.0) <= limit.most
        for metrics in trials
        for name, limit in constraints.items()
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
