"""The doctor's look at the study's own folder: what is damaged, and what dead processes left."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zostudy.study.disk import locks
from zostudy.study.doctor.finding import Finding
from zostudy.study.store.records import Store
from zostudy.study.tracking.journal import remains

#: Seconds without a change after which a temporary file is not being written any more.
_WRITING_SECONDS = 60.0


def findings(store: Store) -> Iterator[Finding]:
    """What is wrong in a study's own folder.

    Args:
        store: The folder.
    """
    yield from _cache(store)
    yield from _checkpoints(store)
    yield from _leftovers(store)
    yield from _locks(store)


def _cache(store: Store) -> Iterator[Finding]:
    for folder in _visible(store.folder / "cache"):
        damage = store.damage(folder.parent.name, folder.name)
        if damage:
            yield Finding(
                "cache",
                f"{folder} is damaged ({damage})",
                "takes it away; it is computed again when it is needed",
                _removing(folder),
            )


def _checkpoints(store: Store) -> Iterator[Finding]:
    for path in _visible(store.folder / "checkpoints"):
        phase, key = path.parent.name, path.stem
        if locks.is_held(store.lock_path(phase, key)):
            continue  # it is being written
        damage = store.checkpoint(phase, key).damage()
        finished = (store.folder / "cache" / phase / key).exists()
        if damage:
            yield Finding(
                "checkpoint",
                f"{path} cannot be read ({damage})",
                "takes it away; its phase starts anew",
                _removing(path),
            )
        elif finished and not store.damage(phase, key):
            yield Finding(
                "checkpoint", f"{path} is of a finished phase", "takes it away", _removing(path)
            )


def _leftovers(store: Store) -> Iterator[Finding]:
    latest = time.time() - _WRITING_SECONDS
    hidden = [
        path
        for part in ("cache", "checkpoints", "journal")
        for path in (store.folder / part).glob("*/.*")
    ]
    hidden += (store.folder / "machine").glob(".*")
    for path in sorted({*hidden, *remains(store.folder)}):
        if _last_change(path) < latest:
            yield Finding(
                "file", f"{path} is what a writer left that was killed", "takes it away",
                _removing(path),
            )  # fmt: skip


def _locks(store: Store) -> Iterator[Finding]:
    for path in sorted((store.folder / "locks").glob("*/*.lock")):
        if not locks.is_held(path):
            yield Finding(
                "lock", f"{path} was left by a process that is gone", "takes it away",
                _unlocking(path),
            )  # fmt: skip


def _visible(folder: Path) -> list[Path]:
    """What has a key for its name."""
    return sorted(p for p in folder.glob("*/*") if re.fullmatch(r"[0-9a-f]{8,128}", p.stem))


def _last_change(path: Path) -> float:
    try:
        return max(inside.stat().st_mtime for inside in (path, *path.rglob("*")))
    except FileNotFoundError:  # its writer has just finished
        return time.time()


def _removing(path: Path) -> Callable[[], str]:
    def remove() -> str:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return ""

    return remove


def _unlocking(path: Path) -> Callable[[], str]:
    def unlock() -> str:
        with locks.attempt(path):  # which takes it away at its end
            return ""

    return unlock
