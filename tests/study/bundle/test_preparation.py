"""A bundle makes the very pixels of a picture file that training saw."""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch import nn

from tests import pictures
from zostudy.data import preprocess
from zostudy.data.folders import image_folder
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space
from zostudy.study.bundle.export import export
from zostudy.study.bundle.program import Bundle


def metadata(kind):
    return {"exif": pictures.exif(6)} if kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF") else {}


def files():
    """A file of every format in every mode that it holds, all of one size once upright."""
    kinds = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B"),
        "GIF": ("L", "P"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("1", "L", "P", "RGB"),
        "PPM": ("1", "L", "RGB"),
        "JPEG2000": ("L", "RGB", "RGBA"),
        "AVIF": ("RGB", "RGBA"),
    }
    if int(PIL.__version__.partition(".")[0]) < 13:  # cannot read what it writes
        kinds["TIFF"] = tuple(mode for mode in kinds["TIFF"] if mode != "YCbCr")
    suffixes = {"JPEG": "jfif", "TIFF": "tif", "JPEG2000": "jp2", "PPM": "pnm"}
    made = {}
    for kind, modes in kinds.items():
        for mode in modes:
            name = f"{kind}-{mode.replace(';', '')}.{suffixes.get(kind, kind.lower())}"
            image = pictures.picture(mode) if mode != "1" else pictures.picture("L").convert("1")
            turned = image.rotate(90, expand=True) if metadata(kind) else image
            made[name] = pictures.written(turned, kind, **metadata(kind))
    palette = pictures.picture("P")
    made["palette.png"] = pictures.written(palette, "PNG", transparency=bytes(range(256)))
    made["palette.gif"] = pictures.written(palette, "GIF", transparency=7)
    made["key.png"] = pictures.written(pictures.picture("RGB"), "PNG", transparency=(9, 9, 9))
    frames = [pictures.picture("RGBA", seed) for seed in (1, 2)]
    for kind, suffix in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "apng")):
        options = {"save_all": True, "append_images": frames}
        made[f"moving.{suffix}"] = pictures.written(pictures.picture("RGBA"), kind, **options)
    for suffix in ("jpg", "png", "tif", "webp"):
        whole, draw = (
            pictures.described({"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())),
            random.Random(3),
        )
        made[f"damaged.{suffix}"] = pictures.with_damaged_metadata(whole, suffix, draw)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("formats")
    for index, (name, content) in enumerate(files().items()):
        path = place / ("even" if index % 2 else "odd") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return place


def bundle_of(source, output):
    """The bundle of a network for a data set's pictures."""
    space = search_space("darts")
    node = (("sep_conv_3x3", 0), ("skip_connect", 1))
    channels, height, width = source.train.images.shape[1:]
    return export(
        Bundle(
            network=nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 2)),
            genotype=Genotype(space, dict.fromkeys(space.cell_types, (node,) * space.nodes)),
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
            train=source.train,
            test=source.train,
            classes=source.classes,
            provenance={"study": "s", "trial": 0},
            bits=source.reading.bits,
        ),
        output,
    )


def reader(bundle):
    """What the code of a bundle makes of a file."""
    spec = importlib.util.spec_from_file_location("bundled", bundle / "preprocess.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bundled"] = module
    spec.loader.exec_module(module)
    settings = json.loads((bundle / "preprocessing.json").read_text(encoding="utf-8"))
    return lambda path: module.read(path, **settings["read"])


@pytest.fixture(scope="module")
def folder_of_sizes(folder, tmp_path_factory):
    """The same, and large pictures of several shapes, which JPEG decodes at a fraction."""
    place = tmp_path_factory.mktemp("sizes") / "all"
    shutil.copytree(folder, place)
    for index, size in enumerate([(300, 200), (130, 400), (333, 333)]):
        image = pictures.picture("RGB", index).resize(size)
        image.save(place / "odd" / f"large{index}.jpg", exif=pictures.exif(5 + index))
        image.save(place / "even" / f"large{index}.png")
    return place


@pytest.mark.parametrize(
    ("resize", "channels"),
    [(0, "grey"), (0, "colour"), (8, "as_stored"), (16, "grey"), (40, "colour")],
)
def test_every_format_gives_the_pixels_that_training_saw(
    folder, folder_of_sizes, tmp_path, resize, channels
):
    folder = folder_of_sizes if resize else folder
    source = image_folder(root=str(folder), resize=resize, channels=channels)
    bundle_of(source, tmp_path / "bundle")
    read = reader(tmp_path / "bundle")
    paths = sorted((folder / "even").iterdir()) + sorted((folder / "odd").iterdir())
    assert len(paths) == len(source.train) >= len(files())
    for path, image in zip(paths, source.train.images, strict=True):
        assert np.array_equal(read(path), image), path.name


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_grey_data_set_of_any_depth_gives_the_pixels_that_training_saw(tmp_path, bits):
    for name in ("dark", "light"):
        (tmp_path / "g" / name).mkdir(parents=True)
        for index in range(3):
            values = pictures.noise(index).astype(np.uint16) << (bits - 8)
            values[0, 0] = 2**bits - 1 if name == "light" else 0
            suffix = ("png", "tif", "tif")[index]
            order = ">u2" if index == 2 else "<u2"
            image = Image.fromarray(values.astype(order))
            image.save(tmp_path / "g" / name / f"{index}.{suffix}")
    source = image_folder(root=str(tmp_path / "g"))
    assert source.train.images.shape[1] == 1
    assert source.reading.bits == bits
    assert f"the upper 8 of {bits} bits are kept" in source.reading.remarks[0]
    assert np.array_equal(source.train.images[0, 0, 1:], pictures.noise(0)[1:])
    bundle_of(source, tmp_path / "bundle")
    read = reader(tmp_path / "bundle")
    for path, image in zip(sorted((tmp_path / "g").rglob("*.*")), source.train.images, strict=True):
        assert np.array_equal(read(path), image), path.name


@pytest.mark.slow
def test_the_card_s_lines_give_the_network_what_training_gave_it(folder, tmp_path):
    source = image_folder(root=str(folder), resize=9)
    output = tmp_path / "bundle"
    bundle_of(source, output)
    program = torch.export.load(output / "model.pt2").module()
    card = (output / "README.md").read_text(encoding="utf-8")
    lines = card.split("```python\n")[1].split("```")[0]
    refuse = "import sys\nsys.modules['zostudy'] = None\n"
    shown = "print(probabilities.tolist())\n"
    path = folder / "odd" / "PNG-I16.png"
    if not path.exists():
        path = folder / "even" / "PNG-I16.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", refuse + lines + shown, path],
        cwd=output, capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    position = [
        p.name for p in (*sorted((folder / "even").iterdir()), *sorted((folder / "odd").iterdir()))
    ].index(path.name)
    wanted = program(source.train.images[position][None])[0]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_bundle_ships_the_very_file_that_training_uses(folder, tmp_path):
    bundle_of(image_folder(root=str(folder), resize=8), tmp_path / "bundle")
    shipped = (tmp_path / "bundle" / "preprocess.py").read_bytes()
    assert shipped == Path(preprocess.__file__).read_bytes()
