from dataclasses import replace

from zostudy.config.settings import DatasetSettings
from zostudy.data.dataset import outline
from zostudy.data.sources import Reading
from zostudy.study.report.data_summary import document, sentences


def test_a_data_set_is_one_sentence_and_one_for_what_was_ignored_and_each_remark():
    digits = outline(DatasetSettings())
    read = (
        "data set digits: 1,797 pictures of 8×8 pixels (grey) in 10 classes; "
        "1,151 train, 287 validation, 359 test"
    )
    assert sentences(digits) == [read]
    reading = Reading({".txt": 2, "hidden": 1}, ("A remark.",))
    noted = replace(digits, reading=reading, validation=None)
    assert sentences(noted)[0].endswith("; 1,151 train, 359 test")
    assert sentences(noted)[1:] == ["  3 files were ignored: 2 .txt, 1 hidden", "  A remark."]


def test_the_document_has_the_same_figures():
    reading = Reading({".txt": 2}, ("A remark.",))
    found = document(replace(outline(DatasetSettings()), reading=reading))
    assert found == {
        "name": "digits",
        "pictures": 1797,
        "classes": 10,
        "parts": {"train": 1151, "validation": 287, "test": 359},
        "channels": 1,
        "height": 8,
        "width": 8,
        "ignored": {".txt": 2},
        "remarks": ["A remark."],
    }
