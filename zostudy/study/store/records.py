"""The folder of a study: results by the digest of what determines them, checkpoints, locks.

Layout::

    FOLDER/cache/PHASE/KEY/record.json          values, where they came from, digests of both files
    FOLDER/cache/PHASE/KEY/tensors.safetensors  absent where a record has no tensors
    FOLDER/checkpoints/PHASE/KEY.pt             state of an unfinished phase: a line of JSON (digest
                                                of the rest, where it came from), then torch's file
    FOLDER/locks/PHASE/KEY.lock                 held while the phase of this checkpoint is computed

A record appears whole or not at all, and never changes: a writer that finds one there already has
computed the same thing, and leaves it. The time of its folder is that of its last use.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import pickle
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from zostudy.errors import TrialError
from zostudy.study.disk import locks
from zostudy.study.disk.whole_files import sync

#: Where a result came from: ``study``, ``trial`` and ``mlflow_run_id``.
Origin = Mapping[str, str]

#: What reading a damaged file raises.
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A finished phase.

    Attributes:
        folder: Where it lies.
        values: Its JSON values.
        origin: Where it came from.
    """

    folder: Path
    values: dict[str, Any]
    origin: Origin

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, on the CPU."""
        path = self.folder / "tensors.safetensors"
        return safetensors.torch.load_file(path) if path.exists() else {}


@dataclass(frozen=True)
class FileCheckpoint:
    """The state of an unfinished phase, in one file.

    Attributes:
        path: The file.
        origin: Where the states that are saved come from.
    """

    path: Path
    origin: Origin = field(default_factory=dict)

    def load(self) -> dict[str, Any] | None:
        """The last state saved, tensors on the CPU; nothing if there is none or it is damaged."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            _log.warning("%s is damaged and starts anew (%s)", self.path, _first_line(error))
            return None

    def damage(self) -> str:
        """What is wrong with the file; empty if nothing is, or there is none."""
        try:
            self._read()
        except FileNotFoundError:
            return ""
        except _DAMAGE as error:
            return _first_line(error)
        return ""

    def _read(self) -> dict[str, Any]:
        with self.path.open("rb") as file:
            head = json.loads(file.readline())
            content = file.read()
        if hashlib.sha256(content).hexdigest() != head["sha256"]:
            raise ValueError("it is not what was saved")
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state

    def source(self) -> Origin:
        """Where the last state saved came from; empty if there is none or it is damaged."""
        try:
            with self.path.open("rb") as file:
                return dict(json.loads(file.readline())["origin"])
        except _DAMAGE:
            return {}

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state (tensors and plain values), replacing the last one whole.

        Raises:
            TrialError: The disk is full or cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with buffer.getbuffer() as content, _writing(self.path):
            head = {"sha256": hashlib.sha256(content).hexdigest(), "origin": dict(self.origin)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = _beside(self.path)
            try:
                _write(new, json.dumps(head).encode() + b"\n", content)
                new.replace(self.path)
                sync(self.path.parent)
            finally:
                new.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete it, once the phase's record is saved."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Store:
    """zostudy's own folder.

    Attributes:
        folder: The folder; made when something is written.
    """

    folder: Path

    def record(self, phase: str, key: str) -> Record | None:
        """The finished phase under this key; nothing if there is none or it is damaged."""
        folder = self._place("cache", phase, key)
        try:
            return _read(folder)
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            _log.warning("%s is damaged and computed anew (%s)", folder, _first_line(error))
            return None

    def damage(self, phase: str, key: str) -> str:
        """What is wrong with the record that lies under this key; empty if nothing is."""
        try:
            _read(self._place("cache", phase, key))
        except _DAMAGE as error:
            return _first_line(error)
        return ""

    def save(
        self,
        phase: str,
        key: str,
        values: dict[str, Any],
        tensors: Mapping[str, Tensor] = {},
        origin: Mapping[str, str] = {},
    ) -> None:
        """Keep a finished phase, whole or not at all.

        Args:
            phase: The phase's name.
            key: Digest of everything that determines the result.
            values: JSON values; no NaN.
            tensors: Tensors by name.
            origin: Where it came from.

        Raises:
            TrialError: The disk is full or cannot be written.
        """
        folder = self._place("cache", phase, key)
        with _writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            new = _beside(folder)
            try:
                new.mkdir()
                _fill(new, values, tensors, origin)
                if folder.exists() and self.record(phase, key) is None:
                    shutil.rmtree(folder)
                with contextlib.suppress(FileExistsError):
                    _rename_folder(new, folder)
                sync(folder.parent)
            finally:
                shutil.rmtree(new, ignore_errors=True)

    @contextlib.contextmanager
    def using(self, record: Record) -> Iterator[None]:
        """Keep a record from being cleared, and note its use, as far as the folder allows it."""
        with contextlib.ExitStack() as holding:
            with contextlib.suppress(OSError):  # it cannot be written, or is gone
                os.utime(record.folder)
                file = holding.enter_context((record.folder / "record.json").open("rb"))
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield

    def checkpoint(self, phase: str, key: str, origin: Mapping[str, str] = {}) -> FileCheckpoint:
        """Where the unfinished phase under this key keeps its state."""
        return FileCheckpoint(self._place("checkpoints", phase, key).with_suffix(".pt"), origin)

    @contextlib.contextmanager
    def computing(self, phase: str, key: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Be the one process that computes the phase whose checkpoint is under this key.

        Args:
            phase: The phase's name.
            key: The key of its checkpoint.
            waiting: Called again and again while another process does, with its name.

        Raises:
            TrialError: The folder cannot be written.
        """
        with contextlib.ExitStack() as holding:
            path = self.lock_path(phase, key)
            with _writing(path):
                holding.enter_context(locks.held(path, waiting))
            yield

    def lock_path(self, phase: str, key: str) -> Path:
        """The lock of the phase whose checkpoint is under this key."""
        return self._place("locks", phase, key).with_suffix(".lock")

    def _place(self, part: str, phase: str, key: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{8,128}", key):
            raise ValueError(f"key {key!r} is no hexadecimal digest")
        return self.folder / part / _named(phase) / key


def _read(folder: Path) -> Record:
    content = json.loads((folder / "record.json").read_bytes())
    record = Record(folder, content["values"], content["origin"])
    if content["digest"] != _values_digest(record.values, record.origin):
        raise ValueError("its values are not those that were saved")
    if content["tensors"] != _tensors_digest(folder):
        raise ValueError("its tensors are not those that were saved")
    return record


def _named(name: str) -> str:
    """The name, if it is a plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is no plain name")
    return name


def _beside(path: Path) -> Path:
    """A name that nobody else uses, in the same folder."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _fill(
    folder: Path, values: dict[str, Any], tensors: Mapping[str, Tensor], origin: Origin
) -> None:
    if tensors:
        plain = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        _write(folder / "tensors.safetensors", safetensors.torch.save(plain))
    content = {
        "values": values,
        "origin": dict(origin),
        "digest": _values_digest(values, origin),
        "tensors": _tensors_digest(folder),
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    _write(folder / "record.json", text.encode())
    sync(folder)


def _rename_folder(new: Path, folder: Path) -> None:
    """Rename; FileExistsError where another writer was first.

    Raises:
        FileExistsError: There is such a folder already.
    """
    try:
        new.rename(folder)
    except OSError as error:
        if folder.exists():
            raise FileExistsError(folder) from error
        raise


def _values_digest(values: Any, origin: Any) -> str:  # noqa: ANN401  # whatever JSON holds
    text = json.dumps([values, dict(origin)], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _tensors_digest(folder: Path) -> str:
    path = folder / "tensors.safetensors"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, *parts: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrialError(f"{path}: cannot be written ({error.strerror or error})") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
