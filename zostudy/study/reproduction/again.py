"""Runs a recorded trial again, in a folder of its own, and says what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zostudy.config.loading import to_document
from zostudy.config.sizes import counted
from zostudy.errors import ConfigError, TrialError
from zostudy.metrics import PHASES
from zostudy.runtime import environment, planned
from zostudy.study import points
from zostudy.study.ingredients import Difference
from zostudy.study.points import TrialOutcome
from zostudy.study.reproduction import comparison
from zostudy.study.reproduction.comparison import Course, Differing, first_difference
from zostudy.study.reproduction.recorded import Recorded, alone, needed
from zostudy.study.trial.computing import Report
from zostudy.study.trial.trial import Trials

#: Of the environment, what no trial's figures follow from.
_IDLE = ("optuna", "mlflow", "cpu_count", "usable_cpu_count")

#: What is said where nothing that is recorded has changed.
_UNKNOWN = (
    "nothing that is recorded is another: a library without a version here, the kind of processor, "
    "or on CUDA an operation that has no deterministic algorithm"
)


@dataclass(frozen=True)
class Reproduction:
    """A trial beside the run that was to be the same.

    Attributes:
        recorded: The trial.
        epochs: For each phase, the epochs or rounds that were compared.
        differing: The first difference; nothing where they are identical.
        reasons: What is different here, each in a sentence; empty where they are identical.
    """

    recorded: Recorded
    epochs: Mapping[str, int]
    differing: Differing | None
    reasons: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        differing = self.differing
        return {
            "study": self.recorded.study,
            "trial": self.recorded.name,
            "seed": self.recorded.seed,
            "identical": differing is None,
            "difference": differing and dict(vars(differing)),
            "reasons": list(self.reasons),
            "epochs": dict(self.epochs),
            "course_of": self.recorded.course_of or None,
            "notes": list(self.recorded.notes),
        }

    def lines(self) -> list[str]:
        """What is printed."""
        recorded = self.recorded
        what = f"{recorded.name} of study {recorded.study!r}, seed {recorded.seed}"
        notes = [f"note: {note}" for note in recorded.notes]
        if self.differing is None:
            counts = [
                f"{phase} ({counted(n, 'round' if phase == 'prune' else 'epoch')})" if n else phase
                for phase, n in self.epochs.items()
            ]
            kept = "" if recorded.course_of else "; the course of its epochs is not kept any more"
            return [f"identical: {what}: {', '.join(counts)}{kept}", *notes]
        reasons = [f"likely reason: {reason}" for reason in self.reasons]
        told = [note for note in notes if note.removeprefix("note: ") not in self.reasons]
        return [f"different: {what}: {self.differing}", *reasons, *told]


def again(recorded: Recorded, folder: Path, report: Report) -> Reproduction:
    """Run a trial again and compare.

    Its latency is left out: it need not be the same again, and nothing follows from it.

    Args:
        recorded: The trial.
        folder: An empty folder, for all that the run leaves.
        report: Called after every epoch and round.

    Raises:
        ConfigError: Its device is not here, or it cannot be run again.
    """
    config = recorded.config.changed("latency", by="none")
    file = alone(recorded.study, to_document(config), str(folder))
    trials = Trials(file, report)
    point = replace(points.point(file, {}), made_of=needed(recorded.made_of))
    try:
        outcome = trials(point, recorded.seed, 0)
    except TrialError as error:
        raise ConfigError(f"{recorded.name}: cannot be run again here: {error}") from error
    if not isinstance(outcome, TrialOutcome):
        raise ConfigError(f"{recorded.name}: cannot be run again here: {outcome.reason}")
    records = trials.records(point, recorded.seed)
    now = {name: comparison.of_values(name, record.values) for name, record in records.items()}
    if "search" not in now:  # the pruning has ended with the genotype
        own = {"search_seconds": 0.0, "search_peak_bytes": 0.0}
        now["search"] = Course(parts={"genotype": outcome.genotype}, metrics=own)
    device = planned(recorded.config.runtime).device.type
    differing = _first(recorded, now, device)
    epochs = {
        phase: max((course.length for course in recorded.courses[phase]), default=0)
        for phase in PHASES
        if phase in records
    }
    return Reproduction(
        recorded, epochs, differing, () if differing is None else _reasons(recorded, device)
    )


def _first(recorded: Recorded, now: Mapping[str, Course], device: str) -> Differing | None:
    for phase, courses in recorded.courses.items():
        for course in courses:
            found = first_difference(phase, course, now.get(phase, Course()), device)
            if found is not None:
                return found
    return None


def _reasons(recorded: Recorded, device: str) -> tuple[str, ...]:
    """What is not as it was: what the record contradicts, device, versions, machine, threads."""
    found = list(recorded.notes)
    then = recorded.made_of.get("device", device)
    if then != device:
        found.append(str(Difference("device", then, device)))
    here = environment()
    for name in dict.fromkeys([*recorded.environment, *here] if recorded.environment else []):
        one, other = recorded.environment.get(name), here.get(name)
        if one != other and name not in _IDLE:
            found.append(f"{name} was {one or 'not there'} then and is {other or 'not there'} now")
    return tuple(found) or (_UNKNOWN,)
