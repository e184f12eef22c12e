"""The deployment folder of a trained network: all that its use needs, and where it came from.

``model.pt2`` takes pictures as float32 from 0 to 1 and normalizes them itself, so that a user only
has to scale a picture to size. Neither it nor ``weights.safetensors`` holds anything pickled.
"""

import contextlib
import copy
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from zostudy.data import preprocess
from zostudy.errors import ConfigError, TrialError
from zostudy.runtime import environment, seeded
from zostudy.space.genotype import Genotype
from zostudy.study.pictures.drawing import genotype_figure

Images = Float[Tensor, "batch channels height width"]
Logits = Float[Tensor, "batch classes"]

_PIL_MODES = {1: "L", 3: "RGB"}

_EXAMPLE = """\
import json
import sys
from pathlib import Path

import numpy as np
import torch

{imports}labels = json.loads(Path("labels.json").read_text(encoding="utf-8"))
model = torch.export.load("model.pt2").module()
{reading}
probabilities = model(images).softmax(1)[0]
best = int(probabilities.argmax())
print(f"{{labels[best]}}: {{100 * probabilities[best]:.1f}} %")
"""

_READING = """\
settings = json.loads(Path("preprocessing.json").read_text(encoding="utf-8"))
pixels = preprocess.read(sys.argv[1], **settings["read"])  # as training read its pictures
images = torch.from_numpy(pixels.astype(np.float32)[None] / 255)"""

_READING_OTHER = """\
pixels = np.load(sys.argv[1])  # from 0 to 1, as channels, height, width
images = torch.from_numpy(pixels.astype(np.float32)[None])"""

_CARD = """\
# {study}, trial {trial}

A classifier of {channels}×{height}×{width} pictures (channels × height × width) into
{count} classes: {classes}. Its architecture was found by zostudy, and its weights were trained from
scratch.

| file | holds |
| --- | --- |
| `model.pt2` | the program: float32 pictures from 0 to 1, in a batch of any size, to class scores |
| `labels.json` | names of the classes, in the order of the scores |
{preprocess}| `preprocessing.json` | what the program expects, and what it normalizes with |
| `weights.safetensors` | the weights, named as in zostudy's network of the genotype |
| `genotype.json`, `genotype.png` | the architecture, as data and drawn |

## Use

Needs `torch`, `numpy` and `pillow`, and not zostudy. In this folder, with a picture's path as its
argument:

```python
{example}```

`softmax` makes probabilities of the scores. More pictures of this size go into one batch. To run it
on a GPU, move what `torch.export.load` returns with `torch.export.passes.move_to_device_pass`.

## Architecture

```text
{architecture}
```

## Where it came from

{provenance}

## Made with

{versions}
"""


_PREPROCESS = """\
| `preprocess.py` | makes pixels of a picture file, by the very code that read those of training |
"""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network and what its use needs.

    Attributes:
        network: Normalized pictures (batch, channels, height, width) to class scores.
        genotype: Its architecture.
        mean: For each channel, the mean it was normalized with, on a scale of 0 to 1.
        std: For each channel, the standard deviation, likewise.
        channels: Channels of a picture: 1 for grey, 3 for colour.
        height: Height of a picture in pixels.
        width: Width of a picture in pixels.
        classes: Names of the classes, in the order of the scores.
        provenance: Where it came from, by name; ``study`` and ``trial`` make the card's title.
        bits: Bits in use where pixels of a file have more than 8.
    """

    network: nn.Module
    genotype: Genotype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    height: int
    width: int
    classes: tuple[str, ...]
    provenance: Mapping[str, object]
    bits: int = 16


class _Program(nn.Module):
    """A network with its normalization before it."""

    mean: Tensor
    std: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        network = copy.deepcopy(bundle.network)
        self.network = network.cpu().eval().requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(bundle.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(bundle.std).reshape(-1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Class scores of pictures from 0 to 1."""
        return self.network((images - self.mean) / self.std)  # type: ignore[no-any-return]


def export(bundle: Bundle, output: Path) -> list[Path]:
    """Write a deployment folder, whole or not at all.

    Args:
        bundle: What to write.
        output: The folder: new or empty; its parents are made.

    Returns:
        The files written.

    Raises:
        ConfigError: The folder holds something or cannot be made.
        TrialError: The disk is full or cannot be written, or the written program's scores are not
            the network's.
    """
    with _new_folder(output) as folder:
        _write(folder / "genotype.json", bundle.genotype.to_json() + "\n")
        genotype_figure(bundle.genotype).savefig(folder / "genotype.png")
        _write(folder / "labels.json", _as_json(bundle.classes))
        _write(folder / "preprocessing.json", _as_json(_preprocessing(bundle)))
        if bundle.channels in _PIL_MODES:
            shutil.copyfile(preprocess.__file__, folder / "preprocess.py")
        _write(folder / "README.md", _card(bundle))
        weights = {name: t.cpu().contiguous() for name, t in bundle.network.state_dict().items()}
        metadata = {"genotype": bundle.genotype.to_json()}
        save_file(weights, folder / "weights.safetensors", metadata)
        (folder / "weights.safetensors").chmod(0o644)
        program = _Program(bundle)
        _save_program(program, bundle, folder / "model.pt2")
        _verify(program, bundle, folder / "model.pt2")
    return sorted(output.iterdir())


def check_output(output: Path) -> None:
    """Whether the folder is new, or empty.

    Raises:
        ConfigError: It is not.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(
            f"output: {str(output)!r} exists already; allowed: a new folder, or an empty one"
        )


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder beside the output that takes its place once it is complete."""
    check_output(output)
    place = output.resolve()
    folder = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"output: {str(output)!r} cannot be made ({error})") from error
    try:
        yield folder
        for path in (*folder.iterdir(), folder):
            _flush(path)
        folder.replace(place)
        _flush(place.parent)
    except OSError as error:
        raise TrialError(f"export: {str(output)!r} cannot be written ({error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it is there only where something failed


def _flush(path: Path) -> None:
    """Have a file's or folder's content reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _save_program(program: _Program, bundle: Bundle, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(
        program, (_pictures(bundle, 2),), dynamic_shapes={"images": {0: batch}}
    )
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    exported.example_inputs = None  # would be stored pickled
    torch.export.save(exported, path)


def _verify(program: _Program, bundle: Bundle, path: Path) -> None:
    """Compare the program read back from disk with the network.

    Raises:
        TrialError: They differ.
    """
    loaded = torch.export.load(path).module()
    for count in (1, 3):
        images = _pictures(bundle, count)
        wanted, given = program(images), loaded(images)
        if not torch.allclose(given, wanted, rtol=1e-4, atol=1e-5):
            raise TrialError(
                f"export: the scores of {path.name} differ from the network's by up to "
                f"{(given - wanted).abs().max():.3g}; allowed: 1e-5 + 1e-4 of the score"
            )


def _pictures(bundle: Bundle, count: int) -> Images:
    shape = (count, bundle.channels, bundle.height, bundle.width)
    return torch.rand(shape, generator=seeded("cpu", count))


def _preprocessing(bundle: Bundle) -> dict[str, object]:
    mode = _PIL_MODES.get(bundle.channels)
    size = (bundle.width, bundle.height)
    reading = {"read": {"mode": mode, "bits": bundle.bits, "size": size}} if mode else {}
    return reading | {
        "channels": bundle.channels,
        "height": bundle.height,
        "width": bundle.width,
        "layout": "batch, channels, height, width",
        "dtype": "float32",
        "range": [0, 1],
        "resize": "largest centred part of this shape, scaled: preprocess.py does it",
        "mean": bundle.mean,
        "std": bundle.std,
        "normalization": "(picture - mean) / std for each channel; model.pt2 does it itself",
    }


def _card(bundle: Bundle) -> str:
    from_file = bundle.channels in _PIL_MODES
    example = _EXAMPLE.format(
        imports="import preprocess\n\n" if from_file else "",
        reading=_READING if from_file else _READING_OTHER,
    )
    return _CARD.format(
        study=_plain(bundle.provenance["study"]),
        trial=_plain(bundle.provenance["trial"]),
        channels=bundle.channels,
        height=bundle.height,
        width=bundle.width,
        count=len(bundle.classes),
        classes=", ".join(_plain(name) for name in bundle.classes),
        preprocess=_PREPROCESS if from_file else "",
        example=example,
        architecture=bundle.genotype,
        provenance=_table(bundle.provenance),
        versions=_table(environment()),
    )


def _table(values: Mapping[str, object]) -> str:
    rows = [f"| {_plain(name)} | {_plain(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _plain(value: object) -> str:
    """Text that stays on its line and in its column of a Markdown table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
