"""Locks as files: one process at a time holds one, and the system releases it on any end.

The file of a lock names its holder, and goes when the lock is released. It may lie on a folder that
machines share, as far as that folder's file system carries ``flock`` from one to the other (Linux's
own and NFS do).
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

#: Seconds between two attempts at a lock that another process holds.
POLL_SECONDS = 0.2


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock, after the process that holds it now, if one does.

    Args:
        path: Its file.
        waiting: Called every `POLL_SECONDS` while another process holds it, with its name.

    Raises:
        OSError: The file cannot be written.
    """
    while (file := _acquired(path)) is None:
        waiting(_holder(path))
        time.sleep(POLL_SECONDS)
    with _releasing(file, path):
        yield


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Hold a lock if no other process does; gives whether it is held.

    Raises:
        OSError: The file cannot be written.
    """
    file = _acquired(path)
    if file is None:
        yield False
        return
    with _releasing(file, path):
        yield True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of this file, which is left as it is."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _acquired(path: Path) -> TextIO | None:
    """The file of the lock, which is held; nothing if another process holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if _is_at(file, path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                closing.pop_all()
                return file
            # Else its last holder took the file away between the two calls.


@contextlib.contextmanager
def _releasing(file: TextIO, path: Path) -> Iterator[None]:
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8") or "another process"
    return "another process"
