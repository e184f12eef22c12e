"""Habits that no linter keeps: short functions and files, one spelling."""

import ast
import re

import pytest

from tests.commands import ROOT

SOURCES = sorted(
    path for folder in ("zostudy", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
WRITTEN = sorted(
    [ROOT / "README.md", *SOURCES]
    + [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".py", ".css")]
)

LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 50

#: Stems that end in -ize here, as in Oxford's dictionary, and in -ise nowhere.
STEMS = "normali|initiali|optimi|regulari|synchroni|discreti|vectori"
OTHERWISE = re.compile(rf"\w*(?:{STEMS})s(?!m\b|t\b|tic)\w*", re.IGNORECASE)


def name(path):
    return path.relative_to(ROOT).as_posix()


def text(path):
    return path.read_text(encoding="utf-8")


def test_no_file_is_longer_than_a_reader_can_hold():
    lengths = {name(path): len(text(path).splitlines()) for path in SOURCES}
    assert {path: n for path, n in lengths.items() if n > LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_a_page():
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > LINES_OF_A_FUNCTION:
                    long[f"{name(path)}:{node.lineno} {node.name}"] = length
    assert long == {}


def test_words_are_spelt_as_oxford_does():
    found = {
        name(path): OTHERWISE.findall(text(path))
        for path in WRITTEN
        if path.name != "test_habits.py"
    }
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ("word", "other"),
    [("normalise", True), ("Synchronisation", True), ("normalize", False), ("optimism", False)],
)
def test_other_spellings_are_told_from_these(word, other):
    assert bool(OTHERWISE.findall(word)) == other
