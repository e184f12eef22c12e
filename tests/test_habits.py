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

#: Words that are spelt with -ize here, as Oxford does; a class of one letter keeps this file out.
SPELLING = re.compile(
    r"\w*(?:normali|initiali|optimi|regulari|synchroni|discreti|vectori)[s](?!m\b|t\b|tic)\w*",
    re.IGNORECASE,
)


def name(path):
    return path.relative_to(ROOT).as_posix()


def text(path):
    return path.read_text(encoding="utf-8")


def test_no_file_is_longer_than_a_reader_can_hold():
    lengths = {name(path): len(text(path).splitlines()) for path in SOURCES}
    assert {path: n for path, n in lengths.items() if n > LINES_OF_A_FILE} == {}


def documented(node):
    """The lines of a function's docstring."""
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return first.end_lineno - first.lineno + 1


def test_no_function_is_longer_than_a_page():
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1 - documented(node)
                if length > LINES_OF_A_FUNCTION:
                    long[f"{name(path)}:{node.lineno} {node.name}"] = length
    assert long == {}


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_words_are_spelt_as_oxford_does(path):
    assert SPELLING.findall(text(path)) == []
