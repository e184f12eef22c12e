"""Picture files of all formats that are read, made and damaged, the same for the same seed."""

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

ORIENTATION = 0x0112
WIDTH, HEIGHT = 22, 17


def noise(seed: int, *channels: int) -> np.ndarray:
    """Smooth colours with noise, one pixel of which is like no other."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    plain = np.stack([(x * 9 + y * (5 + c)) % 256 for c in range(*channels or (1,))], -1)
    noisy = np.clip(plain + draw.integers(-9, 10, plain.shape), 0, 255).astype(np.uint8)
    return noisy if channels else noisy[..., 0]


def picture(mode: str, seed: int = 0) -> Image.Image:
    """A picture of a mode."""
    colour, grey = Image.fromarray(noise(seed, 3)), Image.fromarray(noise(seed))
    if mode in ("LA", "RGBA"):
        alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
        alpha[:, 4:] = 255
        alpha[:, 10:14] = 100
        whole = (colour if mode == "RGBA" else grey).copy()
        whole.putalpha(Image.fromarray(alpha))
        return whole
    if mode == "I;16":
        return Image.fromarray(noise(seed).astype(np.uint16) * 256 + 77)
    if mode == "I;16B":
        return Image.fromarray((noise(seed).astype(np.uint16) * 256 + 77).astype(">u2"))
    return grey if mode == "L" else colour.convert(mode)


def exif(orientation: int = 1) -> Image.Exif:
    """EXIF data with a text and an orientation."""
    data = Image.Exif()
    data[0x010F] = "A maker of cameras"
    data[0x011A] = 72.0
    data[ORIENTATION] = orientation
    return data


def written(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def described(kind: str) -> bytes:
    """A picture with all the metadata that its format holds."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b" " * 200 + b"</x:xmpmeta>"
    image = picture("RGB")
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Title", "A picture")
        text.add_text("Comment", "much " * 90, zip=True)
        text.add_itxt("Author", "Ξενοφῶν", "el", "Συγγραφεύς")
        return written(image, kind, pnginfo=text, exif=exif(), icc_profile=profile, dpi=(72, 72))
    if kind == "GIF":
        image = picture("P")
        frames = [picture("P", seed) for seed in (1, 2)]
        return written(image, kind, save_all=True, append_images=frames, comment=b"much " * 90)
    if kind == "TIFF":
        options = {"description": "A picture", "software": "A program", "icc_profile": profile}
        return written(image, kind, compression="tiff_lzw", exif=exif(), **options)
    if kind == "WEBP":
        return written(image, kind, exif=exif(), icc_profile=profile, xmp=xmp)
    if kind == "JPEG":
        options = {"comment": b"much " * 90, "xmp": xmp, "dpi": (72, 72)}
        return written(image, kind, exif=exif(), icc_profile=profile, **options)
    return written(image, kind)


#: Files that are damaged: six formats and more, most with metadata.
FILES: dict[str, Callable[[], bytes]] = {
    "jpg": lambda: described("JPEG"),
    "png": lambda: described("PNG"),
    "gif": lambda: described("GIF"),
    "tif": lambda: described("TIFF"),
    "webp": lambda: described("WEBP"),
    "bmp": lambda: written(picture("RGB"), "BMP"),
    "ppm": lambda: written(picture("RGB"), "PPM"),
    "grey16.png": lambda: written(picture("I;16"), "PNG"),
    "palette.png": lambda: written(picture("P"), "PNG", transparency=3),
    "cmyk.jpg": lambda: written(picture("CMYK"), "JPEG"),
    "raw.tif": lambda: written(picture("I;16B"), "TIFF", exif=exif(6)),
    "deflate.tif": lambda: written(picture("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
    "j2k": lambda: written(picture("RGB"), "JPEG2000"),
    "avif": lambda: written(picture("RGB"), "AVIF", exif=exif()),
    "lossless.webp": lambda: written(picture("RGBA"), "WEBP", lossless=True, exif=exif(3)),
}

#: Where metadata begin in a file of :func:`described`, and how many of their bytes may be damaged.
METADATA = {
    "jpg": ((b"Exif\0\0", 75), (b"ICC_PROFILE", 400), (b"<x:xmpmeta", 200), (b"much ", 400)),
    "png": (
        *((b"eXIf", 60), (b"iCCP", 300), (b"Title", 14), (b"Comment", 18), (b"Author", 30)),
        (b"pHYs", 13),
    ),
    "gif": ((b"much ", 250),),
    "tif": ((b"A picture", 9), (b"A program", 9), (b"acsp", 300)),
    "webp": ((b"A maker", 18), (b"acsp", 300), (b"<x:xmpmeta", 200)),
}


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file that is cut, or has wrong bytes, bits or numbers, in its header or anywhere."""
    at = draw.randrange(len(content))
    head = draw.randrange(min(len(content), 80))
    number = draw.choice([b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80"])

    def flipped(bits: int) -> bytes:
        changed = bytearray(content)
        for _ in range(bits):
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(changed)

    return draw.choice(
        [
            lambda: content[:at],
            lambda: content[:head],
            lambda: content[:head] + draw.randbytes(4) + content[head + 4 :],
            lambda: content[:head] + number + content[head + len(number) :],
            lambda: content[:at] + number + content[at + len(number) :],
            lambda: content[:at] + draw.randbytes(16) + content[at + 16 :],
            lambda: content[:at] + content[at + draw.randrange(1, 9) :],
            lambda: content[:at] + draw.randbytes(draw.randrange(1, 9)) + content[at:],
            lambda: flipped(1),
            lambda: flipped(20),
        ]
    )()


def with_damaged_metadata(content: bytes, suffix: str, draw: random.Random) -> bytes:
    """A file of which some bytes of metadata are wrong, and nothing else."""
    mark, length = draw.choice(METADATA[suffix])
    start = content.index(mark)
    at = start + draw.randrange(length)
    end = min(at + draw.randrange(1, 12), start + length)
    return content[:at] + draw.randbytes(end - at) + content[end:]
