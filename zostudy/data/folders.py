"""Pictures of one's own, from a folder of class folders (see `zostudy.data.sources`)."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from zostudy.config.sizes import counted
from zostudy.data import preprocess
from zostudy.data.listing import Listing, list_pictures, shown
from zostudy.data.preprocess import BITS, Header, PictureError
from zostudy.data.sources import Pictures, Reading, Source
from zostudy.errors import DataError
from zostudy.registry import dataset

T = TypeVar("T")

#: How many pictures that cannot be read are named.
_NAMED = 5


def outline_image_folder(*, root: str, resize: int, channels: str) -> Source:
    """The shape of a folder's pictures: one is decoded, and of the others the header is read.

    Raises:
        DataError: As `image_folder`, but for pictures whose pixels alone are damaged.
    """
    listed = list_pictures(Path(root).expanduser())
    with preprocess.quiet():
        headers, failures = _each(listed, preprocess.header)
        _refuse(failures, len(listed.files))
        mode, reading = _as_read(listed, headers, channels)
        first = replace(listed, files=listed.files[:1])
        shape = _decoded(first, mode, reading.bits, resize).shape[1:]
    images = torch.empty((len(listed.files), *shape), dtype=torch.uint8, device="meta")
    return _source(listed, images, reading)


@dataset("image_folder", outline="outline_image_folder", files=("root",))
def image_folder(
    *,
    root: str,
    resize: Annotated[int, "[0, 4096]"] = 0,
    channels: Literal["as_stored", "grey", "colour"] = "as_stored",
) -> Source:
    """Your own pictures: ``CLASS/*``, or ``train/CLASS/*`` with or without ``test/CLASS/*``.

    Files that are no pictures by the ending of their name are ignored, and counted in what `plan`
    and `run` print. Classes and pictures are in the order of their names. How a file becomes
    pixels, `zostudy.data.preprocess` says.

    Args:
        root: Folder of the class folders, or of ``train`` and ``test``.
        resize: Side in pixels: the largest centred square of each picture is scaled to it. 0 keeps
            the pictures as they are, which must then be of one size.
        channels: ``grey`` (1), ``colour`` (3), or ``as_stored``: 1 where every file is grey.

    Raises:
        DataError: There are too few classes or pictures, or a picture cannot be used.
    """
    listed = list_pictures(Path(root).expanduser())
    with preprocess.quiet():
        headers, _ = _each(listed, preprocess.header)
        mode, reading = _as_read(listed, headers, channels)
        images = _decoded(listed, mode, reading.bits, resize)
    return _source(listed, images, reading)


def _source(
    listed: Listing, images: UInt8[Tensor, "n channels height width"], reading: Reading
) -> Source:
    """The files' pictures as a data set."""
    labels = torch.tensor([label for _, label in listed.files])
    test = Pictures(images[listed.train :], labels[listed.train :])
    train = Pictures(images[: listed.train], labels[: listed.train])
    return Source(train, test if len(test) else None, listed.classes, reading)


def _each(
    listed: Listing, use: Callable[[Path], T]
) -> tuple[list[T], list[tuple[Path, PictureError]]]:
    """What comes of every picture, by a pool of threads, and those that cannot be read."""

    def tried(path: Path) -> T | PictureError:
        try:
            return use(path)
        except PictureError as error:
            return error

    paths = [path for path, _ in listed.files]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(tried, paths))
    failures = [
        (path, error)
        for path, error in zip(paths, found, strict=True)
        if isinstance(error, PictureError)
    ]
    return [one for one in found if not isinstance(one, PictureError)], failures


def _refuse(failures: Sequence[tuple[Path, PictureError]], count: int) -> None:
    """End with the pictures that cannot be read, if there are any.

    Raises:
        DataError: There are; a line for each of the first.
    """
    lines = [
        f"dataset.root: {shown(path)} cannot be read as a picture ({error})"
        for path, error in failures[:_NAMED]
    ]
    if len(failures) > 1:
        more = len(failures) - len(lines)
        lines.append(
            f"dataset.root: {len(failures)} of {count} pictures cannot be read"
            f"{f', {more} more than are named here' if more else ''}; mend or remove them"
        )
    if lines:
        raise DataError("\n".join(lines))


def _as_read(listed: Listing, headers: Sequence[Header], channels: str) -> tuple[str, Reading]:
    """Pillow's mode of the pixels, and what a user should know of how the pictures are read."""
    grey = channels == "grey" or (
        channels == "as_stored" and all(header.grey for header in headers)
    )
    deep = [header.highest for header in headers if header.highest]
    bits = next((bits for bits in BITS if max(deep, default=0) < 2**bits), BITS[-1])
    remarks = list(listed.remarks)
    if deep:
        remarks.append(
            f"{counted(len(deep), 'picture')} may hold 16 bits a pixel; the highest value is "
            f"{max(deep):,}, so that the upper 8 of {bits} bits are kept"
        )
    transparent = sum(header.transparent for header in headers)
    if transparent:
        which = counted(transparent, "picture")
        remarks.append(f"{which} may have transparent parts; these are shown on white")
    several = sum(header.several for header in headers)
    if several:
        which = counted(several, "file")
        remarks.append(f"of {which} with several frames or pages the first is read")
    reading = Reading(listed.ignored, tuple(remarks), bits if deep else BITS[-1])
    return "L" if grey else "RGB", reading


def _decoded(
    listed: Listing, mode: str, bits: int, resize: int
) -> UInt8[Tensor, "n channels height width"]:
    """The pixels of every picture; all must come out in one size."""
    size = (resize, resize) if resize else None
    pixels = functools.partial(preprocess.pixels, mode=mode, bits=bits, size=size)
    paths = [path for path, _ in listed.files]
    positions = {path: index for index, path in enumerate(paths)}
    images: list[preprocess.Bytes] = []

    def place(path: Path) -> tuple[int, ...]:
        picture = pixels(path)
        if images and picture.shape == images[0].shape[1:]:
            images[0][positions[path]] = picture
        return picture.shape

    with contextlib.suppress(PictureError):  # is told with all others that cannot be read
        images.append(np.empty((len(paths), *place(paths[0])), np.uint8))
    shapes, failures = _each(listed, place)
    _refuse(failures, len(paths))
    _check_sizes(paths, shapes)
    return torch.from_numpy(images[0])


def _check_sizes(paths: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> None:
    """Whether all pictures came out in one size.

    Raises:
        DataError: They did not; the first that differs is named.
    """
    (_, height, width), others = shapes[0], [shape != shapes[0] for shape in shapes]
    if any(others):
        path, (_, other_height, other_width) = next(
            pair
            for pair, differs in zip(zip(paths, shapes, strict=True), others, strict=True)
            if differs
        )
        more = f" ({sum(others)} pictures differ)" if sum(others) > 1 else ""
        raise DataError(
            f"dataset.root: {shown(path)} has {other_width}×{other_height} pixels, "
            f"{shown(paths[0])} has {width}×{height}; set dataset.resize to bring all to one "
            f"size{more}"
        )
