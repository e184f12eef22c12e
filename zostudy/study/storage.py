"""The Optuna storage of a study: opened, made, and compared with the study file."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from zostudy.config.loading import StudyFile, canonical, flat, to_document
from zostudy.config.settings import StudyConfig
from zostudy.config.sweep import RangeSettings
from zostudy.errors import ConfigError, ZostudyError
from zostudy.redaction import redacted, without_password, without_passwords
from zostudy.study import proposals


def _sweep_identity(file: StudyFile) -> dict[str, Any]:
    """What must not change while a study goes on, by path."""
    config = file.config
    sampled = config.sweep.sampler.name == "tpe"
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


def _reason(error: Exception) -> str:
    return redacted(str(error.__cause__ or error).split("\n")[0])


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
def stored(config: StudyConfig) -> Iterator[optuna.Study | None]:
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
def created(file: StudyFile) -> Iterator[optuna.Study]:
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
            sampler=proposals.sampler(config, 0),
            load_if_exists=True,
        )
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr("sweep", json.dumps(_sweep_identity(file)))
        check_same_sweep(study, file)
        yield study
