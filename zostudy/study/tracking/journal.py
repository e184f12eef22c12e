"""What is to be tracked, on this machine's disk until MLflow has it.

A trial writes a journal: a folder with a line of JSON for each event, and the artifacts beside
them. Whoever can reach MLflow delivers journals, while they are written or later (see
:mod:`zostudy.study.delivery.background`), and deletes those that are delivered to the end. ::

    FOLDER/journal/EXPERIMENT/NAME/events.jsonl     locked by the process that writes it
    FOLDER/journal/EXPERIMENT/NAME/files/N/…        artifacts, written before their event
    FOLDER/journal/EXPERIMENT/NAME/delivered.json   how far it is delivered
    FOLDER/journal/EXPERIMENT/NAME/delivery.lock    locked by the process that delivers it
    FOLDER/journal/EXPERIMENT/runs.jsonl            journal's id → MLflow's id, a line a run

Names begin with the time, so that they sort. An event is a line written at once; a last line
without an end is that of a process that was killed, and counts as never written. The system
releases locks when a process ends, whatever the way: a journal without a writer that has runs
without an end is that of a dead process.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zostudy.errors import TrialError
from zostudy.study.disk.whole_files import write_whole

Event = dict[str, Any]

_SQLITE = "sqlite:///"
_EVENTS, _STATE, _LOCK, _RUNS = "events.jsonl", "delivered.json", "delivery.lock", "runs.jsonl"

#: What events tell beside the run that they are of.
_CONTENT = {
    "run": ("parent", "cached", "name", "key", "time", "params", "tags"),
    "log": (),
    "file": ("path", "folder"),
    "input": ("name", "digest", "context", "source"),
    "end": ("status", "time"),
}


def now() -> int:
    """The time as MLflow counts it: milliseconds since 1970."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Journals:
    """The journals of one experiment in one MLflow store.

    Attributes:
        root: The study's own folder.
        experiment: Name of the experiment.
        uri: Where they are to be delivered, without its password.
    """

    root: Path
    experiment: str
    uri: str

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.root / "journal" / re.sub(r"[^A-Za-z0-9_-]", "_", self.experiment)

    def begin(self, key: str) -> "Writer":
        """A new journal, for the trial of this key."""
        header = {"experiment": self.experiment, "uri": self._lasting(self.uri)}
        return Writer(self.folder, header | {"key": key, "time": now()})

    def pending(self) -> list["Journal"]:
        """Journals that are not delivered to the end, or still written; the oldest first."""
        return [journal for journal in self._found() if self._is_meant(journal.header)]

    def elsewhere(self) -> list["Journal"]:
        """Journals of the experiment that are to be delivered to another store."""
        headers = [(journal, journal.header) for journal in self._found()]
        others = [j for j, header in headers if "uri" in header and not self._is_here(header)]
        return [journal for journal in others if journal.names()]

    def _found(self) -> list["Journal"]:
        return [Journal(path.parent) for path in sorted(self.folder.glob(f"[0-9]*/{_EVENTS}"))]

    def _is_meant(self, header: Event) -> bool:
        return header.get("experiment") == self.experiment and self._is_here(header)

    def _is_here(self, header: Event) -> bool:
        """Whether a journal is for this store, or for its file before its folder was moved."""
        given, own = str(header.get("uri", "")), self.uri
        if self._lasting(given) == self._lasting(own):
            return True
        old, new = (_file_of(uri) for uri in (given, own))
        return old is not None and new is not None and old.name == new.name and not old.exists()

    def _lasting(self, uri: str) -> str:
        """A URI that stays right when the folder is moved with a SQLite file in it."""
        path, folder = _file_of(uri), self.root.absolute().parent
        if path is None or "?" in uri or not path.absolute().is_relative_to(folder):
            return uri
        return f"{_SQLITE}{path.absolute().relative_to(folder)}"

    def remember(self, ids: Mapping[str, str]) -> None:
        """Keep the ids that MLflow gave to runs."""
        lines = "".join(json.dumps({own: given}) + "\n" for own, given in ids.items())
        with (self.folder / _RUNS).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(lines.encode())


def _file_of(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def known_runs(root: Path) -> dict[str, str]:
    """MLflow's ids of the runs that were delivered from a study's own folder, by journals' ids."""
    known: dict[str, str] = {}
    for path in (root / "journal").glob(f"*/{_RUNS}"):
        for line in _whole_lines(path.read_bytes()):
            known |= line
    return known


class Writer:
    """A journal that is being written; see :meth:`Journals.begin`.

    Args:
        folder: The folder of the experiment's journals.
        header: The first line.

    Raises:
        TrialError: The disk is full or cannot be written.
    """

    def __init__(self, folder: Path, header: Mapping[str, object]) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        self.folder = folder / name
        self._files = 0
        with self._writing():
            new = folder / f".{name}"
            new.mkdir(parents=True)
            self._stream = (new / _EVENTS).open("xb", buffering=0)
            fcntl.flock(self._stream, fcntl.LOCK_EX)
            self.append(header)
            new.rename(self.folder)

    def append(self, event: Mapping[str, object]) -> None:
        """Write an event, in one piece."""
        with self._writing():
            self._stream.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")

    def place(self, name: str) -> Path:
        """Where to write an artifact of this name, before the event that tells of it."""
        self._files += 1
        path = self.folder / "files" / str(self._files) / name
        with self._writing():
            path.parent.mkdir(parents=True)
        return path

    def close(self) -> None:
        """End it: all is on the disk, and others know that nothing will follow."""
        with self._writing(), self._stream:
            os.fsync(self._stream.fileno())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrialError(
                f"{self.folder}: cannot be written ({error.strerror or error})"
            ) from error


@dataclass
class DeliveredRun:
    """What is known of a run that a journal tells of.

    Attributes:
        id: MLflow's id; empty while it has none, and where it is left as it is.
        params: Names of the parameters that it had when it was taken up again.
        again: Whether it had figures before this journal's, so that some may come twice.
        late: Whether a later attempt of the same run was delivered before.
    """

    id: str
    params: list[str] = field(default_factory=list)
    again: bool = False
    late: bool = False


@dataclass
class Delivered:
    """How far a journal is delivered.

    Attributes:
        offset: Bytes of its events.
        runs: Its runs by the journal's ids.
        open: Of those, the ones whose end is not delivered.
        refused: Why MLflow does not take what follows; empty while it does.
    """

    offset: int = 0
    runs: dict[str, DeliveredRun] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    refused: str = ""


@dataclass(frozen=True)
class Journal:
    """A journal as its readers see it.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @property
    def header(self) -> Event:
        """Its first line: ``experiment``, ``uri``, ``key``, ``time``; empty where it is gone."""
        events, _ = self._read(0, 1)
        return events[0] if events else {}

    def events(self, offset: int, limit: int) -> tuple[list[Event], int]:
        """At most so many events from an offset on, and the offset after them."""
        events, end = self._read(offset, limit + 1)
        return [event for event in events if _is_event(event)], end

    def _read(self, offset: int, limit: int) -> tuple[list[Event], int]:
        try:
            with (self.folder / _EVENTS).open("rb") as file:
                file.seek(offset)
                lines = [line for line in (file.readline() for _ in range(limit)) if line]
        except FileNotFoundError:
            return [], offset
        content = b"".join(lines)
        return list(_whole_lines(content)), offset + content.rfind(b"\n") + 1

    def names(self) -> list[str]:
        """The names of its trials' runs."""
        events, _ = self.events(0, 100)
        return [e["name"] for e in events if e["event"] == "run" and not e["parent"]]

    @contextlib.contextmanager
    def claimed(self) -> Iterator[bool]:
        """Whether this process delivers it now, and nobody else."""
        try:
            lock = (self.folder / _LOCK).open("ab")
        except FileNotFoundError:
            yield False
            return
        with lock:
            mine = _locked(lock.fileno(), fcntl.LOCK_EX) and (self.folder / _EVENTS).exists()
            yield mine

    def written(self) -> bool:
        """Whether its writer is alive."""
        with contextlib.suppress(FileNotFoundError), (self.folder / _EVENTS).open("rb") as file:
            return not _locked(file.fileno(), fcntl.LOCK_SH)
        return False

    def state(self) -> Delivered:
        """How far it is delivered."""
        try:
            held = json.loads((self.folder / _STATE).read_bytes())
            runs = {own: DeliveredRun(**run) for own, run in held.pop("runs").items()}
            return Delivered(runs=runs, **held)
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return (
                Delivered()
            )  # delivered again from its start: what MLflow has, it does not double

    def keep(self, state: Delivered) -> None:
        """Keep how far it is delivered."""
        write_whole(self.folder / _STATE, json.dumps(asdict(state)).encode())

    def restart(self) -> None:
        """Forget how far it is delivered, so that all of it is delivered again."""
        (self.folder / _STATE).unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete it, the events first: what is left of it then counts for nothing."""
        (self.folder / _EVENTS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def remains(folder: Path) -> list[Path]:
    """Folders of journals that were not begun or not deleted to the end."""
    return [
        path
        for path in folder.glob("journal/*/*")
        if path.is_dir() and (path.name.startswith(".") or not Journal(path).header)
    ]


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _whole_lines(content: bytes) -> Sequence[Event]:
    """The lines that have an end; what cannot be read in between (a torn page) is left out."""
    found = []
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def _is_event(line: Event) -> bool:
    """Whether a line is an event, with all that belongs to it."""
    needed = _CONTENT.get(line.get("event", ""))
    return needed is not None and all(name in line for name in ("run", *needed))
