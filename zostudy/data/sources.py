"""Where pictures come from: every data set as uint8 tensors in host memory.

A data set is a function that returns a :class:`Source`; its options are its keyword-only parameters
(see :mod:`zostudy.registry`). Its fact ``outline`` names a function beside it that takes the same
options and gives a Source of the same shapes and labels' counts whose pixels are on the ``meta``
device, so that a plan reads no pictures. Its fact ``files`` lists the options that name all that it
reads (``"root"``, or a part of it, ``"root/part"``), so that its digest is known without reading it
again while those files stay as they are. Nothing here is split, normalized or moved to a device.
Nothing is unpickled either: the CIFAR sets are read from their plain binary version.
"""

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from zostudy.errors import DataError
from zostudy.registry import dataset


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

    def outline(self) -> "Pictures":
        """The same labels, with pixels that have a shape and no values."""
        return Pictures(torch.empty_like(self.images, device="meta"), self.labels)


@dataclass(frozen=True)
class Reading:
    """How files became pictures.

    Attributes:
        ignored: How many files were left out, by the reason.
        remarks: Sentences on what a user may not expect.
        bits: Bits in use where pixels of a file have more than 8.
    """

    ignored: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    bits: int = 16


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is stored.

    Attributes:
        train: Training pictures, or all pictures where there is no test part.
        test: The data set's own test part, if it has one.
        classes: Names of the classes, in the order of the labels.
        reading: How its files became pictures, where they did.
    """

    train: Pictures
    test: Pictures | None
    classes: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)


@dataset("digits", files=())
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


def outline_cifar10(*, root: str) -> Source:  # noqa: ARG001  # the data set's options
    """CIFAR-10 without its pixels."""
    return _cifar_outline(CIFAR10, 10)


def outline_cifar100(*, root: str) -> Source:  # noqa: ARG001  # the data set's options
    """CIFAR-100 without its pixels."""
    return _cifar_outline(CIFAR100, 100)


def _cifar_outline(layout: CifarLayout, classes: int) -> Source:
    """Pictures without pixels, the same number of every class."""

    def part(files: Mapping[str, int]) -> Pictures:
        count = sum(files.values())
        images = torch.empty(count, 3, 32, 32, dtype=torch.uint8, device="meta")
        return Pictures(images, torch.arange(count) % classes)

    return Source(part(layout.train), part(layout.test), tuple(map(str, range(classes))))


@dataset(
    "cifar10",
    outline="outline_cifar10",
    files=("root/cifar-10-batches-bin", "root/cifar-10-binary.tar.gz"),
)
def cifar10(*, root: str = "data") -> Source:
    """CIFAR-10: 50,000 + 10,000 colour pictures, 32×32, 10 classes; downloaded on first use.

    Args:
        root: Folder of the archive ``cifar-10-binary.tar.gz`` or of its extracted folder.

    References:
        Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """
    return read_cifar(Path(root), CIFAR10)


@dataset(
    "cifar100",
    outline="outline_cifar100",
    files=("root/cifar-100-binary", "root/cifar-100-binary.tar.gz"),
)
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
    archive = root / layout.archive
    try:
        if all((folder / name).is_file() for name in layout.files):
            contents = {name: (folder / name).read_bytes() for name in layout.files}
            return _cifar_source(folder, contents, layout)
        if not archive.exists():
            _download(root, layout)
        return _cifar_source(archive, _archived(archive, layout), layout)
    except OSError as error:
        raise DataError(
            f"dataset.root: {error.filename or root} cannot be read ({error.strerror})"
        ) from error


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

    try:
        classes = tuple(contents[layout.names].decode("ascii").split())
    except UnicodeDecodeError as error:
        raise DataError(
            f"dataset.root: {place / layout.names} is damaged: byte {error.start} is not ASCII; "
            "needs the name of a class in each line"
        ) from error
    return Source(part(layout.train), part(layout.test), classes)
