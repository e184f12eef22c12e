"""The sweep as an Optuna study: which points are run, in which order, and what came of them.

Every run of a point is one Optuna trial; its user attributes hold the point (``point``, its key,
and ``values``), the outcome of each seed as soon as it is there (``seed:N``), and why it failed
(``reason``). A trial that Optuna holds as failed without a reason was interrupted. A point that
failed or was interrupted gets a new Optuna trial, which takes over the seeds that are complete.

Optuna's own grid sampler is not used: it never returns to a point that raised. Without objectives
every complete trial has the value 0, which means nothing.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zostudy.config.loading import StudyFile
from zostudy.config.settings import StudyConfig
from zostudy.errors import ConfigError, ZostudyError
from zostudy.redaction import redacted
from zostudy.study import points, proposals
from zostudy.study.points import Failure, Notice, Point, Standing, TrialOutcome
from zostudy.study.storage import check_same_sweep, created, stored

_log = logging.getLogger(__name__)

Execute = Callable[[Point, int, int], TrialOutcome]
Notify = Callable[[Notice], None]
Outcomes = dict[int, TrialOutcome | Failure]


@dataclass(frozen=True)
class SweepSummary:
    """What one call of :func:`run` did.

    Attributes:
        executed: Trials that were run, failed ones included.
        failures: Why trials failed, a line for each.
    """

    executed: int
    failures: tuple[str, ...]


def standing(file: StudyFile) -> Standing:
    """Where the study stands; nothing is written.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
    """
    with stored(file.config) as study:
        if study is None:
            return points.standing(file, [])
        check_same_sweep(study, file)
        return points.standing(file, _begun(study))


def run(file: StudyFile, execute: Execute, notify: Notify) -> SweepSummary:
    """Run what is missing of a study.

    The caller holds the study's lock: trials that Optuna has as running are those of a process
    that is gone.

    Args:
        file: The study file.
        execute: Runs one trial, given its point, its seed and its number.
        notify: Called when a trial begins and when it ends.

    Returns:
        What was done. An exception in a trial fails that trial only.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
        KeyboardInterrupt: The user stopped it; the next call continues.
    """
    with created(file) as study:
        return _Sweep(file, study, execute, notify).run()


@dataclass
class _Sweep:
    """One call of :func:`run`.

    Attributes:
        complete: Complete outcomes by the key of their point.
        total: Trials of this call.
        begun: Trials begun in this call.
        failures: Reasons of those that failed.
    """

    file: StudyFile
    study: optuna.Study
    execute: Execute
    notify: Notify
    complete: dict[str, dict[int, TrialOutcome]] = field(default_factory=dict)
    total: int = 0
    begun: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self) -> SweepSummary:
        self._fail_interrupted()
        state = points.standing(self.file, _begun(self.study))
        self.complete = {
            key: {s: o for s, o in attempt.outcomes.items() if isinstance(o, TrialOutcome)}
            for key, attempt in state.attempts.items()
        }
        self.total = state.trials_left
        queue = {p.key: p for p in state.points if state.missing(p)}
        self._enqueue(queue)
        sampled = 0
        while queue or sampled < state.to_sample:
            trial = self._ask()
            key = trial.user_attrs.get("point")
            if key in queue:
                self._run_point(trial, queue.pop(key))
            elif key:  # left waiting by an earlier call, and not in the study file any more
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                sampled += 1
                self._run_sample(trial)
        return SweepSummary(self.begun, tuple(self.failures))

    def _fail_interrupted(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _enqueue(self, queue: Mapping[str, Point]) -> None:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        there = {trial.user_attrs.get("point") for trial in waiting}
        for point in queue.values():
            if point.key not in there:
                held = {path: proposals.held_value(value) for path, value in point.values.items()}
                self.study.enqueue_trial(
                    held, {"point": point.key, "values": json.dumps(dict(point.values))}
                )

    def _ask(self) -> optuna.Trial:
        """The next waiting trial, or else one that the sampler proposes.

        The sampler is made anew, its seed derived from what has been run to an end, so that a
        sweep that was interrupted proposes the same points as one that was not.
        """
        ended = [t for t in self.study.get_trials(deepcopy=False) if _ended(t)]
        self.study.sampler = proposals.sampler(self.file.config, len(ended))
        return self.study.ask(proposals.distributions(self.file.config))

    def _run_sample(self, trial: optuna.Trial) -> None:
        parameters = self.file.config.sweep.parameters
        values = {
            path: proposals.given_value(parameters[path], held)
            for path, held in trial.params.items()
        }
        try:
            point = points.point(self.file, values)
        except ConfigError as error:
            trial.set_user_attr("reason", _one_line(error))
            self.study.tell(trial, state=TrialState.FAIL)
            self.failures.append(f"point {trial.number}: {_one_line(error)}")
            return
        trial.set_user_attr("values", json.dumps(values))
        trial.set_user_attr("point", point.key)
        self._run_point(trial, point)

    def _run_point(self, trial: optuna.Trial, point: Point) -> None:
        seeds = self.file.config.sweep.seeds
        known = self.complete.setdefault(point.key, {})
        outcomes: Outcomes = {}
        try:
            for index, seed in enumerate(seeds):
                number = trial.number * len(seeds) + index
                outcomes[seed] = known.get(seed) or self._run_trial(point, seed, number)
                trial.set_user_attr(f"seed:{seed}", points.to_json(outcomes[seed]))
        except KeyboardInterrupt:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        failed = [o.reason for o in outcomes.values() if isinstance(o, Failure)]
        if failed:
            trial.set_user_attr("reason", failed[0])
            self.study.tell(trial, state=TrialState.FAIL)
            return
        known |= {seed: o for seed, o in outcomes.items() if isinstance(o, TrialOutcome)}
        self.study.tell(trial, _values(self.file.config, list(known.values())))

    def _run_trial(self, point: Point, seed: int, number: int) -> TrialOutcome | Failure:
        self.begun += 1
        notice = Notice(self.begun, self.total, point, seed)
        self.notify(notice)
        outcome: TrialOutcome | Failure
        try:
            outcome = self.execute(point, seed, number)
            _check_objectives(self.file.config, outcome)
        except ZostudyError as error:
            outcome = Failure(_one_line(error))
        except Exception as error:  # noqa: BLE001  # whatever fails a trial, the study goes on
            outcome = Failure(f"{type(error).__name__}: {_one_line(error)}")
            _log.warning("trial %d failed unexpectedly", number, exc_info=error)
        if isinstance(outcome, Failure):
            self.failures.append(f"trial {number} ({point}, seed {seed}): {outcome.reason}")
        self.notify(replace(notice, outcome=outcome))
        return outcome


def _begun(study: optuna.Study) -> list[tuple[int, dict[str, Any]]]:
    """Numbers and user attributes of the trials that were begun, in their order."""
    trials = study.get_trials(deepcopy=False)
    return [(t.number, t.user_attrs) for t in trials if t.state != TrialState.WAITING]


def _ended(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE or "reason" in trial.user_attrs


def _one_line(error: Exception) -> str:
    return redacted("; ".join(str(error).split("\n"))) or type(error).__name__


def _check_objectives(config: StudyConfig, outcome: TrialOutcome) -> None:
    for objective in config.sweep.objectives:
        value = outcome.metrics.get(objective.metric, math.nan)
        if not math.isfinite(value):
            raise ZostudyError(f"objective {objective.metric} is {value}; needs a finite number")


def _values(config: StudyConfig, outcomes: list[TrialOutcome]) -> list[float]:
    objectives = config.sweep.objectives
    return [fmean(o.metrics[goal.metric] for o in outcomes) for goal in objectives] or [0.0]
