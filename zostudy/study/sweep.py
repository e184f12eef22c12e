"""The sweep as an Optuna study: which points are run, in which order, and what came of them.

Every run of a point is one Optuna trial; its user attributes hold the point (``point``, its key,
and ``values``), the outcome of each seed as soon as it is there (``seed:N``), and why it failed
(``reason``). A trial that Optuna holds as failed without a reason was interrupted. A point that
failed or was interrupted gets a new Optuna trial, which takes over the seeds that are complete.

Optuna's own grid sampler is not used: it never returns to a point that raised. Without objectives
every complete trial has the value 0, which means nothing.
"""

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from zostudy.config.loading import StudyFile, canonical, flat, to_document
from zostudy.config.settings import StudyConfig
from zostudy.config.sweep import RangeSettings
from zostudy.errors import ConfigError, ZostudyError
from zostudy.study import points
from zostudy.study.points import Failure, Notice, Point, Standing, TrialOutcome

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
    with _stored(file.config) as study:
        if study is None:
            return points.standing(file, [])
        _check_same_sweep(study, file)
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
    with _created(file) as study:
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
                held = {path: _held(value) for path, value in point.values.items()}
                self.study.enqueue_trial(
                    held, {"point": point.key, "values": json.dumps(dict(point.values))}
                )

    def _ask(self) -> optuna.Trial:
        """The next waiting trial, or else one that the sampler proposes.

        The sampler is made anew, its seed derived from what has been run to an end, so that a
        sweep that was interrupted proposes the same points as one that was not.
        """
        ended = [t for t in self.study.get_trials(deepcopy=False) if _ended(t)]
        self.study.sampler = _sampler(self.file.config, len(ended))
        return self.study.ask(_distributions(self.file.config))

    def _run_sample(self, trial: optuna.Trial) -> None:
        parameters = self.file.config.sweep.parameters
        values = {path: _given(parameters[path], held) for path, held in trial.params.items()}
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
    return "; ".join(str(error).split("\n")) or type(error).__name__


def _check_objectives(config: StudyConfig, outcome: TrialOutcome) -> None:
    for objective in config.sweep.objectives:
        value = outcome.metrics.get(objective.metric, math.nan)
        if not math.isfinite(value):
            raise ZostudyError(f"objective {objective.metric} is {value}; needs a finite number")


def _values(config: StudyConfig, outcomes: list[TrialOutcome]) -> list[float]:
    objectives = config.sweep.objectives
    return [fmean(o.metrics[goal.metric] for o in outcomes) for goal in objectives] or [0.0]


# -- what Optuna holds ---------------------------------------------------------------------------


def _distributions(config: StudyConfig) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each swept setting.

    The numbers of a grid are held as a range, which may grow later; all else is a choice.
    """
    parameters = config.sweep.parameters
    grid = config.sweep.sampler.name == "grid"
    return {path: _distribution(values, grid=grid) for path, values in parameters.items()}


def _distribution(values: tuple[Any, ...] | RangeSettings, *, grid: bool) -> BaseDistribution:
    if isinstance(values, RangeSettings):
        numbers = points.numbers(values) if values.step else (values.low, values.high)
        low, high = numbers[0], numbers[-1]
        if all(isinstance(v, int) for v in (low, high, values.step)):
            return IntDistribution(int(low), int(high), log=values.log, step=int(values.step) or 1)
        step = None if grid or not values.step else float(values.step)
        return FloatDistribution(low, high, log=values.log, step=step)
    if grid and _numeric(values):
        whole = all(isinstance(v, int) for v in values)
        return (IntDistribution if whole else FloatDistribution)(min(values), max(values))
    return CategoricalDistribution([_held(value) for value in values])


def _numeric(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _held(value: Any) -> str | int | float | bool | None:  # noqa: ANN401  # any JSON value
    """The value as Optuna can hold it: lists and dictionaries as JSON text."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value)


def _given(values: tuple[Any, ...] | RangeSettings, held: object) -> Any:  # noqa: ANN401  # as above
    """The value as the study file has it."""
    if isinstance(values, RangeSettings):
        return held
    return next(v for v in values if _held(v) == held and type(_held(v)) is type(held))


def _sampler(config: StudyConfig, ended: int) -> optuna.samplers.BaseSampler:
    sampler = config.sweep.sampler
    seed = int(np.random.SeedSequence([sampler.seed, ended]).generate_state(1)[0])
    if sampler.name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's trials all wait with their values


def _sweep_identity(file: StudyFile) -> dict[str, Any]:
    """What must not change while a study goes on, by path."""
    config = file.config
    sampled = config.sweep.sampler.name == "tpe"
    swept: dict[str, Any] = {}
    for path, values in config.sweep.parameters.items():
        distribution = _distribution(values, grid=not sampled)
        document: Any = to_document(values) if isinstance(values, RangeSettings) else list(values)
        if not sampled and not isinstance(distribution, CategoricalDistribution):
            document = "numbers" if isinstance(distribution, FloatDistribution) else "whole numbers"
        swept[f"sweep.parameters.{path}"] = document
    identity = swept | {
        "sweep.sampler.name": config.sweep.sampler.name,
        "sweep.objectives": [to_document(o) for o in config.sweep.objectives],
    }
    return identity | (flat(canonical(config)) if sampled else {})


def _check_same_sweep(study: optuna.Study, file: StudyFile) -> None:
    old = json.loads(study.user_attrs.get("sweep", "{}"))
    new = json.loads(json.dumps(_sweep_identity(file)))
    changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    if changed:
        path = changed[0]
        raise ConfigError(
            f"{path}: {_shown(new.get(path))}, but the study {study.study_name!r} in "
            f"{_url(file.config)} was begun with {_shown(old.get(path))}; give the study another "
            "name (study: …), or storage.optuna another file; what lies in "
            f"{file.config.storage.folder!r} is not computed again"
        )


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value)


def _url(config: StudyConfig) -> URL:
    try:
        return make_url(config.storage.optuna)
    except SQLAlchemyError as error:
        raise ConfigError(
            f"storage.optuna: {config.storage.optuna!r} is no SQLAlchemy URL, such as "
            "sqlite:///optuna.db"
        ) from error


def _reason(error: Exception) -> str:
    return str(error.__cause__ or error).split("\n")[0]


def _sqlite_file(config: StudyConfig) -> Path | None:
    url = _url(config)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


@contextlib.contextmanager
def _storage(config: StudyConfig) -> Iterator[optuna.storages.RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.RDBStorage(config.storage.optuna)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        where = f"storage.optuna: {_url(config)}"
        raise ConfigError(f"{where} cannot be opened ({_reason(error)})") from error
    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        raise ZostudyError(f"storage.optuna: {_url(config)}: {_reason(error)}") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextlib.contextmanager
def _stored(config: StudyConfig) -> Iterator[optuna.Study | None]:
    """The study in storage, if there is one."""
    path = _sqlite_file(config)
    if path is not None and not path.exists():
        yield None
        return
    with _storage(config) as storage:
        if config.study in optuna.get_all_study_names(storage):
            yield optuna.load_study(study_name=config.study, storage=storage)
        else:
            yield None


@contextlib.contextmanager
def _created(file: StudyFile) -> Iterator[optuna.Study]:
    """The study in storage, made if it is not there."""
    config = file.config
    if (path := _sqlite_file(config)) is not None:
        with contextlib.suppress(OSError):  # opening the storage says what is wrong
            path.parent.mkdir(parents=True, exist_ok=True)
    with _storage(config) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=config.study,
            directions=[o.direction for o in config.sweep.objectives] or ["maximize"],
            sampler=_sampler(config, 0),
            load_if_exists=True,
        )
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr("sweep", json.dumps(_sweep_identity(file)))
        _check_same_sweep(study, file)
        yield study
