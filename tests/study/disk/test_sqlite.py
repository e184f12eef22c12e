"""Databases that are locked, closed, full or damaged: one line that says what to do."""

import contextlib
import sqlite3

import pytest

from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.delivery import location, mlflow_store
from zostudy.study.disk.sqlite import meaning
from zostudy.study.sweep import optuna_storage


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A small study whose storages lie in a folder of its own, and nobody waits for."""
    for module in (location, optuna_storage):
        monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    uri = f"sqlite:///{tmp_path}/%s.db"
    return from_document(
        {
            "study": "s",
            "storage": {"folder": str(tmp_path / "own"), "optuna": uri % "optuna"},
            "tracking": {"uri": uri % "mlflow"},
        }
    )


@contextlib.contextmanager
def locked(path):
    """Another writer, which does not end."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def test_a_locked_storage_says_so_and_what_to_do(file, tmp_path):
    with optuna_storage.created(file):
        pass
    with locked(tmp_path / "optuna.db"):
        for opened in (optuna_storage.created(file), optuna_storage.stored(file.config)):
            with pytest.raises(ConfigError, match=r"optuna\.db.*another process has it locked; w"):
                opened.__enter__()
    with optuna_storage.stored(file.config) as there:
        assert there.study.trials == []


def test_a_file_that_is_no_database_is_left_alone(file, tmp_path):
    for name in ("optuna", "mlflow"):
        (tmp_path / f"{name}.db").write_text("no database " * 99)
    with pytest.raises(ConfigError, match=r"optuna\.db.*it is no SQLite file; choose another"):
        optuna_storage.stored(file.config).__enter__()
    for ask in (mlflow_store.MlflowStore, location.move):
        with pytest.raises(ConfigError, match=r"mlflow\.db.*it is no SQLite file; choose another"):
            ask(file.config.tracking.uri, "s")
    assert (tmp_path / "mlflow.db").read_text() == "no database " * 99


def test_a_database_in_the_place_of_a_folder_is_named(file, tmp_path):
    (tmp_path / "optuna.db").mkdir()
    with pytest.raises(ConfigError, match=r"optuna\.db.*it cannot be opened or made; look at"):
        optuna_storage.stored(file.config).__enter__()


@pytest.mark.parametrize(
    ("mode", "said"), [("rw", "the disk is full; make room"), ("ro", "it may not be written; ")]
)
def test_what_sqlite_says_of_a_full_or_closed_database_is_known(tmp_path, mode, said):
    path = tmp_path / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (c)")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True)) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute("INSERT INTO t VALUES (?)", ("x" * 99_999,))
    assert meaning(caught.value).startswith(said)


def test_other_errors_are_none_of_sqlite():
    assert meaning(ValueError("database is locked")) == ""
