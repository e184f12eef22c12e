"""Where the artifacts of a store in a SQLite file lie: beside it, wherever its folder is now.

MLflow keeps the place of every experiment's and run's artifacts as an absolute path, makes a
relative one absolute, and has no call that changes it. After ``mv`` everything would be written to
where the folder was, and after ``cp -r`` into the original. So the paths are put right in the
database itself, which is the only reason for SQL here.

A location as MLflow records it is a path in which ``%`` is written ``%25``, or a ``file:`` URI.
"""

import contextlib
import logging
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sqlalchemy.engine import make_url

from zostudy.errors import ConfigError
from zostudy.redaction import without_password
from zostudy.study.disk import sqlite

_log = logging.getLogger(__name__)

#: Folder of all artifacts, as in MLflow's default store.
_FOLDER = "mlruns"

#: Columns that hold locations.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
_BUSY_SECONDS = 60


def database(uri: str) -> Path | None:
    """The SQLite file of a tracking URI by its full path; nothing where there is none."""
    if not uri.startswith("sqlite:///"):
        return None
    url = make_url(uri)
    if not url.database or url.database == ":memory:" or "uri" in url.query:
        return None
    return Path(url.database).absolute()


def absolute(uri: str) -> str:
    """A tracking URI with the full path of its SQLite file, if it has one.

    MLflow keeps one connection for each URI, so that a relative path would go on to mean the file
    of the working directory in which it was first used. The characters ``%`` and ``?``, which may
    be in the name of that directory, are written as URIs write them; others are left, as MLflow
    takes them literally.
    """
    path = database(uri)
    if path is None:
        return uri
    query = uri.partition("?")[1:]
    return f"sqlite:///{_recorded(path).replace('?', '%3F')}{''.join(query)}"


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where an experiment's artifacts belong: beside a SQLite file; else it is MLflow's choice."""
    path = database(uri)
    return None if path is None else _recorded(_beside(path) / _folder_of(experiment))


@dataclass(frozen=True)
class Move:
    """A store whose folder was moved or copied since it recorded where its artifacts lie.

    Attributes:
        path: Its SQLite file.
        experiment: Name of the experiment that was asked for.
        old: The folders of artifacts that are recorded.
        new: The one beside the file.
    """

    path: Path
    experiment: str
    old: tuple[str, ...]
    new: Path

    def __str__(self) -> str:
        places = " and ".join(map(_path, self.old))
        return f"MLflow's store has its artifacts in {places}, and its folder is {self.new.parent}"

    def concerns(self, location: str) -> bool:
        """Whether a recorded location is one of before."""
        return any(location.startswith(f"{old}/") for old in self.old)

    def settle(self) -> None:
        """Record where the artifacts are now; everything in the old place is left as it is.

        Artifacts of finished runs that are in the old place only are copied.

        Raises:
            ConfigError: The database, or the folder, cannot be written.
        """
        with _connected(self.path, "rw") as connection:
            connection.execute("BEGIN IMMEDIATE")
            for old in _moved_from(connection, self.experiment, self.new):
                self._fetch(connection, old)
                new = self.new.as_uri() if old.startswith("file:") else _recorded(self.new)
                for table, column in _COLUMNS:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, len(old) + 1, f"{old}/"),
                    )
            connection.execute("COMMIT")
        _log.warning("tracking: %s; it is corrected", self)

    def _fetch(self, connection: sqlite3.Connection, old: str) -> None:
        """Copy the folders of finished runs that are in the old place and not here."""
        query = "SELECT artifact_uri FROM runs WHERE status = 'FINISHED'"
        for (location,) in connection.execute(query):
            if not (location or "").startswith(f"{old}/"):
                continue
            source = Path(_path(location))
            target = self.new / source.relative_to(_path(old))
            if source.is_dir() and not target.exists():
                _copy(source, target)


def move(uri: str, experiment: str) -> Move | None:
    """How the folder of a store has moved, as the artifacts of an experiment tell; else nothing.

    Only what zostudy itself has placed beside a SQLite file tells it. An experiment that somebody
    else made, with artifacts anywhere, is left so.

    Args:
        uri: The tracking URI, resolved.
        experiment: Name of the experiment.

    Raises:
        ConfigError: The database cannot be read.
    """
    path = database(uri)
    if path is None or not path.exists():
        return None
    new = _beside(path)
    with _connected(path, "ro") as connection:
        old = _moved_from(connection, experiment, new)
    return Move(path, experiment, old, new) if old else None


def _moved_from(connection: sqlite3.Connection, experiment: str, new: Path) -> tuple[str, ...]:
    """The folders of artifacts, as recorded, of an experiment and its runs that are not there."""
    query = """
        SELECT artifact_location, '' FROM experiments WHERE name = ?1
        UNION SELECT runs.artifact_uri, '/' || runs.run_uuid || '/artifacts' FROM runs
        JOIN experiments USING (experiment_id) WHERE experiments.name = ?1
    """
    folder, found = f"/{_folder_of(experiment)}", set()
    for location, below in connection.execute(query, (experiment,)):
        tail = f"{folder}{below}"
        if (location or "").endswith(f"/{_FOLDER}{tail}"):
            found.add(location.removesuffix(tail))
    return tuple(sorted(old for old in found if _is_elsewhere(old, new)))


def _is_elsewhere(location: str, folder: Path) -> bool:
    """Whether a location is another folder than one, by whatever links it is reached."""
    if urlsplit(location).scheme not in ("", "file"):
        return False
    place = Path(_path(location))
    with contextlib.suppress(OSError):
        return place.resolve() != folder.resolve() and not place.samefile(folder)
    return True


@contextlib.contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(
            sqlite3.connect(
                f"file:{quote(str(path))}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
            )
        ) as connection:
            yield connection
    except (sqlite3.Error, OSError) as error:
        shown = without_password(f"sqlite:///{path}")
        raise ConfigError(
            f"tracking.uri: {shown!r}: where its artifacts lie cannot be read or corrected "
            f"({sqlite.meaning(error) or error})"
        ) from error


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, which appears whole."""
    half = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        shutil.copytree(source, half)
        half.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(half, ignore_errors=True)
        _log.warning("tracking: %s cannot be copied to %s (%s)", source, target, error)


def _beside(path: Path) -> Path:
    return path.resolve().parent / _FOLDER


def _folder_of(experiment: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", experiment)


def _recorded(path: Path) -> str:
    return str(path).replace("%", "%25")


def _path(location: str) -> str:
    return unquote(urlsplit(location).path if location.startswith("file:") else location)
