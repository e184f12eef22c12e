"""The digest of a data set, known without reading its pictures again while its files stay.

A data set declares the fact ``files``: the options that name what it reads, each followed by the
part of that folder that it reads, if that is not all of it; at least one of them must be there.
Names, sizes and times of those files, the data set's settings and the source that reads it are the
key of a file in ``FOLDER/digests`` that holds the digest. A data set that declares no files is read
each time.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zostudy import registry
from zostudy.config.loading import digest
from zostudy.config.settings import DatasetSettings
from zostudy.errors import ZostudyError
from zostudy.study.disk.whole_files import write_whole
from zostudy.study.identity.source import engine_digest, extensions_digest

if TYPE_CHECKING:
    from zostudy.data.dataset import Dataset  # it imports torch

#: What an extension's data set may raise where its data is not as it should be.
_UNREADABLE = (ZostudyError, OSError, ValueError, RuntimeError, LookupError, ImportError)


def data_digest(settings: DatasetSettings, extensions: tuple[str, ...], folder: Path) -> str:
    """The digest of a data set and of the splits that trials share.

    Empty where the data set is not here or cannot be read.

    Args:
        settings: Which data set, and how it is split.
        extensions: Modules that may declare further data sets.
        folder: The study's own folder; digests are kept in it if it is there.
    """
    places = places_of(settings, extensions)
    if places and not any(path.exists() for path in places):
        return ""  # and reading it would fetch it
    if places is not None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            path = _path(settings, extensions, folder, places)
            return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    try:
        return loaded(settings, extensions, folder).digest
    except _UNREADABLE:
        return ""


def loaded(
    settings: DatasetSettings, extensions: tuple[str, ...], folder: Path, seed: int | None = None
) -> "Dataset":
    """Read a data set, and keep its digest.

    Args:
        settings: Which data set, and how it is split.
        extensions: Modules that may declare further data sets.
        folder: The study's own folder; digests are kept in it if it is there.
        seed: The seed of the trial that is to be run; without one, the split is the one that trials
            share.

    Raises:
        ConfigError: The data set or an option is unknown.
        DataError: The data set is missing, damaged or too small.
    """
    from zostudy.data.dataset import load

    places = places_of(settings, extensions)
    before = None if places is None else _path(settings, extensions, folder, places)
    dataset = load(settings, extensions, seed)
    if places is not None and folder.is_dir():
        path = _path(settings, extensions, folder, places)
        if path == before:  # else they changed meanwhile
            with contextlib.suppress(OSError):  # a full disk costs time alone
                path.parent.mkdir(exist_ok=True)
                write_whole(path, json.dumps({"digest": dataset.study_digest}).encode())
    return dataset


def places_of(settings: DatasetSettings, extensions: tuple[str, ...]) -> list[Path] | None:
    """The files and folders that a data set reads; nothing where it does not declare them.

    Args:
        settings: Which data set.
        extensions: Modules that may declare further data sets.
    """
    component = registry.find("dataset", settings.name, "dataset.name", extensions)
    declared = component.facts.get("files")
    if not isinstance(declared, tuple):
        return None
    options = registry.resolve_options(component, "dataset", settings.options)
    found = []
    for place in declared:
        option, _, part = str(place).partition("/")
        found.append(Path(str(options[option])).expanduser() / part)
    return found


def _path(
    settings: DatasetSettings, extensions: tuple[str, ...], folder: Path, places: list[Path]
) -> Path:
    """Where the digest is kept."""
    key = {
        "settings": settings.model_dump(mode="json"),
        "source": [engine_digest(), extensions_digest(extensions)],
        "files": [[str(place.resolve()), *_listed(place)] for place in places],
    }
    return folder / "digests" / f"{digest(key)}.json"


def _listed(place: Path) -> Iterator[list[str | int]]:
    """Name, size and times of a file, or of every file under a folder, in a fixed order."""
    seen: set[tuple[int, int]] = set()
    files = [place] if place.is_file() else []
    for parent, folders, names in os.walk(place, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        files += [Path(parent, name) for name in sorted(names)]
        yield [parent, len(names), 0, 0]
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a link to nowhere
            status = file.stat()
            yield [str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
