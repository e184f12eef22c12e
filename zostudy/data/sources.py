"""Where pictures come from: every data set as uint8 tensors in host memory.

A data set is a function that returns a :class:`Source`; its options are its keyword-only parameters
(see :mod:`zostudy.registry`). Nothing here is split, normalised or moved to a device. Nothing is
unpickled either: the CIFAR sets are read from their plain binary version.
"""

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor

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


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures in host memory.

    Attributes:
        images: Pixels, 0 to 255.
        labels: Index of each picture's class.
    """

    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Int64[Tensor, " m"]) -> "Pictures":
        """The pictures at these positions, copied."""
        return Pictures(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is stored.

    Attributes:
        train: Training pictures, or all pictures where there is no test part.
        test: The data set's own test part, if it has one.
        classes: Names of the classes, in the order of the labels.
    """

    train: Pictures
    test: Pictures | None
    classes: tuple[str, ...]


@dataset("digits")
def digits() -> Source:
    """1,797 scans of handwritten digits, 8×8 grey, embedded in scikit-learn; no own test part."""
    from sklearn.datasets import load_digits  # its import costs a second that others need not pay

    scans = load_digits()
    levels = np.rint(scans.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    images = torch.from_numpy(levels).unsqueeze(1)
    labels = torch.from_numpy(scans.target.astype(np.int64))
    return Source(Pictures(images, labels), None, tuple(str(name) for name in scans.target_names))


@dataclass(frozen=True)
class CifarLayout:
    """The files of a CIFAR set's binary version.

    Attributes:
        title: Its name in messages.
        url: Address of the archive.
        md5: The archive's MD5, as published beside it.
        folder: The archive's one folder.
        names: The file with the names of the classes, one a line.
        train: Training files and how many pictures each holds.
        test: Test files, likewise.
        label_bytes: Bytes before a picture's pixels; the last of them is the label.
    """

    title: str
    url: str
    md5: str
    folder: str
    names: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    label_bytes: int

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read."""
        return (self.names, *self.train, *self.test)


CIFAR10 = CifarLayout(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    names="batches.meta.txt",
    train={f"data_batch_{index}.bin": 10_000 for index in range(1, 6)},
    test={"test_batch.bin": 10_000},
    label_bytes=1,
)
CIFAR100 = CifarLayout(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    names="fine_label_names.txt",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    label_bytes=2,
)


@dataset("cifar10")
def cifar10(*, root: str = "data") -> Source:
    """CIFAR-10: 50,000 + 10,000 colour pictures, 32×32, 10 classes; downloaded on first use.

    Args:
        root: Folder of the archive ``cifar-10-binary.tar.gz`` or of its extracted folder.

    References:
        Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """
    return read_cifar(Path(root), CIFAR10)


@dataset("cifar100")
def cifar100(*, root: str = "data") -> Source:
    """CIFAR-100: 50,000 + 10,000 colour pictures, 32×32, 100 classes; downloaded on first use.

    Args:
        root: Folder of the archive ``cifar-100-binary.tar.gz`` or of its extracted folder.

    References:
        Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """
    return read_cifar(Path(root), CIFAR100)


def read_cifar(root: Path, layout: CifarLayout) -> Source:
    """A CIFAR set from its extracted folder in ``root``, or else its archive, fetched if missing.

    Raises:
        DataError: The files are neither there nor to be had, or are damaged.
    """
    root = root.expanduser()
    folder = root / layout.folder
    if all((folder / name).is_file() for name in layout.files):
        contents = {name: (folder / name).read_bytes() for name in layout.files}
        return _cifar_source(folder, contents, layout)
    archive = root / layout.archive
    if not archive.exists():
        _download(root, layout)
    return _cifar_source(archive, _archived(archive, layout), layout)


def _download(root: Path, layout: CifarLayout) -> None:
    """Fetch the archive into its place, whole and with the right checksum, or not at all."""
    try:
        with urllib.request.urlopen(layout.url, timeout=30) as response:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as folder:
                part = Path(folder) / layout.archive
                with part.open("wb") as file:
                    shutil.copyfileobj(response, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                _check_md5(part, layout)
                part.replace(root / layout.archive)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"dataset.root: {root} does not hold {layout.title}, and it could not be downloaded "
            f"({error}); needs {layout.archive} from {layout.url} in that folder, or the extracted "
            f"{layout.folder}/ with {', '.join(layout.files)}"
        ) from error


def _check_md5(archive: Path, layout: CifarLayout) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != layout.md5:
        raise DataError(
            f"dataset.root: {archive} has MD5 {found}; {layout.title} of {layout.url} has "
            f"{layout.md5}; remove the file to download it again"
        )


def _archived(archive: Path, layout: CifarLayout) -> dict[str, bytes]:
    _check_md5(archive, layout)
    contents = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            name = member.name.rsplit("/", 1)[-1]
            stream = opened.extractfile(member) if name in layout.files else None
            if stream is not None:
                contents[name] = stream.read()
    return contents


def _cifar_source(place: Path, contents: Mapping[str, bytes], layout: CifarLayout) -> Source:
    def part(files: Mapping[str, int]) -> Pictures:
        size = layout.label_bytes + 3 * 32 * 32
        for name, count in files.items():
            if len(contents[name]) != count * size:
                raise DataError(
                    f"dataset.root: {place / name} holds {len(contents[name])} bytes; "
                    f"{layout.title} has {count * size}"
                )
        raw = bytearray().join(contents[name] for name in files)
        records = torch.frombuffer(raw, dtype=torch.uint8).view(-1, size)
        images = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32)
        return Pictures(images, records[:, layout.label_bytes - 1].long())

    classes = tuple(contents[layout.names].decode("ascii").split())
    return Source(part(layout.train), part(layout.test), classes)


@dataset("image_folder")
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
    place = Path(root).expanduser()
    if not place.is_dir():
        raise DataError(f"dataset.root: {root} is no folder; needs a folder of class folders")
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
    train_files = [(path, label) for label, name in enumerate(classes) for path in found[name]]
    labelled = train_files + [(path, classes.index(name)) for path, name in test_files]
    images = _decoded([path for path, _ in labelled], resize, channels)
    labels = torch.tensor([label for _, label in labelled])
    count = len(train_files)
    test = Pictures(images[count:], labels[count:]) if test_files else None
    return Source(Pictures(images[:count], labels[:count]), test, classes)


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


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {picture.mode!r} have no fixed range; allowed: 8, 16 bits"
        )
    # Pillow wants a palette's transparency resolved before it converts.
    return picture.convert("RGBA") if picture.mode == "P" else picture
