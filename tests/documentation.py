"""What the documentation says, taken out of it: its pages, blocks, commands and study files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a language."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if match[2] == language:
            yield match[3]


def commands() -> dict[str, str]:
    """Every command of the documentation as one line, and the page that has it first."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                for command in line.split(" && "):
                    text = shlex.join(shlex.split(command, comments=True))
                    if text:
                        found.setdefault(text, name(page))
    return found


def without_code(page: Path) -> str:
    """A page's text, fenced blocks and code spans left out."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures."""
    yield from re.findall(r"\]\(([^)\s]+)\)", without_code(page))


def anchor(heading: str) -> str:
    """The anchor that Markdown gives a heading."""
    kept = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[\s-]+", "-", kept)
