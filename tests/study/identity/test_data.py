import os

import numpy as np
import pytest
from PIL import Image

from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import load
from zostudy.study.identity import data


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def settings(tmp_path):
    for name in ("cat", "dog"):
        for index in range(6):
            picture(tmp_path / "pictures" / name / f"{index}.png", ord(name[0]) + index)
    (tmp_path / "own").mkdir()
    options = {"root": str(tmp_path / "pictures"), "resize": 0, "channels": "as_stored"}
    return DatasetSettings(name="image_folder", options=options)


@pytest.fixture
def reads(monkeypatch):
    """Counts how often the pictures are read."""
    counted = []

    def counting(settings, extensions, seed=None):
        counted.append(settings.name)
        return load(settings, extensions, seed)

    monkeypatch.setattr("zostudy.data.dataset.load", counting)
    return counted


def test_pictures_are_read_once_while_they_stay(settings, reads, tmp_path):
    own = tmp_path / "own"
    first = data.data_digest(settings, (), own)
    assert first == load(settings).digest
    assert data.data_digest(settings, (), own) == first
    assert len(reads) == 1


def test_a_study_that_was_never_run_gets_no_folder(settings, tmp_path):
    data.data_digest(settings, (), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def _add(folder):
    picture(folder / "dog" / "new.png", 99)


def _add_class(folder):
    for index in range(6):
        picture(folder / "wolf" / f"{index}.png", 200 + index)


def _change(folder):
    """Change pixels; the file keeps its size, and the time of its last change is put back."""
    path = folder / "dog" / "0.png"
    before, size = path.stat(), path.stat().st_size
    for seed in range(300, 400):
        picture(path, seed)
        if path.stat().st_size == size:
            break
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove(folder):
    (folder / "dog" / "0.png").unlink()


def _rename_class(folder):
    (folder / "dog").rename(folder / "wolf")


def _swap(folder):
    one, two = folder / "dog" / "0.png", folder / "dog" / "1.png"
    one.rename(folder / "kept")
    two.rename(one)
    (folder / "kept").rename(two)


@pytest.mark.parametrize("change", [_add, _add_class, _change, _remove, _rename_class, _swap])
def test_a_change_of_the_pictures_is_another_digest(settings, tmp_path, change):
    own = tmp_path / "own"
    first = data.data_digest(settings, (), own)
    change(tmp_path / "pictures")
    second = data.data_digest(settings, (), own)
    assert second == load(settings).digest
    assert second != first


def test_pictures_that_were_only_touched_have_the_digest_they_had(settings, tmp_path):
    first = data.data_digest(settings, (), tmp_path / "own")
    (tmp_path / "pictures" / "dog" / "0.png").touch()
    assert data.data_digest(settings, (), tmp_path / "own") == first


def test_other_splits_are_another_digest(settings, tmp_path):
    other = settings.model_copy(update={"seed": 1})
    own = tmp_path / "own"
    assert data.data_digest(settings, (), own) != data.data_digest(other, (), own)


def test_pictures_that_are_not_here_or_damaged_have_no_digest(settings, tmp_path):
    (tmp_path / "pictures" / "dog" / "0.png").write_bytes(b"no picture")
    assert data.data_digest(settings, (), tmp_path / "own") == ""
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    assert data.data_digest(settings, (), tmp_path / "own") == ""


def test_what_must_be_fetched_first_is_not_fetched_to_be_compared(tmp_path, monkeypatch):
    def refused(*_arguments, **_options):
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    cifar = DatasetSettings(name="cifar10", options={"root": str(tmp_path)})
    assert data.data_digest(cifar, (), tmp_path) == ""


def test_a_data_set_that_does_not_say_what_it_reads_is_read_each_time(reads, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "identity_sets.py").write_text(
        "from zostudy.data.sources import digits\nfrom zostudy.registry import dataset\n\n\n"
        '@dataset("mine")\ndef mine():\n    """Mine."""\n    return digits()\n'
    )
    mine, extensions = DatasetSettings(name="mine"), ("identity_sets",)
    found = {data.data_digest(mine, extensions, tmp_path) for _ in range(2)}
    assert (len(found), len(reads)) == (1, 2)
