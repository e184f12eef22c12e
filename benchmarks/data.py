"""Real data that benchmarks read: the folder that ZOSTUDY_DATA names."""

import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zostudy.proxies.inputs import ProxyInputs

FOLDER = Path(os.environ.get("ZOSTUDY_DATA", Path(__file__).parents[2] / "shared" / "data"))


def there(name: str) -> Path:
    """A file of the folder; without it the benchmark ends, and says so."""
    path = FOLDER / name
    if not path.exists():
        sys.exit(f"{path} is not there; ZOSTUDY_DATA names the folder that holds it")
    return path


def cifar10(count: int, seed: int) -> ProxyInputs:
    """Random training pictures of CIFAR-10, as many of each class, normalized by their own pixels.

    Args:
        count: Pictures; a multiple of 10.
        seed: Seed of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    by_class: dict[str, list[bytes]] = {}
    with tarfile.open(there("cifar10_jpeg_15k.tar.gz")) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[1] == "train":
                file = archive.extractfile(member)
                by_class.setdefault(parts[2], []).append(file.read() if file else b"")
    pictures, labels = [], []
    for label, name in enumerate(sorted(by_class)):
        order = torch.randperm(len(by_class[name]), generator=generator)
        for index in order[: count // 10].tolist():
            pixels = np.asarray(Image.open(io.BytesIO(by_class[name][index])).convert("RGB"))
            pictures.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
            labels.append(label)
    images = torch.stack(pictures).float()
    deviation, mean = torch.std_mean(images, dim=(0, 2, 3), keepdim=True)
    return ProxyInputs((images - mean) / deviation, torch.tensor(labels), seed)
