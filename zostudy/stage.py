"""What the stages (prune, search, evaluate) share: how they report, and how they resume."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from zostudy.runtime import Runtime


@dataclass(frozen=True)
class Progress:
    """A stage's report after a unit of its work.

    Attributes:
        phase: ``prune``, ``search``, ``latency`` or ``evaluate``.
        done: Units done (rounds, epochs or batch sizes).
        total: Units in all.
        metrics: Figures of this unit, by name.
        note: What it does instead, in words, where it does no work of its own.
    """

    phase: str
    done: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class StoppedEarly(BaseException):  # it ends a trial as an interrupt does
    """Raised by a report: the trial is to go no further; its text is the reason."""


class Checkpoint(Protocol):
    """Where a stage keeps its state between units of work."""

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or nothing."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state (tensors and plain values), replacing the last one whole."""


class NoCheckpoint:
    """A stage that starts from nothing and keeps nothing."""

    def load(self) -> dict[str, Any] | None:
        """Nothing."""
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Drop the state."""


def silent(progress: Progress) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class StageContext:
    """What a stage is given beside its settings.

    Attributes:
        runtime: Device and precision.
        seed: The trial's seed.
        checkpoint: Where the stage keeps its state.
        report: Called after every unit of work.
    """

    runtime: Runtime
    seed: int
    checkpoint: Checkpoint = field(default_factory=NoCheckpoint)
    report: Callable[[Progress], None] = silent
