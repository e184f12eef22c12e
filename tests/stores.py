"""MLflow's tables: made by its migrations once, and copied wherever a test needs them anew."""

import contextlib
import sqlite3
import sys
import threading

from sqlalchemy import Engine, inspect


class _Tables:
    """Makes the tables of an empty SQLite store as MLflow has made them the first time.

    Args:
        make: What makes them by migrations, which takes seconds.
    """

    def __init__(self, make) -> None:
        self._make = make
        self._made: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def __call__(self, engine: Engine) -> None:
        if engine.url.get_backend_name() != "sqlite" or inspect(engine).get_table_names():
            self._make(engine)
            return
        with self._lock:
            if self._made is None:
                self._make(engine)
                self._made = sqlite3.connect(":memory:", check_same_thread=False)
                self._copy(engine, lambda own: own.backup(self._made))
            else:
                self._copy(engine, self._made.backup)

    @staticmethod
    def _copy(engine: Engine, copy) -> None:
        with contextlib.closing(engine.raw_connection()) as connection:
            copy(connection.driver_connection)


def make_tables_once() -> None:
    """Let MLflow copy its tables from now on, if it has been imported."""
    utils = sys.modules.get("mlflow.store.db.utils")
    make = getattr(utils, "_initialize_tables", None)
    if make is not None and not isinstance(make, _Tables):
        utils._initialize_tables = _Tables(make)
