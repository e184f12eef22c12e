import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from benchmarks.data import FOLDER
from zostudy.config.settings import DatasetSettings
from zostudy.data import sources
from zostudy.data.dataset import load
from zostudy.data.sources import read_cifar
from zostudy.errors import DataError


def test_digits_are_real_scans_in_the_full_range_of_bytes():
    source = sources.digits()
    assert source.train.images.shape == (1797, 1, 8, 8)
    assert source.train.images.dtype == torch.uint8
    assert (int(source.train.images.min()), int(source.train.images.max())) == (0, 255)
    assert source.test is None
    assert source.classes == tuple("0123456789")
    assert int(torch.bincount(source.train.labels).min()) > 170


# --- CIFAR -------------------------------------------------------------------------------------


def cifar_files(label_bytes):
    """Three training files of two records and one test file of three, two classes."""

    def records(seed, count):
        raw = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), np.uint8)
        raw[:, :label_bytes] = 7  # a coarse label, which is not read
        raw[:, label_bytes - 1] = np.arange(count) % 2
        return raw

    train = {f"train{index}.bin": records(index, 2) for index in range(3)}
    return train, {"test.bin": records(9, 3)}


@pytest.fixture(params=[1, 2])
def cifar(request, tmp_path):
    """A tiny binary version: its layout, and its files by name."""
    label_bytes = request.param
    train, test = cifar_files(label_bytes)
    files = {name: raw.tobytes() for name, raw in (train | test).items()}
    files["names.txt"] = b"cat\ndog\n\n"
    archive = tmp_path / "server" / "tiny-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tiny-bin/{name}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    layout = dataclasses.replace(
        sources.CIFAR10,
        title="Tiny",
        url=archive.as_uri(),
        md5=hashlib.md5(archive.read_bytes()).hexdigest(),
        folder="tiny-bin",
        names="names.txt",
        train=dict.fromkeys(train, 2),
        test=dict.fromkeys(test, 3),
        label_bytes=label_bytes,
    )
    return layout, files


def assert_tiny(source, label_bytes):
    train, test = cifar_files(label_bytes)
    assert source.classes == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert source.test.labels.tolist() == [0, 1, 0]
    picture = train["train1.bin"][1, label_bytes:].reshape(3, 32, 32)
    assert np.array_equal(source.train.images[3], picture)
    assert np.array_equal(source.test.images[2].flatten(), test["test.bin"][2, label_bytes:])


def test_cifar_is_downloaded_once_and_leaves_the_archive_alone(cifar, tmp_path):
    layout, _ = cifar
    root = tmp_path / "new" / "data"
    assert_tiny(read_cifar(root, layout), layout.label_bytes)
    assert [path.name for path in root.iterdir()] == ["tiny-binary.tar.gz"]
    gone = dataclasses.replace(layout, url="file:///nowhere/tiny-binary.tar.gz")
    assert_tiny(read_cifar(root, gone), layout.label_bytes)


def test_cifar_is_read_from_an_extracted_folder(cifar, tmp_path):
    layout, files = cifar
    (tmp_path / layout.folder).mkdir()
    for name, content in files.items():
        (tmp_path / layout.folder / name).write_bytes(content)
    offline = dataclasses.replace(layout, url="file:///nowhere/tiny-binary.tar.gz")
    assert_tiny(read_cifar(tmp_path, offline), layout.label_bytes)


def test_cifar_offline_names_the_folder_and_every_file_and_writes_nothing(cifar, tmp_path):
    layout, files = cifar
    offline = dataclasses.replace(layout, url="file:///nowhere/tiny-binary.tar.gz")
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        read_cifar(tmp_path / "data", offline)
    for expected in (str(tmp_path / "data"), "tiny-binary.tar.gz", "tiny-bin/", *files):
        assert expected in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_download_with_the_wrong_checksum_leaves_nothing(cifar, tmp_path):
    layout, _ = cifar
    with pytest.raises(DataError, match=r"has MD5 .*Tiny of .* has 0000; remove the file"):
        read_cifar(tmp_path / "data", dataclasses.replace(layout, md5="0000"))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_half_archive_in_the_folder_is_refused(cifar, tmp_path):
    layout, _ = cifar
    (tmp_path / layout.archive).write_bytes(b"half")
    with pytest.raises(DataError, match=r"tiny-binary\.tar\.gz has MD5"):
        read_cifar(tmp_path, layout)


def test_a_cut_file_of_an_extracted_folder_is_refused(cifar, tmp_path):
    layout, files = cifar
    (tmp_path / layout.folder).mkdir()
    for name, content in files.items():
        (tmp_path / layout.folder / name).write_bytes(content)
    size = 3072 + layout.label_bytes
    (tmp_path / layout.folder / "train2.bin").write_bytes(bytes(size))
    message = rf"tiny-bin/train2\.bin holds {size} bytes; Tiny has {2 * size}"
    with pytest.raises(DataError, match=message):
        read_cifar(tmp_path, layout)


def test_cifar_names_that_are_not_ascii_are_refused(cifar, tmp_path):
    layout, files = cifar
    (tmp_path / layout.folder).mkdir()
    for name, content in (files | {"names.txt": b"cat\nd\xffg\n"}).items():
        (tmp_path / layout.folder / name).write_bytes(content)
    with pytest.raises(DataError, match=r"names\.txt is damaged: byte 5 is not ASCII"):
        read_cifar(tmp_path, layout)


def test_a_folder_in_the_place_of_the_cifar_archive_is_named(cifar, tmp_path):
    layout, _ = cifar
    (tmp_path / layout.archive).mkdir()
    with pytest.raises(DataError, match=r"tiny-binary\.tar\.gz cannot be read \(Is a directory\)"):
        read_cifar(tmp_path, layout)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_published_layouts_hold_fifty_and_ten_thousand_pictures(name, classes, tmp_path):
    layout = {"cifar10": sources.CIFAR10, "cifar100": sources.CIFAR100}[name]
    folder = tmp_path / layout.folder
    folder.mkdir()
    (folder / layout.names).write_text("\n".join(f"c{index}" for index in range(classes)))
    for file, count in {**layout.train, **layout.test}.items():
        raw = np.zeros((count, layout.label_bytes + 3072), np.uint8)
        raw[:, layout.label_bytes - 1] = np.arange(count) % classes
        (folder / file).write_bytes(raw.tobytes())
    source = getattr(sources, name)(root=str(tmp_path))
    assert source.train.images.shape == (50_000, 3, 32, 32)
    assert source.test.images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(source.test.labels).tolist() == [10_000 // classes] * classes


# --- real pictures -----------------------------------------------------------------------------


@pytest.mark.slow
def test_fifteen_thousand_real_jpegs_load_as_a_study_sees_them(tmp_path):
    archive = FOLDER / "cifar10_jpeg_15k.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there; set ZOSTUDY_DATA to its folder")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    root = str(tmp_path / "cifar10_jpeg")
    dataset = load(DatasetSettings(name="image_folder", options={"root": root}))
    assert len(dataset.classes) == 10
    assert torch.bincount(dataset.train.labels).tolist() == [960] * 10
    assert torch.bincount(dataset.validation.labels).tolist() == [240] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [300] * 10
    # The known statistics of CIFAR-10's training part, to within JPEG and a fifth of the pictures.
    assert dataset.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.01)
    assert dataset.std == pytest.approx((0.247, 0.243, 0.262), abs=0.01)
