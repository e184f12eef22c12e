"""The Optuna storage of a study: opened, made, and compared with the study file."""

import contextlib
import functools
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from zostudy.config.loading import StudyFile, canonical, flat, to_document
from zostudy.config.settings import StudyConfig
from zostudy.config.sweep import RangeSettings
from zostudy.errors import ConfigError, ZostudyError
from zostudy.redaction import redacted, without_password, without_passwords
from zostudy.study.disk import sqlite
from zostudy.study.sweep import proposals
from zostudy.study.sweep.rows import READING


def _sweep_identity(file: StudyFile) -> dict[str, Any]:
    """What must not change while a study goes on, by path."""
    config = file.config
    sampled = config.sweep.sampler.samples
    swept: dict[str, Any] = {}
    for path, values in config.sweep.parameters.items():
        distribution = proposals.distribution(values, grid=not sampled)
        document: Any = to_document(values) if isinstance(values, RangeSettings) else list(values)
        if not sampled and not isinstance(distribution, CategoricalDistribution):
            document = "numbers" if isinstance(distribution, FloatDistribution) else "whole numbers"
        swept[f"sweep.parameters.{path}"] = document
    identity = swept | {
        "sweep.sampler.name": config.sweep.sampler.name,
        "sweep.objectives": [to_document(o) for o in config.sweep.objectives],
    }
    identity |= flat(canonical(config)) if sampled else {}
    return {path: without_passwords(value) for path, value in identity.items()}


def check_same_sweep(study: optuna.Study, file: StudyFile) -> None:
    """Whether the study in storage was begun with this sweep.

    Raises:
        ConfigError: It was begun with another.
    """
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
            f"storage.optuna: {without_password(config.storage.optuna)!r} is no SQLAlchemy URL, "
            "such as sqlite:///optuna.db"
        ) from error


def _meaning(error: Exception) -> str:
    return sqlite.meaning(error.__cause__ or error)


def _reason(error: Exception) -> str:
    return _meaning(error) or redacted(str(error.__cause__ or error).split("\n")[0])


def _sqlite_file(config: StudyConfig) -> Path | None:
    url = _url(config)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


@dataclass(frozen=True)
class Stored:
    """A study in its storage.

    Attributes:
        study: The study.
        storage: The storage.
        cache: The storage as the study reads it: of trials that have ended, each only once.
    """

    study: optuna.Study
    storage: RDBStorage
    cache: BaseStorage

    @functools.cached_property
    def number(self) -> int:
        """The storage's own number of the study."""
        return self.storage.get_study_id_from_name(self.study.study_name)


#: Seconds that a writer waits for another one to end, where a file is the database.
_BUSY_SECONDS = 60

#: Processes that make a new database at the same moment are in each other's way, for a moment.
_OPENING_ATTEMPTS = 10


class _Storage(RDBStorage):
    """Optuna's storage, which leaves no connection open where it cannot be opened itself."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401  # Optuna's own
        try:
            super().__init__(url, **options)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise


@contextlib.contextmanager
def _storage(config: StudyConfig) -> Iterator[RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # its heartbeats
    storage = _opened(config)
    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        kind = ConfigError if _meaning(error) else ZostudyError  # a file that is refused, or else
        raise kind(f"storage.optuna: {_url(config)}: {_reason(error)}") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _opened(config: StudyConfig) -> RDBStorage:
    url = _url(config)
    sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if sqlite:
        arguments = {"connect_args": {"timeout": _BUSY_SECONDS}}
    if url.get_backend_name() in {"mysql", "mariadb"}:  # else claims may block each other
        arguments["isolation_level"] = "READ COMMITTED"
    interval = config.sweep.heartbeat_interval
    for attempt in range(1, _OPENING_ATTEMPTS + 1):
        try:
            return _Storage(
                config.storage.optuna,
                engine_kwargs=arguments,
                heartbeat_interval=interval,
                grace_period=2 * interval - 1,
            )
        except (SQLAlchemyError, ImportError, ValueError) as error:
            made = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made or attempt == _OPENING_ATTEMPTS:
                where = f"storage.optuna: {url}"
                raise ConfigError(f"{where} cannot be opened ({_reason(error)})") from error
            time.sleep(0.1 * attempt)
    raise AssertionError("the loop returns or raises")


def _one_writer(storage: RDBStorage) -> None:
    """Make each transaction on a SQLite file wait for the one before, unless it only reads.

    Otherwise two processes that read the same waiting trial would both begin to run it.
    """

    def begins_nothing_by_itself(connection: Any, _: object) -> None:  # noqa: ANN401  # of sqlite3
        connection.isolation_level = None

    def begins_as_writer(connection: Connection) -> None:
        reads = connection.get_execution_options().get(READING)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    storage.engine.dispose()  # what connections there are know nothing of this
    event.listen(storage.engine, "connect", begins_nothing_by_itself)
    event.listen(storage.engine, "begin", begins_as_writer)


@contextlib.contextmanager
def stored(config: StudyConfig) -> Iterator[Stored | None]:
    """The study in storage, if there is one."""
    path = _sqlite_file(config)
    if path is not None and not path.exists():
        yield None
        return
    with _storage(config) as storage:
        if config.study in optuna.get_all_study_names(storage):
            cache = get_storage(storage)
            study = optuna.load_study(study_name=config.study, storage=cache)
            yield Stored(study, storage, cache)
        else:
            yield None


@contextlib.contextmanager
def created(file: StudyFile) -> Iterator[Stored]:
    """The study in storage, made if it is not there."""
    config = file.config
    path = _sqlite_file(config)
    if path is not None:
        with contextlib.suppress(OSError):  # opening the storage says what is wrong
            path.parent.mkdir(parents=True, exist_ok=True)
    with _storage(config) as storage:
        if path is not None:
            _one_writer(storage)
        cache = get_storage(storage)
        study = optuna.create_study(
            storage=cache,
            study_name=config.study,
            directions=[o.direction for o in config.sweep.objectives] or ["maximize"],
            sampler=proposals.sampler(config, 0),
            load_if_exists=True,
        )
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr("sweep", json.dumps(_sweep_identity(file)))
        check_same_sweep(study, file)
        yield Stored(study, storage, cache)
