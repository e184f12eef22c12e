import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zostudy.data.folders import image_folder, outline_image_folder
from zostudy.data.listing import list_pictures, shown
from zostudy.errors import DataError


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 10, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of two pictures each."""
    for name in ("cat", "dog"):
        for index in range(2):
            save(tmp_path / "own" / name / f"{index}.png")
    return tmp_path / "own"


def test_what_is_left_out_is_counted_by_its_reason(folder):
    (folder / "cat" / ".DS_Store").write_bytes(b"")
    (folder / "cat" / "._0.png").write_bytes(b"")
    (folder / "cat" / "Thumbs.db").write_bytes(b"")
    (folder / "cat" / "photo.HEIC").write_bytes(b"")
    (folder / "dog" / "photo.heic").write_bytes(b"")
    (folder / "dog" / "LICENSE").write_bytes(b"")
    (folder / "README.md").write_text("")
    (folder / "__MACOSX").mkdir()
    for index in range(3):
        save(folder / "dog" / "old" / f"{index}.png")
    (folder / "dog" / "empty").mkdir()
    listing = list_pictures(folder)
    assert len(listing.files) == 4
    assert listing.ignored == {
        ".db": 1,
        ".heic": 2,
        "hidden": 3,
        "in nested folders": 4,
        "outside the class folders": 1,
        "without a suffix": 1,
    }
    assert image_folder(root=str(folder)).reading.ignored == listing.ignored
    outline = outline_image_folder(root=str(folder), resize=0, channels="as_stored")
    assert outline.reading.ignored == listing.ignored


def test_where_nothing_is_left_out_nothing_is_said(folder):
    listing = list_pictures(folder)
    assert (listing.ignored, listing.remarks) == ({}, ())


def test_files_beside_the_parts_and_in_them_are_counted_too(folder):
    root = folder.parent / "parts"
    root.mkdir()
    folder.rename(root / "train")
    save(root / "test" / "dog" / "0.png")
    for place in (root, root / "train", root / "test"):
        (place / "labels.csv").write_text("")
    listing = list_pictures(root)
    assert (len(listing.files), listing.train) == (5, 4)
    assert listing.ignored == {"outside the class folders": 3}


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "apng", "pnm", "pbm", "dib", "jp2"])
def test_rarer_endings_of_formats_that_are_read_count(folder, suffix):
    kinds = {
        "pnm": "PPM",
        "pbm": "PPM",
        "jfif": "JPEG",
        "jpe": "JPEG",
        "JPG": "JPEG",
        "apng": "PNG",
        "jp2": "JPEG2000",
    }
    image = Image.new("1" if suffix == "pbm" else "RGB", (10, 9))
    image.save(folder / "dog" / f"x.{suffix}", format=kinds.get(suffix, suffix.upper()))
    assert len(image_folder(root=str(folder)).train) == 5


def test_links_to_pictures_and_to_class_folders_are_followed(folder, tmp_path):
    (folder / "cat" / "2.png").symlink_to(save(tmp_path / "elsewhere" / "a.png", 200))
    save(tmp_path / "elsewhere" / "b.png")
    (folder / "emu").symlink_to(tmp_path / "elsewhere")
    source = image_folder(root=str(folder))
    assert source.classes == ("cat", "dog", "emu")
    assert int(source.train.images[2].min()) == 200


def test_links_to_nothing_and_to_themselves_are_named(folder):
    (folder / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "cat" / "loop.png").symlink_to(folder / "cat" / "loop.png")
    with pytest.raises(DataError) as caught:
        image_folder(root=str(folder))
    one, other, last = str(caught.value).splitlines()
    assert "cat/gone.png cannot be read as a picture (No such file or directory)" in one
    assert "cat/loop.png cannot be read as a picture (Too many levels of symbolic links)" in other
    assert last == "dataset.root: 2 of 6 pictures cannot be read; mend or remove them"


def test_a_pipe_is_named_and_does_not_stop_anything(folder):
    os.mkfifo(folder / "dog" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png cannot be read .*it is not a regular file"):
        image_folder(root=str(folder))


def test_classes_that_differ_by_case_alone_are_read_apart_and_remarked_on(folder):
    for name in ("Cat", "e\u0301mu", "\u00e9mu"):
        for index in range(2):
            save(folder / name / f"{index}.png")
    source = image_folder(root=str(folder))
    assert source.classes == ("Cat", "cat", "dog", "e\u0301mu", "\u00e9mu")
    assert [remark.split(" differ")[0] for remark in source.reading.remarks] == [
        "the classes 'Cat' and 'cat'",
        "the classes 'e\u0301mu' and '\u00e9mu'",
    ]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", os.fsdecode(b"caf\xe9")])
def test_a_class_whose_name_cannot_be_printed_is_refused_in_one_line(folder, name):
    (folder / "dog").rename(folder / name)
    with pytest.raises(DataError, match=r"control characters or is not in UTF-8") as caught:
        image_folder(root=str(folder))
    assert str(caught.value).isprintable()


def test_a_file_whose_name_cannot_be_printed_is_read_or_named_in_one_line(folder):
    path = folder / "dog" / os.fsdecode(b"caf\xe9\n.png")
    save(path)
    assert len(image_folder(root=str(folder)).train) == 5
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"dog/caf\\udce9\\n\.png cannot be read") as caught:
        image_folder(root=str(folder))
    assert str(caught.value).isprintable()
    assert shown(Path("a\tb")) == "a\\tb"


def test_a_class_of_files_that_are_no_pictures_says_what_it_holds(folder):
    (folder / "emu").mkdir()
    for name in ("a.heic", "b.heic", "c.txt"):
        (folder / "emu" / name).write_text("")
    with pytest.raises(DataError, match=r"emu holds no pictures but 2 \.heic, 1 \.txt; allowed: "):
        image_folder(root=str(folder))


def test_a_link_of_a_folder_to_itself_ends(folder):
    (folder / "dog" / "up").symlink_to(folder)
    assert list_pictures(folder).ignored == {"in nested folders": 4}


@pytest.fixture
def without_rights():
    """A folder that everybody can reach, while the process has no rights of the administrator."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    user = os.geteuid()
    for name in ("cat", "dog"):
        for index in range(2):
            save(place / name / f"{index}.png").chmod(0o644)
    yield place, (lambda: os.seteuid(65_534) if user == 0 else None)
    os.seteuid(user)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()


@pytest.mark.parametrize(
    ("closed", "message"),
    [
        ("cat/0.png", r"cat/0\.png cannot be read as a picture \(Permission denied\)$"),
        ("cat", r"the folder .*cat cannot be read \(Permission denied\)$"),
        (".", r"the folder .* cannot be read \(Permission denied\)$"),
    ],
)
def test_what_may_not_be_read_is_one_line(without_rights, closed, message):
    place, drop_rights = without_rights
    (place / closed).chmod(0)
    drop_rights()
    with pytest.raises(DataError, match=message) as caught:
        image_folder(root=str(place))
    assert len(str(caught.value).splitlines()) == 1
