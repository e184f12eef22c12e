"""What zostudy's folder keeps, from where, how large and when last used; taking it away again.

A *result* is a finished phase, a *checkpoint* the state of one that is unfinished or that others go
on from, a *leftover* what a process that was killed while it wrote left behind. In use are the
results that a running trial has read, and the checkpoints of phases that are being computed.
"""

import contextlib
import fcntl
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from zostudy.study.disk import locks
from zostudy.study.store.records import FileCheckpoint, Origin, Store
from zostudy.study.tracking.journal import known_runs

#: Seconds after which what a writer left unnamed counts as left behind.
_WRITING_SECONDS = 3600.0


@dataclass(frozen=True)
class Entry:
    """One thing that is kept.

    Attributes:
        kind: ``result``, ``checkpoint`` or ``leftover``.
        phase: The phase.
        key: Its key, or that of its checkpoint.
        origin: Where it came from; empty where that is not known.
        bytes: Its size on the disk, in bytes.
        made: When it was written, in seconds since 1970.
        used: When it was last used.
        path: Its file or folder.
    """

    kind: Literal["result", "checkpoint", "leftover"]
    phase: str
    key: str
    origin: Origin
    bytes: int
    made: float
    used: float
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; times in ISO 8601."""
        return {
            "kind": self.kind,
            "phase": self.phase,
            "key": self.key,
            "study": self.origin.get("study"),
            "trial": self.origin.get("trial"),
            "mlflow_run_id": self.origin.get("mlflow_run_id"),
            "bytes": self.bytes,
            "made": _time(self.made),
            "used": _time(self.used),
        }


@dataclass(frozen=True)
class Selection:
    """Which entries are meant.

    Attributes:
        phase: The phase, or empty for all.
        study: The study that they come from, or empty for all.
        unused_seconds: The least time since their last use.
    """

    phase: str = ""
    study: str = ""
    unused_seconds: float = 0.0

    def of(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that are meant."""
        latest = time.time() - self.unused_seconds
        return [
            entry
            for entry in entries
            if (not self.phase or entry.phase == self.phase)
            and (not self.study or entry.origin.get("study") == self.study)
            and (not self.unused_seconds or entry.used <= latest)
        ]


def entries(store: Store) -> list[Entry]:
    """All that a store keeps, the least recently used first."""
    found, runs = [], known_runs(store.folder)
    for part in ("cache", "checkpoints"):
        for path in sorted((store.folder / part).glob("*/*")):
            with contextlib.suppress(FileNotFoundError):  # another process took it away
                entry = _entry(path, "result" if part == "cache" else "checkpoint")
                found += [_named(entry, runs)] if entry else []
    return sorted(found, key=lambda entry: entry.used)


def clear(
    store: Store, chosen: Sequence[Entry], *, dry_run: bool = False
) -> tuple[list[Entry], list[Entry]]:
    """Take entries away, but those in use.

    Args:
        store: The store.
        chosen: The entries.
        dry_run: Whether to say only what would be taken away.

    Returns:
        Those that are gone (or would be), and those in use.

    Raises:
        OSError: One cannot be taken away.
    """
    gone: list[Entry] = []
    used: list[Entry] = []
    for entry in chosen:
        with _unused(store, entry) as free:
            if free and not dry_run:
                _remove(entry.path)
        (gone if free else used).append(entry)
    return gone, used


def _named(entry: Entry, runs: Mapping[str, str]) -> Entry:
    """The entry with MLflow's id of the run that it is from, where it is known."""
    own = entry.origin.get("mlflow_run_id", "")
    if own not in runs:
        return entry
    return replace(entry, origin={**entry.origin, "mlflow_run_id": runs[own]})


def _entry(path: Path, kind: Literal["result", "checkpoint"]) -> Entry | None:
    """The entry of a file or folder; nothing for one that a process is writing."""
    phase, status = path.parent.name, path.stat()
    if path.name.startswith("."):
        if time.time() - status.st_mtime < _WRITING_SECONDS:
            return None
        key = path.name.split(".")[1]
        return Entry(
            "leftover", phase, key, {}, _size(path), status.st_mtime, status.st_mtime, path
        )
    if kind == "checkpoint":
        origin = FileCheckpoint(path).source()
        made = status.st_mtime
        return Entry(kind, phase, path.stem, origin, status.st_size, made, made, path)
    record = path / "record.json"
    made = record.stat().st_mtime if record.exists() else status.st_mtime
    return Entry(kind, phase, path.name, _origin(record), _size(path), made, status.st_mtime, path)


def _origin(record: Path) -> Origin:
    try:
        return dict(json.loads(record.read_bytes())["origin"])
    except (OSError, KeyError, TypeError, ValueError):
        return {}  # damaged: it is listed, and nothing uses it


def _size(path: Path) -> int:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextlib.contextmanager
def _unused(store: Store, entry: Entry) -> Iterator[bool]:
    """Keep an entry from being used meanwhile; gives whether it is not in use."""
    if entry.kind == "checkpoint":
        with locks.attempt(store.lock_path(entry.phase, entry.key)) as free:
            yield free
        return
    record = entry.path / "record.json"
    if not record.is_file():
        yield True
        return
    with record.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remove(path: Path) -> None:
    """Take a file away, or a folder at once: under its name it is whole or not there."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        gone = path.rename(path.with_name(f".{path.name.lstrip('.')}.{uuid.uuid4().hex}"))
        shutil.rmtree(gone)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
