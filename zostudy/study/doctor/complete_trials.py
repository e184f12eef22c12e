"""What Optuna knows of a study's trials, for the doctor."""

from collections.abc import Iterator
from dataclasses import dataclass

from zostudy.config.loading import StudyFile
from zostudy.study import points
from zostudy.study.doctor.finding import Finding
from zostudy.study.points import Failure, Point, TrialOutcome
from zostudy.study.sweep import grid
from zostudy.study.sweep.optuna_storage import created, stored
from zostudy.study.sweep.queue import Queue
from zostudy.study.sweep.standings import run_now, standing


@dataclass(frozen=True)
class Complete:
    """A complete trial of the present study file.

    Attributes:
        point: Its point.
        seed: Its seed.
        number: Its number.
        outcome: What came of it.
    """

    point: Point
    seed: int
    number: int
    outcome: TrialOutcome

    def __str__(self) -> str:
        return f"trial {self.number} ({self.point}, seed {self.seed})"


def complete(file: StudyFile) -> list[Complete]:
    """The complete trials of a study, by the points of its present file."""
    found = standing(file)
    begun = [found.attempts[p.key] for p in found.points if p.key in found.attempts]
    return [
        Complete(attempt.point, seed, attempt.numbers[seed], outcome)
        for attempt in begun
        for seed, outcome in attempt.outcomes.items()
        if isinstance(outcome, TrialOutcome)
    ]


def run_ids(file: StudyFile) -> set[str]:
    """The runs of every trial that came to its end in Optuna, of earlier study files too."""
    with stored(file.config) as found:
        trials = found.study.get_trials(deepcopy=False) if found else []
    outcomes = [
        points.from_json(text)
        for trial in trials
        for name, text in trial.user_attrs.items()
        if name.startswith("seed:")
    ]
    return {o.mlflow_run_id for o in outcomes if not isinstance(o, Failure)}


def findings(file: StudyFile) -> Iterator[Finding]:
    """Optuna's trials that are RUNNING though nobody runs them."""
    _, lost = run_now(file)

    def end() -> str:
        with created(file) as found:
            queue = Queue(file, found, grid.of_study(file))
            queue.end_lost(queue.read())
        return ""

    for unit in lost:
        yield Finding(
            "optuna",
            f"trial {unit.number} of Optuna is RUNNING, and nobody runs it",
            "marks it as failed; it is run again",
            end,
        )
