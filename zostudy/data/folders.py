"""Pictures of one's own, from a folder of class folders (see `zostudy.data.sources`)."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from zostudy.data.sources import Pictures, Source
from zostudy.errors import DataError
from zostudy.registry import dataset, nearest

Bytes = npt.NDArray[np.uint8]

#: File name endings that make a file a picture; others are ignored.
PICTURE_SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})

#: What Pillow raises on a damaged file, depending on format and place of the damage.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def outline_image_folder(*, root: str, resize: int, channels: str) -> Source:
    """The shape of a folder's pictures: one is decoded, and of the others the header is read.

    Raises:
        DataError: As `image_folder`, but for a damaged picture.
    """
    listed = _listed(Path(root).expanduser())
    paths = [path for path, _ in listed.files]
    first, _ = _decode(paths[0], resize, "L" if channels == "grey" else "RGB")
    if channels == "as_stored":
        with ThreadPoolExecutor() as pool:
            first = first[:1] if all(pool.map(_stored_grey, paths)) else first
    images = torch.empty((len(paths), *first.shape), dtype=torch.uint8, device="meta")
    return listed.source(images)


@dataset("image_folder", outline="outline_image_folder", files=("root",))
def image_folder(
    *,
    root: str,
    resize: Annotated[int, "[0, inf)"] = 0,
    channels: Literal["as_stored", "grey", "colour"] = "as_stored",
) -> Source:
    """Your own pictures: ``CLASS/*``, or ``train/CLASS/*`` with or without ``test/CLASS/*``.

    Hidden files and files that are no pictures are ignored; of animations the first frame is read.
    Classes and pictures are in the order of their names.

    Args:
        root: Folder of the class folders, or of ``train`` and ``test``.
        resize: Side in pixels: the largest centred square of each picture is scaled to it. 0 keeps
            the pictures as they are, which must then be of one size.
        channels: ``grey`` (1), ``colour`` (3), or ``as_stored``: 1 where every file is grey.

    Raises:
        DataError: There are too few classes or pictures, or a picture cannot be used.
    """
    listed = _listed(Path(root).expanduser())
    return listed.source(_decoded([path for path, _ in listed.files], resize, channels))


@dataclass(frozen=True)
class _Listed:
    """The picture files of a folder.

    Attributes:
        files: Every file with the index of its class, those of the test part last.
        train: How many are not of the test part.
        classes: Names of the classes.
    """

    files: list[tuple[Path, int]]
    train: int
    classes: tuple[str, ...]

    def source(self, images: UInt8[Tensor, "n channels height width"]) -> Source:
        """The files' pictures as a data set."""
        labels = torch.tensor([label for _, label in self.files])
        test = Pictures(images[self.train :], labels[self.train :])
        train = Pictures(images[: self.train], labels[: self.train])
        return Source(train, test if len(test) else None, self.classes)


def _listed(place: Path) -> _Listed:
    if not place.is_dir():
        raise DataError(f"dataset.root: {place} is no folder; needs a folder of class folders")
    has_parts = bool(_folders(place / "train"))
    found = _class_files(place / "train" if has_parts else place)
    test_files = _test_files(place, found) if has_parts else []
    if len(found) < 2:
        only = ", ".join(repr(name) for name in found) or "none"
        raise DataError(f"dataset.root: {place}: class folders: {only}; needs at least 2")
    for name, paths in found.items():
        if len(paths) < 2:
            raise DataError(
                f"dataset.root: {paths[0].parent}: class {name!r} has 1 picture; needs at least 2, "
                "or it cannot be split"
            )
    classes = tuple(found)
    train = [(path, label) for label, name in enumerate(classes) for path in found[name]]
    test = [(path, classes.index(name)) for path, name in test_files]
    return _Listed(train + test, len(train), classes)


def _folders(place: Path) -> list[Path]:
    """The visible folders in a place, by name; none where the place is no folder."""
    if not place.is_dir():
        return []
    return sorted(f for f in place.iterdir() if f.is_dir() and not f.name.startswith("."))


def _class_files(place: Path) -> dict[str, list[Path]]:
    """For each class folder in a place, its pictures."""
    found = {}
    for folder in _folders(place):
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
        )
        if not files:
            raise DataError(
                f"dataset.root: {folder} holds no pictures; allowed: {', '.join(PICTURE_SUFFIXES)}"
            )
        found[folder.name] = files
    return found


def _test_files(root: Path, train: Mapping[str, list[Path]]) -> list[tuple[Path, str]]:
    """The pictures of the test part with their classes; none where there is no such folder."""
    others = [f.name for f in _folders(root) if f.name not in ("train", "test")]
    if others:
        raise DataError(
            f"dataset.root: {root} holds {others[0]!r} beside 'train'; allowed beside it: 'test'"
        )
    if not (root / "test").is_dir():
        return []
    found = _class_files(root / "test")
    if not found:
        raise DataError(f"dataset.root: {root / 'test'} holds no class folders")
    for name in found:
        if name not in train:
            hint = nearest(name, train) or f"; known: {', '.join(train)}"
            raise DataError(f"dataset.root: {root / 'test' / name} has no class in 'train'{hint}")
    return [(path, name) for name, paths in found.items() for path in paths]


def _decoded(
    paths: list[Path], resize: int, channels: str
) -> UInt8[Tensor, "n channels height width"]:
    """Every picture, decoded by a pool of threads; all must come out in one size."""
    mode = "L" if channels == "grey" else "RGB"
    first, _ = _decode(paths[0], resize, mode)
    images = np.empty((len(paths), *first.shape), np.uint8)

    def place(index: int) -> bool:
        picture, grey = _decode(paths[index], resize, mode)
        if picture.shape != first.shape:
            (height, width), (other_height, other_width) = first.shape[1:], picture.shape[1:]
            raise DataError(
                f"dataset.root: {paths[index]} has {other_width}×{other_height} pixels, {paths[0]} "
                f"has {width}×{height}; set dataset.resize to bring all to one size"
            )
        images[index] = picture
        return grey

    with ThreadPoolExecutor() as pool:
        grey = list(pool.map(place, range(len(paths))))
    if channels == "as_stored" and all(grey):
        images = images[:, :1].copy()
    return torch.from_numpy(images)


def _decode(path: Path, resize: int, mode: str) -> tuple[Bytes, bool]:
    """One picture as channels × height × width, and whether it is stored in grey."""
    try:
        with Image.open(path) as opened:
            grey = opened.mode in _GREY_MODES
            if resize:  # a large JPEG is decoded at a fraction of its size, still twice the wanted
                opened.draft(None, (2 * resize, 2 * resize))
            picture = _eight_bits(ImageOps.exif_transpose(opened)).convert(mode)
        if resize:
            picture = ImageOps.fit(picture, (resize, resize))
    except _DECODING_ERRORS as error:
        raise DataError(f"dataset.root: {path} cannot be read as a picture ({error})") from error
    pixels = np.asarray(picture)
    return np.atleast_3d(pixels).transpose(2, 0, 1), grey


def _stored_grey(path: Path) -> bool:
    """Whether a picture's header says that it is grey."""
    try:
        with Image.open(path) as opened:
            return opened.mode in _GREY_MODES
    except _DECODING_ERRORS as error:
        raise DataError(f"dataset.root: {path} cannot be read as a picture ({error})") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {picture.mode!r} have no fixed range; allowed: 8, 16 bits"
        )
    # Pillow wants a palette's transparency resolved before it converts.
    return picture.convert("RGBA") if picture.mode == "P" else picture
