"""Files and folders that appear whole or not at all."""

import pytest

from zostudy.study.disk.whole_files import whole_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_the_one_that_was_there(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "parents" / "made") as folder:
            (folder / content).write_text(content)
            assert "made" not in names(tmp_path / "parents") or content == "new"
    assert names(tmp_path / "parents") == ["made"]
    assert names(tmp_path / "parents" / "made") == ["new"]


def test_a_folder_that_is_not_finished_leaves_what_was_there(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").write_text("old")
    with pytest.raises(IsADirectoryError), whole_folder(tmp_path / "made") as folder:
        folder.write_text("new")
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["old"]


def test_a_folder_that_cannot_take_its_place_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").write_text("old")
    moved = type(tmp_path).replace

    def replace(path, target):
        if (path / "new").exists():
            raise OSError("no")
        return moved(path, target)

    monkeypatch.setattr(type(tmp_path), "replace", replace)
    with pytest.raises(OSError, match="no"), whole_folder(tmp_path / "made") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["old"]
