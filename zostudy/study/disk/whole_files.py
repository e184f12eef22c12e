"""Files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, and rename it when it is on the disk."""
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder of files beside a path, which takes its place once all of it is on the disk.

    What is there is replaced, and stays where that fails. Parents are made.

    Yields:
        The folder to fill.

    Raises:
        OSError: It cannot be made or written, or cannot take its place.
    """
    place = path.resolve()
    folder = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    folder.mkdir(parents=True)
    try:
        yield folder
        for written in (*folder.iterdir(), folder):
            sync(written)
        _take_place(folder, place)
        sync(place.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it is there only where something failed


def sync(path: Path) -> None:
    """Have the content of a file or a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_place(folder: Path, place: Path) -> None:
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        folder.replace(place)
        return
    old = folder.with_name(f"{folder.name}.old")
    place.replace(old)
    try:
        folder.replace(place)
    except OSError:
        old.replace(place)
        raise
    shutil.rmtree(old)
