"""Data sets that memory cannot hold are refused before any picture is read."""

import numpy as np
import pytest
from PIL import Image

from zostudy import host, registry
from zostudy.config.loading import from_document
from zostudy.data.dataset import load
from zostudy.errors import DataError
from zostudy.study.planning.data_size import check_data

EXTENSION = """
import torch
from zostudy.data.sources import Pictures, Source
from zostudy.registry import dataset


def outline_blank(*, count: int) -> Source:
    images = torch.empty(count, 1, 8, 8, dtype=torch.uint8, device="meta")
    return Source(Pictures(images, torch.arange(count) % 2), None, ("a", "b"))


@dataset("blank", outline="outline_blank")
def blank(*, count: int = 1_000_000) -> Source:
    raise AssertionError("pictures are read")
"""


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of 16×12 pixels, the first of them grey, in two classes."""
    for number in range(10):
        shape = (12, 16, 3) if number else (12, 16)
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(shape, 20 * number, np.uint8)).save(path)
    return tmp_path / "pictures"


def study(dataset, **further):
    return from_document({"study": "s", "dataset": dataset, **further})


@pytest.fixture
def available(monkeypatch):
    """Leaves this process so many bytes."""
    return lambda count: monkeypatch.setattr(host, "memory", lambda: count)


def test_a_side_that_memory_cannot_hold_is_refused_with_the_largest_that_it_can(folder, available):
    dataset = {"name": "image_folder", "root": str(folder), "resize": 4096}
    available(2**27)
    with pytest.raises(DataError) as caught:
        check_data(study(dataset))
    assert str(caught.value) == (
        "dataset.resize: 4096: 10 pictures of 4096×4096 pixels in 3 channels need 960.0 MB of "
        "memory to be read and split, and this process may use 128.0 MB; allowed: dataset.resize "
        "from 8 to 1495, or up to 1 of them"
    )
    check_data(study(dataset | {"resize": 1495}))


def test_pictures_as_they_are_stored_are_counted_too(folder, available):
    dataset = {"name": "image_folder", "root": str(folder)}
    available(2 * 10 * 3 * 12 * 16 - 1)
    with pytest.raises(DataError, match=r"^dataset\.root: .*: 10 pictures of 16×12 pixels in 3 ch"):
        check_data(study(dataset))
    available(2 * 10 * 3 * 12 * 16)
    check_data(study(dataset))


def test_every_swept_data_set_counts(folder, available):
    available(2**20)
    dataset = {"name": "image_folder", "root": str(folder), "resize": 16}
    sweep = {"parameters": {"dataset.resize": [16, 512]}}
    with pytest.raises(DataError, match=r"^dataset\.resize: 512: "):
        check_data(study(dataset, sweep=sweep))


def test_cifar_and_an_extension_are_counted_by_their_outlines(tmp_path, monkeypatch, available):
    (tmp_path / "blanks.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()
    available(2**26)
    blank = study({"name": "blank"}, extensions=["blanks"])
    for use in (check_data, lambda file: load(file.config.dataset, file.config.extensions)):
        with pytest.raises(DataError, match=r"^dataset\.name: blank: 1,000,000 pictures of 8×8 "):
            use(blank)
    cifar = {"name": "cifar10", "root": str(tmp_path)}
    check_data(study(cifar))  # it is not here
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(DataError, match=r"^dataset\.root: .*: 60,000 pictures of 32×32 pixels"):
        check_data(study(cifar))
