"""Pixels of a picture file: how training reads a picture, and how a deployment bundle does.

This file imports nothing but Pillow and numpy, because every bundle ships a copy of it. What it
decides:

- The first frame of an animation, and the first page of a TIFF file, is the picture.
- A picture is turned upright as its EXIF (or XMP) orientation says. All other metadata are left
  alone; where they are damaged, the picture is read without them.
- Transparent parts are shown on white. The colour that is stored below them, which nobody sees,
  does not count.
- Of pixels of more than 8 bits the 8 upper of ``bits`` bits are kept; ``bits`` belongs to the data
  set, because files do not say that 12 of their 16 bits are used. Higher values are clipped.
- CMYK, YCbCr, HSV and palettes are converted by Pillow; colour profiles and gamma are not applied.
- To bring a picture to a size, the largest centred part of that shape is scaled (bicubic). A large
  JPEG file is then decoded at a fraction of its size, at least twice the wanted one.
"""

import contextlib
import io
import logging
import os
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")

#: Pillow's names of the formats that are read, whatever a file's name ends in.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

#: Most pixels of a picture: what Pillow takes for an attack by a small file that unpacks to much.
MOST_PIXELS = 178_956_970

#: Most bytes of a file.
MOST_BYTES = 2**31

#: What ``bits`` may be.
BITS = (8, 10, 12, 14, 16)

_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_GREY_MODES = frozenset({"1", "L", "LA", "La"}) | _DEEP_MODES
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"})

#: Modes whose colours are multiplied by their opacity, and those in which they are not.
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """A file cannot be read as a picture; the text is the reason, in one line."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are made.

    Attributes:
        grey: Whether it is stored in grey.
        transparent: Whether it has an alpha channel or a transparent colour.
        several: Whether it has several frames or pages.
        highest: Its highest value where its pixels may have more than 8 bits; else 0.
    """

    grey: bool
    transparent: bool
    several: bool
    highest: int


def read(path: str | Path, *, mode: str, bits: int = 16, size: tuple[int, int] | None) -> Bytes:
    """Pixels of a picture file.

    Args:
        path: The file.
        mode: ``L`` for grey or ``RGB`` for colour.
        bits: Bits in use where pixels have more than 8, one of :data:`BITS`.
        size: Width and height to bring it to; None leaves it as it is.

    Returns:
        The pixels, 0 to 255, as channels × height × width.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    with quiet():
        return pixels(Path(path), mode=mode, bits=bits, size=size)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep decoders from warning and printing; for a thread that waits for those that read.

    What libtiff prints goes past Python, straight to the process's standard error.
    """
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), _without_stderr():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # it is closed already
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # the name is not a path everywhere
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def pixels(path: Path, *, mode: str, bits: int, size: tuple[int, int] | None) -> Bytes:
    """As :func:`read`, for many threads at once inside :func:`quiet`."""

    def prepared(opened: Image.Image) -> Bytes:
        if size:
            opened.draft(None, (2 * max(size), 2 * max(size)))
        opened.load()
        picture = _turned(_eight_bits(opened, bits).convert(mode), _orientation(opened))
        if size:
            picture = ImageOps.fit(picture, (size[0], size[1]))
        return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)

    return _used(path, prepared)


def header(path: Path) -> Header:
    """What a picture file says of itself; only pixels of more than 8 bits are read.

    Raises:
        PictureError: The file cannot be read as a picture.
    """

    def described(opened: Image.Image) -> Header:
        mode = opened.mode
        transparent = opened.has_transparency_data
        highest = int(np.asarray(opened).max()) if mode in _DEEP_MODES else 0
        return Header(mode in _GREY_MODES, transparent, _several(opened), highest)

    return _used(path, described)


# -- files -----------------------------------------------------------------------------------------


def _used(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What comes of a picture, read without its metadata where they are in the way."""
    try:
        content = _content(path)
        try:
            return use(_opened(content))
        except PictureError:
            raise
        except Exception as error:  # decoders raise whatever comes to them
            for bare in _without_metadata(content):
                with contextlib.suppress(Exception):  # the first error is the one that is told
                    return use(_opened(bare))
            raise PictureError(_reason(error)) from error
    except OSError as error:
        raise PictureError(_reason(error)) from error


def _content(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise PictureError("it is not a regular file")
    if not found.st_size:
        raise PictureError("it is empty")
    if found.st_size > MOST_BYTES:
        raise PictureError(f"it has {found.st_size:,} bytes; allowed: at most {MOST_BYTES:,}")
    return path.read_bytes()


def _opened(content: bytes) -> Image.Image:
    """The picture, of which only the header has been read."""
    Image.init()
    try:
        opened = Image.open(io.BytesIO(content), formats=[f for f in FORMATS if f in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"it has more than {MOST_PIXELS:,} pixels; allowed: up to that"
        ) from error
    width, height = opened.size
    if width * height > MOST_PIXELS:
        raise PictureError(f"it has {width}×{height} pixels; allowed: {MOST_PIXELS:,} in all")
    return opened


def _reason(error: Exception) -> str:
    """One line on why a file cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or in none of the formats {', '.join(FORMATS)}"
    if isinstance(error, MemoryError):
        return "there is too little memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return f"its data are damaged: {' '.join(text.split())[:200] or type(error).__name__}"


# -- pixels ----------------------------------------------------------------------------------------


def _several(opened: Image.Image) -> bool:
    """Whether there are several frames; where the second is damaged, there is one."""
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # noqa: BLE001  # decoders raise whatever comes to them
        return False


def _orientation(loaded: Image.Image) -> int:
    """The orientation that the metadata give, 1 to 8; 1 where it cannot be read."""
    try:
        stated = loaded.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # damaged metadata raise whatever comes to them
        return 1
    return stated if isinstance(stated, int) else 1


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image, bits: int) -> Image.Image:
    """The picture with 8 bits a channel and nothing transparent."""
    mode = picture.mode
    if mode in _DEEP_MODES:
        return _upper_bits(picture, bits)
    if mode == "F":
        raise PictureError("pixels of mode 'F' have no fixed range; allowed: 8, 16 bits")
    if mode not in _GREY_MODES | _COLOUR_MODES:
        allowed = ", ".join(sorted(_GREY_MODES | _COLOUR_MODES))
        raise PictureError(f"pixels of mode {mode!r} are not read; allowed: {allowed}")
    if mode not in ("P", "PA") and not picture.has_transparency_data:
        return picture
    shown = picture.convert(_STRAIGHT.get(mode, mode)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)


def _upper_bits(picture: Image.Image, bits: int) -> Image.Image:
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise PictureError(
            f"pixels of mode {picture.mode!r} go from {low:,} to {high:,}; allowed: 0 to 65,535"
        )
    kept = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        kept[values == transparent] = 255
    return Image.fromarray(kept)


# -- damaged metadata ------------------------------------------------------------------------------


def _without_metadata(content: bytes) -> Iterator[bytes]:
    """The file without what does not make its pixels: first with its EXIF data, then without."""
    strip = _stripper(content)
    if strip is not None:
        for exif in (True, False):
            bare = strip(content, exif)
            if bare:
                yield bare


def _stripper(content: bytes) -> Callable[[bytes, bool], bytes] | None:
    if content.startswith(b"\xff\xd8"):
        return _bare_jpeg
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _bare_png
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _bare_webp
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _bare_tiff
    return None


def _bare_jpeg(content: bytes, exif: bool) -> bytes:
    """Without application segments, but for Adobe's, which says what the colours are."""
    kept, at = [content[:2]], 2
    while content[at : at + 1] == b"\xff":
        kind = content[at + 1 : at + 2]
        if kind == b"\xda":
            return b"".join([*kept, content[at:]])
        if kind == b"\xff":  # a byte that fills
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        application = b"\xe0" <= kind <= b"\xef" or kind == b"\xfe"
        if not application or kind == b"\xee" or (exif and kind == b"\xe1"):
            kept.append(content[at:end])
        at = end
    return b""


def _bare_png(content: bytes, exif: bool) -> bytes:
    """With the chunks alone that make pixels; after a damaged length, from the next sound chunk."""
    wanted = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"} | ({b"eXIf"} if exif else set())
    kept, at = [content[:8]], 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind, data = content[at + 4 : at + 8], content[at + 8 : end - 4]
        sound = zlib.crc32(kind + data).to_bytes(4, "big")
        if kind in wanted and (kind == b"eXIf" or content[end - 4 : end] == sound):
            kept.append(content[at : end - 4] + sound)
        elif kind in wanted:
            return b""  # what makes pixels is damaged
        elif end + 12 > len(content) or not content[end + 4 : end + 8].isalpha():
            end = _next_sound_chunk(content, at + 12)
        at = end
    return b"".join(kept)


def _next_sound_chunk(content: bytes, start: int) -> int:
    """Where the next chunk of pixels begins; the end of the content where there is none."""
    found = [content.find(kind, start) for kind in (b"PLTE", b"tRNS", b"IDAT")]
    return min((at - 4 for at in found if at >= 0), default=len(content))


def _bare_webp(content: bytes, exif: bool) -> bytes:
    wanted = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"} | ({b"EXIF"} if exif else set())
    kept, at = [b"WEBP"], 12
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        chunk = bytearray(content[at:end])
        if kind == b"VP8X" and len(chunk) > 8:
            chunk[8] &= 0b00011010 if exif else 0b00010010  # alpha and animation (and EXIF) alone
        if kind in wanted and end <= len(content):
            kept.append(bytes(chunk))
        at = end
    body = b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


#: Tags of TIFF that make the pixels: size, layout, compression, colours, strips, tiles, samples.
_TIFF_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322}
    | {323, 324, 325, 332, 334, 338, 339, 347, *range(512, 522), 529, 530, 531, 532}
)


def _bare_tiff(content: bytes, exif: bool) -> bytes:
    """With one page, of which the tags are left that make pixels (and its orientation)."""
    order = "little" if content.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], order)  # type: ignore[arg-type]  # one of two

    start = number(4, 4) + 2
    count = number(start - 2, 2)
    end = start + 12 * count
    if end > len(content):
        return b""
    wanted = _TIFF_TAGS | ({_ORIENTATION} if exif else set())
    entries = [content[at : at + 12] for at in range(start, end, 12) if number(at, 2) in wanted]
    kept = b"".join(entries).ljust(12 * count + 4, b"\0")
    return b"".join(
        (
            content[: start - 2],
            len(entries).to_bytes(2, order),  # type: ignore[arg-type]  # one of two
            kept,
            content[end + 4 :],
        )
    )
