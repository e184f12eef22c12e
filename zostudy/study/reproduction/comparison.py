"""Two courses of a trial, compared in the order in which they were computed.

What the same computation need not give again (:func:`repeats`) is left out. Figures
are equal where they are the same number, to the last bit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zostudy.metrics import METRICS, PHASES, measured, of
from zostudy.study.delivery.recorded_run import RecordedPhase, RecordedRun

#: Stands for a figure that one of two courses does not have.
ABSENT = None

#: What a phase's record holds for each epoch or round; and what it holds once.
_STEPS, _PARTS = ("alpha_history", "rounds"), ("mask", "genotype")


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


@dataclass(frozen=True)
class Course:
    """What a phase of a trial gave; what is not known of it is empty.

    Attributes:
        history: For each epoch, its metrics by name.
        steps: Further values of each epoch or round, by what they are.
        parts: What it ended with: mask, genotype.
        metrics: Its metrics of a trial.
    """

    history: Sequence[Mapping[str, float]] = ()
    steps: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """The epochs or rounds that are known of it."""
        return max(len(values) for values in (self.history, *self.steps.values()))


@dataclass(frozen=True)
class Differing:
    """The first figure that is not the same.

    Attributes:
        phase: The phase, one of `zostudy.metrics.PHASES`.
        epoch: The epoch, or the round of a pruning, from 1; nothing at the end of the phase.
        metric: The metric, or where in a mask, a genotype or mixing weights it stands.
        then: The value that is recorded.
        now: The value of the new run.
    """

    phase: str
    epoch: int | None
    metric: str
    then: Any
    now: Any

    def __str__(self) -> str:
        unit = "round" if self.phase == "prune" else "epoch"
        where = "at its end" if self.epoch is None else f"{unit} {self.epoch}"
        return (
            f"{self.phase}, {where}, {self.metric}: {_shown(self.then)} then, "
            f"{_shown(self.now)} now"
        )


def of_values(phase: str, values: Mapping[str, Any]) -> Course:
    """The course of a phase by the values of its record in the cache."""
    return Course(
        values.get("history", ()),
        {name: values[name] for name in _STEPS if values.get(name)},
        {name: values[name] for name in _PARTS if values.get(name)},
        measured(phase, values),
    )


def of_run(phase: str, run: RecordedPhase) -> Course:
    """The course of a phase by its run in MLflow."""
    files = dict(run.files) | run.files.get("trajectory", {})
    steps = {name: files[name] for name in _STEPS if files.get(name)}
    history = () if phase == "prune" else run.history  # of a pruning, its rounds say more
    parts = {name: files[name] for name in _PARTS if files.get(name)}
    return Course(history, steps, parts, measured(phase, {"figures": {}, **run.metrics}))


def of_outcome(metrics: Mapping[str, float], genotype: object) -> dict[str, Course]:
    """What is known of each phase by the outcome of a trial alone."""
    found = {
        phase: {m.name: metrics[m.name] for m in of(*sources) if m.name in metrics}
        for phase, sources in PHASES.items()
    }
    return {
        phase: Course(
            metrics=own, parts={"genotype": genotype} if phase == "search" and genotype else {}
        )
        for phase, own in found.items()
    }


def of_trial_run(run: RecordedRun) -> dict[str, Course]:
    """What is known of each phase by a trial's own run."""
    own = {name: value for name, value in run.metrics.items() if name in METRICS}
    return of_outcome(own, run.files.get("genotype"))


def first_difference(phase: str, then: Course, now: Course, device: str) -> Differing | None:
    """Where the courses of a phase part; nothing where they do not.

    Args:
        phase: The phase.
        then: What is recorded; what it does not hold is not compared.
        now: What the new run gave.
        device: Type of the device of both: ``cpu`` or ``cuda``.
    """
    lists = {"": then.history, **then.steps} if then.history else dict(then.steps)
    others = {"": now.history, **now.steps}
    longest = [*lists.values(), *(others.get(name, ()) for name in lists)]
    for step in range(max(map(len, longest), default=0)):
        for name, values in lists.items():
            both = (values, others.get(name, ()))
            one, other = (own[step] if step < len(own) else ABSENT for own in both)
            for place, a, b in _differences(name, one, other, device):
                return Differing(phase, step + 1, place or "all", a, b)
    for ours, theirs in ((then.parts, now.parts), (then.metrics, now.metrics)):
        for name, value in ours.items():
            for place, a, b in _differences(name, value, theirs.get(name), device):
                return Differing(phase, None, place, a, b)
    return None


def _differences(
    place: str,
    then: Any,  # noqa: ANN401  # any JSON value
    now: Any,  # noqa: ANN401
    device: str,
) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, in their order."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*now, *then]):
            if repeats(name, device):
                inner = f"{place}.{name}" if place else name
                yield from _differences(inner, then.get(name), now.get(name), device)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _differences(f"{place}[{index}]", one, other, device)
    elif not _same(then, now) and repeats(place, device):
        yield place, then, now


def _same(one: object, other: object) -> bool:
    both = isinstance(one, float) and isinstance(other, float)
    return one == other or (both and math.isnan(one) and math.isnan(other))  # type: ignore[arg-type]


def _shown(value: object) -> str:
    if value is ABSENT:
        return "not there"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
