"""What Optuna knows of a study's trials, for the doctor."""

from collections.abc import Iterator
from dataclasses import dataclass

from optuna.trial import TrialState

from zostudy.config.loading import StudyFile
from zostudy.study import locks, points
from zostudy.study.doctor.finding import Finding
from zostudy.study.points import Point, TrialOutcome
from zostudy.study.results import from_standing
from zostudy.study.storage import stored
from zostudy.study.sweep import standing


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
    numbers = {
        (trial["seed"], points.described(trial["params"])): trial["number"]
        for trial in from_standing(file, found)["trials"]
    }
    return [
        Complete(attempt.point, seed, numbers[seed, f"{attempt.point}"], outcome)
        for attempt in begun
        for seed, outcome in attempt.outcomes.items()
        if isinstance(outcome, TrialOutcome)
    ]


def run_ids(file: StudyFile) -> set[str]:
    """The runs of every complete trial that Optuna has, of earlier study files too."""
    with stored(file.config) as study:
        trials = study.get_trials(deepcopy=False) if study else []
    outcomes = [
        points.from_json(text)
        for trial in trials
        for name, text in trial.user_attrs.items()
        if name.startswith("seed:")
    ]
    return {o.mlflow_run_id for o in outcomes if isinstance(o, TrialOutcome)}


def running(file: StudyFile) -> set[int]:
    """The numbers of the trials that are being run now."""
    if not _is_run(file):
        return set()
    seeds = len(file.config.sweep.seeds)
    with stored(file.config) as study:
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if study else []
    return {trial.number * seeds + index for trial in trials for index in range(seeds)}


def findings(file: StudyFile) -> Iterator[Finding]:
    """Optuna's trials that are RUNNING though nobody runs them."""
    if _is_run(file):
        return
    with stored(file.config) as study:
        trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if study else []
    for trial in trials:
        number = trial.number

        def fail(number: int = number) -> str:
            with stored(file.config) as study:
                if study:
                    study.tell(number, state=TrialState.FAIL)
            return ""

        yield Finding(
            "optuna",
            f"trial {number} of Optuna is RUNNING, and nobody runs it",
            "marks it as failed; it is run again",
            fail,
        )


def _is_run(file: StudyFile) -> bool:
    """Whether a process runs the study now."""
    return locks.is_held(file.folder / "locks" / f"{file.config.study}.lock")
