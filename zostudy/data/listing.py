"""Which files of a folder are pictures of which class, and which files are left out and why."""

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zostudy.errors import DataError
from zostudy.options import nearest

#: File name endings that make a file a picture; other files are left out. What a picture's format
#: is, its content says.
PICTURE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)

#: Folders that operating systems and servers leave behind.
_SYSTEM_FOLDERS = frozenset(
    {"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found"}
)


@dataclass(frozen=True)
class Listing:
    """The picture files of a folder.

    Attributes:
        files: Every file with the index of its class, those of the test part last.
        train: How many are not of the test part.
        classes: Names of the classes.
        ignored: How many files and folders were left out, by the reason.
        remarks: What a user may not expect of the classes' names.
    """

    files: tuple[tuple[Path, int], ...]
    train: int
    classes: tuple[str, ...]
    ignored: Mapping[str, int]
    remarks: tuple[str, ...]


def shown(path: Path) -> str:
    """A path on one line: what cannot be printed of it is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def list_pictures(root: Path) -> Listing:
    """The pictures in ``CLASS/*``, or in ``train/CLASS/*`` with or without ``test/CLASS/*``.

    Args:
        root: Folder of the class folders, or of ``train`` and ``test``.

    Raises:
        DataError: There are too few classes or pictures, or a folder cannot be read.
    """
    if not _is_folder(root):
        raise DataError(
            f"dataset.root: {shown(root)} is no folder; needs a folder of class folders"
        )
    left_out: Counter[str] = Counter()
    is_open = bool(_entries(root))
    has_parts = is_open and _is_folder(root / "train") and bool(_folders(root / "train", Counter()))
    found = _class_files(root / "train" if has_parts else root, left_out)
    test_files = _test_files(root, found, left_out) if has_parts else []
    if len(found) < 2:
        only = ", ".join(repr(name) for name in found) or "none"
        raise DataError(f"dataset.root: {shown(root)}: class folders: {only}; needs at least 2")
    for name, paths in found.items():
        if len(paths) < 2:
            raise DataError(
                f"dataset.root: {shown(paths[0].parent)}: class {name!r} has 1 picture; needs at "
                "least 2, or it cannot be split"
            )
    classes = tuple(found)
    train = [(path, label) for label, name in enumerate(classes) for path in found[name]]
    test = [(path, classes.index(name)) for path, name in test_files]
    remarks = tuple(_like_names(classes))
    ignored = {reason: count for reason, count in sorted(left_out.items()) if count}
    return Listing((*train, *test), len(train), classes, ignored, remarks)


def _entries(place: Path) -> list[Path]:
    """What a folder holds, by name.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(place.iterdir())
    except OSError as error:
        raise DataError(
            f"dataset.root: the folder {shown(place)} cannot be read ({error.strerror})"
        ) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # a link to itself, or a folder on the way that is closed
        raise DataError(f"dataset.root: {shown(path)} cannot be read ({error.strerror})") from error


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _SYSTEM_FOLDERS


def _folders(place: Path, left_out: Counter[str]) -> list[Path]:
    """The visible folders in a place, by name; what else is there is left out."""
    entries = _entries(place)
    left_out["hidden"] += sum(_is_hidden(path) for path in entries)
    seen = [path for path in entries if not _is_hidden(path)]
    folders = [path for path in seen if _is_folder(path)]
    left_out["outside the class folders"] += len(seen) - len(folders)
    return folders


def _class_files(place: Path, left_out: Counter[str]) -> dict[str, list[Path]]:
    """For each class folder in a place, its pictures."""
    found = {}
    for folder in _folders(place, left_out):
        _check_name(folder)
        others: Counter[str] = Counter()
        files = []
        for path in _entries(folder):
            reason, count = _left_out(path)
            others[reason] += count
            if not count:
                files.append(path)
        if not files:
            held = f" but {_listed(others)}" if _listed(others) else ""
            raise DataError(
                f"dataset.root: {shown(folder)} holds no pictures{held}; "
                f"allowed: {', '.join(PICTURE_SUFFIXES)}"
            )
        found[folder.name] = files
        left_out.update(others)
    return found


def _left_out(path: Path) -> tuple[str, int]:
    """Why what a class folder holds is no picture of the class, and how many files that are."""
    if _is_hidden(path):
        return "hidden", 1
    if _is_folder(path):
        return "in nested folders", max(1, sum(len(files) for _, _, files in os.walk(path)))
    suffix = path.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        return (shown(Path(suffix)) if suffix else "without a suffix"), 1
    return "", 0


def _check_name(folder: Path) -> None:
    """Whether a class has a name that reports and files can hold.

    Raises:
        DataError: It has not.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in folder.name):
        raise DataError(
            f"dataset.root: {shown(folder)} is a class folder whose name has control characters or "
            "is not in UTF-8; allowed: names of printable characters"
        )


def _test_files(
    root: Path, train: Mapping[str, list[Path]], left_out: Counter[str]
) -> list[tuple[Path, str]]:
    """The pictures of the test part with their classes; none where there is no such folder."""
    others = [f.name for f in _folders(root, left_out) if f.name not in ("train", "test")]
    if others:
        raise DataError(
            f"dataset.root: {shown(root)} holds {others[0]!r} beside 'train'; "
            "allowed beside it: 'test'"
        )
    if not _is_folder(root / "test"):
        return []
    found = _class_files(root / "test", left_out)
    if not found:
        raise DataError(f"dataset.root: {shown(root / 'test')} holds no class folders")
    for name in found:
        if name not in train:
            hint = nearest(name, train) or f"; known: {', '.join(train)}"
            raise DataError(
                f"dataset.root: {shown(root / 'test' / name)} has no class in 'train'{hint}"
            )
    return [(path, name) for name, paths in found.items() for path in paths]


def _like_names(classes: tuple[str, ...]) -> list[str]:
    """A remark for classes whose names other file systems would take for one."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    return [
        f"the classes {' and '.join(map(repr, names))} differ by case or by the way their letters "
        "are encoded alone, and are read as different classes"
        for names in alike.values()
        if len(names) > 1
    ]


def _listed(ignored: Mapping[str, int]) -> str:
    """How many files were left out for which reason, as a part of a sentence."""
    return ", ".join(f"{count} {reason}" for reason, count in ignored.items() if count)
