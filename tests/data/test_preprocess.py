import hashlib
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import mutations, pictures
from zostudy.data import preprocess
from zostudy.data.preprocess import PictureError, header, read

SAMPLES = Path(__file__).parent / "pictures"

#: SHA-256 of pixels of the stored files, as they were before this module was written; in the order
#: of sides 0 (unchanged), 8 and 16, each grey and colour.
ORDINARY = {
    "colour.jpg": "6be236332b3b0b6a 17eccfc422db0b0d 6552ea2624b94c72 36d14bd2db87c9ed "
    "b39f7a1e90b4046e 3d164eba674300fa",
    "colour.png": "4c9a9904df95eea9 d510c8f38c0b35aa f34e61965e35a94e cb7daa4f6957d349 "
    "c8239f807a928864 d30c27d91bf442d0",
    "grey.jpg": "fd1926fde26995fa 3540f79059d62f13 6552ea2624b94c72 dfc96c1714712327 "
    "1860f5dea66a1e2d ed74039ef787db3a",
    "grey.png": "4c9a9904df95eea9 7f2289236be3b948 f34e61965e35a94e d62785b63c0e510b "
    "c8239f807a928864 c27a952aa755499e",
    "turned.jpg": "6f8d198f42fba74a 944bde3b74916141 3646def6142c4195 b1efa470c48473a9 "
    "b8fa3d451e5e1f74 aa2e11f4fffa39bf",
}


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def saved(folder, name, image, **options):
    image.save(folder / name, **options)
    return folder / name


def colour(path, **options):
    """Pixels in colour as height × width × channels."""
    return read(path, mode="RGB", size=None, **options).transpose(1, 2, 0)


def grey(path, **options):
    return read(path, mode="L", size=None, **options)[0]


def on_white(image):
    """What is seen of a picture on white, in floating point."""
    whole = np.asarray(image.convert("RGBA"), np.float64)
    alpha = whole[..., 3:] / 255
    return whole[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("name", ORDINARY)
def test_pixels_of_ordinary_pictures_are_bit_for_bit_what_they_always_were(name):
    found = [
        hashlib.sha256(
            np.ascontiguousarray(
                read(SAMPLES / name, mode=mode, size=(side, side) if side else None)
            ).tobytes()
        ).hexdigest()[:16]
        for side in (0, 8, 16)
        for mode in ("L", "RGB")
    ]
    assert found == ORDINARY[name].split()


# -- transparency ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_parts_are_shown_on_white_whatever_colour_they_hide(tmp_path, kind):
    image = pictures.picture("RGBA")
    path = saved(tmp_path, "x", image, format=kind, **{"lossless": True} if kind == "WEBP" else {})
    assert np.abs(colour(path) - on_white(image)).max() < 1
    assert (colour(path)[:, :4] == 255).all()
    assert header(path).transparent


def test_what_is_hidden_makes_no_difference(tmp_path):
    one, other = pictures.picture("RGBA"), np.array(pictures.picture("RGBA"))
    other[:, :4, :3] = 7
    first = saved(tmp_path, "a.png", one)
    second = saved(tmp_path, "b.png", Image.fromarray(other))
    assert np.array_equal(colour(first), colour(second))


def test_an_alpha_channel_that_hides_nothing_changes_nothing(tmp_path):
    plain = pictures.picture("RGB")
    opaque = plain.copy()
    opaque.putalpha(255)
    path = saved(tmp_path, "a.png", opaque)
    assert np.array_equal(colour(path), np.asarray(plain))


def test_grey_with_alpha_stays_grey(tmp_path):
    image = pictures.picture("LA")
    path = saved(tmp_path, "a.png", image)
    assert header(path).grey
    assert np.abs(grey(path) - on_white(image)[..., 0]).max() < 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_white(tmp_path, kind):
    image = pictures.picture("P")
    indices = np.asarray(image)
    entry = int(indices[5, 5])
    path = saved(tmp_path, "x", image, format=kind, transparency=entry)
    assert header(path).transparent
    found = colour(path)
    assert (found[indices == entry] == 255).all()
    rest = indices != entry
    assert np.array_equal(found[rest], np.asarray(image.convert("RGB"))[rest])


def test_a_palette_with_half_transparent_colours_is_shown_on_white(tmp_path):
    image = pictures.picture("P")
    path = saved(tmp_path, "x.png", image, transparency=bytes(range(256)))
    with Image.open(path) as stored:
        assert np.abs(colour(path) - on_white(stored)).max() < 1


@pytest.mark.parametrize(("mode", "key"), [("RGB", None), ("L", None), ("I;16", None)])
def test_a_transparent_colour_without_a_palette_is_white(tmp_path, mode, key):
    image = pictures.picture(mode)
    values = np.asarray(image)
    key = values[5, 5]
    stated = tuple(int(v) for v in key) if mode == "RGB" else int(key)
    path = saved(tmp_path, "x.png", image, transparency=stated)
    same = (values == key).all(-1) if mode == "RGB" else values == key
    assert (colour(path)[same] == 255).all()
    assert not (colour(path)[~same] == 255).all()


# -- depth -----------------------------------------------------------------------------------------

DEEP = [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B")]


@pytest.mark.parametrize(("suffix", "mode"), DEEP)
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, suffix, mode):
    path = saved(tmp_path, f"x.{suffix}", pictures.picture(mode))
    assert np.array_equal(grey(path), pictures.noise(0))
    assert header(path).highest == int(pictures.noise(0).max()) * 256 + 77


@pytest.mark.parametrize("bits", preprocess.BITS)
def test_of_fewer_bits_in_use_the_upper_eight_are_kept_and_higher_values_clipped(tmp_path, bits):
    values = pictures.noise(0).astype(np.uint16) << (bits - 8)
    path = saved(tmp_path, "x.png", Image.fromarray(values))
    assert np.array_equal(grey(path, bits=bits), pictures.noise(0))
    values[3, 3] = 65_535
    path = saved(tmp_path, "x.png", Image.fromarray(values))
    assert grey(path, bits=bits)[3, 3] == 255


def test_a_portable_greymap_of_sixteen_bits_is_read(tmp_path):
    values = pictures.noise(0).astype(np.uint16) * 256 + 77
    head = f"P5 {pictures.WIDTH} {pictures.HEIGHT} 65535\n".encode()
    path = put(tmp_path, "x.pgm", head + values.astype(">u2").tobytes())
    assert np.array_equal(grey(path), pictures.noise(0))


def test_whole_numbers_outside_sixteen_bits_are_refused(tmp_path):
    for value in (-1, 65_536):
        values = np.full((8, 8), 5, np.int32)
        values[0, 0] = value
        path = saved(tmp_path, "x.tif", Image.fromarray(values))
        with pytest.raises(PictureError, match=r"mode 'I' go from .* allowed: 0 to 65,535"):
            grey(path)


def test_one_bit_is_black_and_white(tmp_path):
    image = pictures.picture("L").convert("1")
    for name in ("x.png", "x.tif", "x.bmp", "x.pbm"):
        found = grey(saved(tmp_path, name, image))
        assert np.array_equal(found, np.asarray(image) * np.uint8(255))


def test_a_mode_that_is_not_read_is_named_with_those_that_are(tmp_path):
    path = saved(tmp_path, "x.tif", Image.new("LAB", (9, 9)))
    with pytest.raises(PictureError, match=r"mode 'LAB' are not read; allowed: 1, CMYK, HSV, I,"):
        colour(path)


# -- orientation and frames ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path, kind, orientation):
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20] = (250, 10, 10)
    upright[:12, 20:] = (10, 250, 10)
    upright[12:, :20] = (10, 10, 250)
    turns = {  # how a camera stores what is upright
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 3),
    }
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    path = saved(tmp_path, "x", stored, format=kind, exif=pictures.exif(orientation))
    found = colour(path).astype(int)
    assert found.shape == upright.shape
    for y, x in ((4, 4), (4, 35), (19, 4), (19, 35)):
        assert np.abs(found[y, x] - upright[y, x]).max() < 40


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(tmp_path, kind):
    mode = "P" if kind == "GIF" else "RGB"
    frames = [pictures.picture(mode, seed) for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = put(
        tmp_path,
        "x",
        pictures.written(frames[0], kind, save_all=True, append_images=frames[1:], **options),
    )
    assert header(path).several
    assert np.array_equal(colour(path), np.asarray(frames[0].convert("RGB")))


def test_a_picture_with_one_frame_has_not_several(tmp_path):
    path = saved(tmp_path, "x.gif", pictures.picture("P"))
    assert not header(path).several


# -- what cannot be read ---------------------------------------------------------------------------


def test_a_huge_picture_is_refused_by_its_size(tmp_path):
    head = b"P5 20000 9000 255\n"
    path = put(tmp_path, "x.pgm", head)
    with pytest.raises(PictureError, match=r"more than 178,956,970 pixels"):
        colour(path)


def test_a_picture_below_the_limit_gives_no_warning(tmp_path):
    image = Image.new("L", (10_000, 9_000))  # above what Pillow warns of
    path = saved(tmp_path, "x.png", image, compress_level=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path, mode="L", size=(8, 8)).shape == (1, 8, 8)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in (
        (tmp_path / "pipe.png", "it is not a regular file"),
        (tmp_path, "it is not a regular file"),
        (tmp_path / "none.png", "No such file or directory"),
        (put(tmp_path, "empty.png", b""), "it is empty"),
    ):
        with pytest.raises(PictureError, match=f"^{reason}$"):
            colour(path)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\1", b"no picture"])
def test_other_formats_are_not_opened_whatever_the_name(tmp_path, content):
    with pytest.raises(PictureError, match=r"^it is damaged, or in none of the formats AVIF, BMP,"):
        colour(put(tmp_path, "x.png", content))


# -- damage ----------------------------------------------------------------------------------------


def test_an_orientation_beside_a_damaged_entry_still_counts(tmp_path):
    entries = bytes.fromhex("1201 0300 01000000 06000000  1a01 0a00 01000000 26000000")
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + b"\0\0\0\0" + b"\xff" * 4 + b"\0" * 4
    image = pictures.picture("RGB")
    turned = saved(tmp_path, "a.jpg", image, exif=block)
    sound = saved(tmp_path, "b.jpg", image, exif=pictures.exif(6))
    assert np.array_equal(colour(turned), colour(sound))
    assert colour(turned).shape == (pictures.WIDTH, pictures.HEIGHT, 3)


@pytest.mark.parametrize("suffix", pictures.METADATA)
def test_damaged_metadata_leave_the_pixels_as_they_are(tmp_path, suffix):
    content = pictures.FILES[suffix]()
    whole = colour(put(tmp_path, f"whole.{suffix}", content))
    for seed in mutations.seeds(15):
        spoilt = pictures.with_damaged_metadata(content, suffix, random.Random(seed))
        assert np.array_equal(colour(put(tmp_path, f"x.{suffix}", spoilt)), whole), seed


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iCCP", b"pHYs", b"cHRM", b"gAMA", b"tIME"])
def test_a_png_chunk_of_nonsense_or_of_a_wrong_length_is_passed_over(tmp_path, kind):
    content = pictures.described("PNG")
    whole = colour(put(tmp_path, "whole.png", content))
    at = content.index(b"IDAT") - 4
    for length in (3, 9, 2**31 - 1, 2**32 - 1):
        chunk = length.to_bytes(4, "big") + kind + b"\xff\0\xff" + b"sum!"
        spoilt = content[:at] + chunk + content[at:]
        assert np.array_equal(colour(put(tmp_path, "x.png", spoilt)), whole), length


@pytest.mark.parametrize("name", pictures.FILES)
def test_a_damaged_picture_gives_pixels_or_one_line_and_nothing_is_printed(tmp_path, name, capfd):
    content, reasons = pictures.FILES[name](), []
    for seed in mutations.seeds(4):
        spoilt = pictures.damaged(content, random.Random(f"{name} {seed}"))
        path = put(tmp_path, f"x.{name}", spoilt)
        for size in (None, (8, 8)):
            try:
                found = read(path, mode="RGB", size=size)
                assert found.dtype == np.uint8
                assert found.shape[0] == 3
                assert size is None or found.shape == (3, 8, 8)
            except PictureError as error:
                reasons.append(str(error))
        try:
            with preprocess.quiet():
                header(path)
        except PictureError as error:
            reasons.append(str(error))
    assert reasons
    assert all(reason.isprintable() and 0 < len(reason) < 300 for reason in reasons)
    assert capfd.readouterr() == ("", "")


# -- by itself -------------------------------------------------------------------------------------

ALONE = """
import importlib.util, json, sys
sys.modules["zostudy"] = sys.modules["torch"] = None
spec = importlib.util.spec_from_file_location("preprocess", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["preprocess"] = module
spec.loader.exec_module(module)
print(json.dumps(module.read(sys.argv[2], mode="L", size=(4, 4)).tolist()))
"""


def test_the_file_works_without_the_rest_of_zostudy():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, preprocess.__file__, SAMPLES / "grey.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == read(SAMPLES / "grey.png", mode="L", size=(4, 4)).tolist()
