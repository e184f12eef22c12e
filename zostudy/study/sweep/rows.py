"""A study's trials as rows of Optuna's own tables, read and written in few statements.

Optuna's calls take a transaction each, load all that belongs to a trial, and keep trials that have
ended: a claim and an end took 30 statements in 7 transactions, and three times the processor's
time. This reads what is new since the last look, and claims, ends or adds in one transaction.
``add_trials`` cannot be told to add nothing where another process was faster either. The rows are
those that Optuna writes, under the locks that it takes; times are naive and in UTC, as there.
"""

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.orm import Session

_TRIALS = models.TrialModel.__table__.c
_STUDIES = models.StudyUserAttributeModel.__table__.c
_ATTRIBUTES = models.TrialUserAttributeModel.__table__.c
_BEATS = models.TrialHeartbeatModel.__table__.c

#: Trials that one statement may name; databases limit how many values it has.
_PORTION = 500

#: An option of a connection: it writes nothing, so that it need not wait for those that do.
READING = "zostudy_reading"


def reading(storage: RDBStorage) -> AbstractContextManager[Connection]:
    """A transaction that writes nothing."""
    return storage.engine.execution_options(**{READING: True}).begin()


@dataclass
class Following:
    """Which trials of a study are new since they were last read, or had not ended then.

    Attributes:
        study: The storage's own number of the study.
        last: The storage's own number of the last trial that was read.
        unfinished: The states of those that had not ended, by the storage's own numbers.
    """

    study: int
    last: int = -1
    unfinished: dict[int, TrialState] = field(default_factory=dict)

    def read(self, connection: Connection, *columns: ColumnElement[Any]) -> list[Row[Any]]:
        """Their own numbers, their states and further columns, in the order of the trials."""
        trial = _TRIALS.trial_id
        query = select(trial, _TRIALS.state, *columns).where(_TRIALS.study_id == self.study)
        found: list[Row[Any]] = []
        for some in _portions(self.unfinished):
            found += connection.execute(query.where(trial.in_(some)))
        found.sort(key=lambda row: row.trial_id)
        return [*found, *connection.execute(query.where(trial > self.last).order_by(trial))]

    def note(self, rows: Sequence[Row[Any]]) -> None:
        """Take trials as read."""
        for row in rows:
            self.last = max(self.last, row.trial_id)
            if row.state.is_finished():
                self.unfinished.pop(row.trial_id, None)
            else:
                self.unfinished[row.trial_id] = row.state


@dataclass
class BusyTime:
    """How long a study's trials have kept workers busy, followed as they end.

    Attributes:
        storage: The storage.
        study: Its own number of the study.
    """

    storage: RDBStorage
    study: int
    _ended: float = 0.0
    _followed: Following | None = None

    def until(self, now: datetime) -> tuple[float, int]:
        """Seconds of all workers together until now, and how many trials run."""
        followed = self._followed or Following(self.study)
        with reading(self.storage) as connection:
            found = followed.read(connection, _TRIALS.datetime_start, _TRIALS.datetime_complete)
        followed.note(found)
        self._followed = followed
        times = [(row.datetime_start, row.datetime_complete) for row in found]
        begun = [(start, end) for start, end in times if start is not None]
        self._ended += sum(_seconds(start, end) for start, end in begun if end is not None)
        end = now.astimezone(UTC).replace(tzinfo=None)
        running = [_seconds(start, end) for start, ended in begun if ended is None]
        return self._ended + sum(running), len(running)


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)


@dataclass
class Rows:
    """A study's trials as they change, with their user attributes.

    Attributes:
        storage: The storage.
        study: Its own number of the study.
        count: How many trials are known.
        noted: The study's own user attributes.
    """

    storage: RDBStorage
    study: int
    count: int = 0
    noted: dict[str, Any] = field(default_factory=dict)
    _followed: Following | None = None
    _ids: dict[int, int] = field(default_factory=dict)

    def id(self, number: int) -> int:
        """The storage's own number of a trial."""
        if number not in self._ids:
            with reading(self.storage) as connection:
                query = select(_TRIALS.trial_id).where(_TRIALS.study_id == self.study)
                self._ids[number] = connection.execute(
                    query.where(_TRIALS.number == number)
                ).scalar_one()
        return self._ids[number]

    def all(self) -> list[tuple[int, TrialState, dict[str, Any]]]:
        """Number, state and user attributes of all trials, in their order."""
        self._followed = None
        return self.changed()

    def changed(self) -> list[tuple[int, TrialState, dict[str, Any]]]:
        """The same of those that are new or whose state is another than at the last call.

        What is noted of one that waits or runs counts once it runs or has ended.
        """
        followed = self._followed or Following(self.study)
        with reading(self.storage) as connection:
            rows = followed.read(connection, _TRIALS.number)
            moved = [row for row in rows if row.state != followed.unfinished.get(row.trial_id)]
            attributes = _attributes(connection, [row.trial_id for row in moved])
            query = select(_STUDIES.key, _STUDIES.value_json)
            noted = connection.execute(query.where(_STUDIES.study_id == self.study)).all()
        followed.note(rows)
        self._followed, self.noted = followed, {key: json.loads(text) for key, text in noted}
        self._ids |= {row.number: row.trial_id for row in rows}
        self.count = max([self.count, *(row.number + 1 for row in rows)])
        return [(row.number, row.state, attributes[row.trial_id]) for row in moved]


def _attributes(connection: Connection, trials: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The user attributes of trials."""
    found: dict[int, dict[str, Any]] = {trial: {} for trial in trials}
    query = select(_ATTRIBUTES.trial_id, _ATTRIBUTES.key, _ATTRIBUTES.value_json)
    for some in _portions(trials):
        for trial, key, text in connection.execute(query.where(_ATTRIBUTES.trial_id.in_(some))):
            found[trial][key] = _shared(text) if text.startswith("{") else json.loads(text)
    return found


#: Objects, of which many trials have the same, are held once.
_shared = functools.lru_cache(maxsize=256)(json.loads)


def _portions(trials: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(trials)
    for start in range(0, len(ordered), _PORTION):
        yield ordered[start : start + _PORTION]


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def claim(storage: RDBStorage, trial: int, attributes: Mapping[str, Any]) -> bool:
    """Make a trial that waits a running one, with a heartbeat; whether it waited.

    Args:
        storage: The storage.
        trial: Its own number of the trial.
        attributes: What is noted of it.
    """
    waits = (_TRIALS.trial_id == trial) & (_TRIALS.state == TrialState.WAITING)
    running = {"state": TrialState.RUNNING, "datetime_start": _now()}
    with storage.engine.begin() as connection:
        if not connection.execute(_table_update(waits, running)).rowcount:
            return False
        connection.execute(delete(models.TrialHeartbeatModel).where(_BEATS.trial_id == trial))
        connection.execute(insert(models.TrialHeartbeatModel), [{"trial_id": trial}])
        _put(connection, trial, attributes)
    return True


def end(
    storage: RDBStorage,
    trial: int,
    state: TrialState,
    values: Sequence[float] = (),
    attributes: Mapping[str, Any] | None = None,
) -> bool:
    """End a trial; whether it had not ended before.

    Args:
        storage: The storage.
        trial: Its own number of the trial.
        state: How it ends.
        values: The values of its objectives.
        attributes: What is noted of it.
    """
    live = (_TRIALS.trial_id == trial) & _TRIALS.state.in_((TrialState.WAITING, TrialState.RUNNING))
    with storage.engine.begin() as connection:
        ended = {"state": state, "datetime_complete": _now()}
        if not connection.execute(_table_update(live, ended)).rowcount:
            return False
        _put(connection, trial, attributes or {})
        kept = [models.TrialValueModel.value_to_stored_repr(value) for value in values]
        found = [
            {"trial_id": trial, "objective": index, "value": value, "value_type": kind}
            for index, (value, kind) in enumerate(kept)
        ]
        if found:
            connection.execute(insert(models.TrialValueModel), found)
    return True


def _table_update(which: ColumnElement[bool], values: Mapping[str, Any]) -> Any:  # noqa: ANN401  # untyped
    return update(models.TrialModel.__table__).where(which).values(**values)


def _put(connection: Connection, trial: int, attributes: Mapping[str, Any]) -> None:
    """Note something of a trial, in place of what was noted under the same names."""
    if attributes:
        same = (_ATTRIBUTES.trial_id == trial) & _ATTRIBUTES.key.in_(list(attributes))
        connection.execute(delete(models.TrialUserAttributeModel).where(same))
        connection.execute(
            insert(models.TrialUserAttributeModel), _attribute_rows(trial, attributes)
        )


def _attribute_rows(trial: int, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"trial_id": trial, "key": name, "value_json": json.dumps(value)}
        for name, value in attributes.items()
    ]


def silence(storage: RDBStorage, trials: Collection[int]) -> dict[int, float]:
    """Seconds since the last heartbeat of those trials that have one, on the database's clock."""
    found: dict[int, float] = {}
    if not trials:
        return found
    query = select(func.now(), _BEATS.trial_id, _BEATS.heartbeat)
    with reading(storage) as connection:
        for some in _portions(trials):
            for now, trial, beat in connection.execute(query.where(_BEATS.trial_id.in_(some))):
                found[trial] = (now.replace(tzinfo=None) - beat).total_seconds()
    return found


def add(storage: RDBStorage, study: int, trials: Sequence[FrozenTrial], after: int) -> bool:
    """Add trials, if none has been added since those that are known.

    Args:
        storage: The storage.
        study: Its number of the study.
        trials: The trials, with their parameters and attributes; one may not have ended yet.
        after: How many trials of the study are known.

    Returns:
        Whether they were added.
    """
    latest = (
        select(_TRIALS.number)
        .where(_TRIALS.study_id == study)
        .order_by(_TRIALS.trial_id.desc())
        .limit(1)
    )
    with Session(storage.engine) as session, session.begin():
        models.StudyModel.find_or_raise_by_id(study, session, for_update=True)
        last = session.execute(latest).scalar()
        if (-1 if last is None else last) + 1 != after:
            return False
        found = [
            models.TrialModel(study_id=study, number=after + index, state=trial.state)
            for index, trial in enumerate(trials)
        ]
        session.add_all(found)
        session.flush()  # which numbers the rows
        parameters: list[dict[str, Any]] = []
        attributes: list[dict[str, Any]] = []
        for row, trial in zip(found, trials, strict=True):
            parameters += _parameter_rows(int(row.trial_id), trial)
            attributes += _attribute_rows(int(row.trial_id), trial.user_attrs)
        if parameters:
            session.execute(insert(models.TrialParamModel), parameters)
        if attributes:
            session.execute(insert(models.TrialUserAttributeModel), attributes)
        return True


def _parameter_rows(number: int, trial: FrozenTrial) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": number,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]
