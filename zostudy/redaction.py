"""Passwords stay where they are needed: every text that is shown or kept passes here first."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

_STARS = "***"
# Each pattern begins in one place of a word only: a text may be of any length.
_IN_URL = re.compile(r"(://[^\s:/@]*):\S*@")
_WITHOUT_SCHEME = re.compile(r"((?<![\w.+-])[\w.+-]+):[^\s/@:'\"]+@(?=\w)")
_NAMED = re.compile(r"((?:password|passwd|secret|token)=)[^\s&'\"]+", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN)$")
#: Shorter values of such variables are left alone: they are part of too many other words.
_SHORTEST = 4


def without_password(text: str) -> str:
    """Text with the passwords of the URLs and connection strings in it replaced by stars."""
    for pattern in (_IN_URL, _WITHOUT_SCHEME):
        text = pattern.sub(rf"\1:{_STARS}@", text)
    return _NAMED.sub(rf"\1{_STARS}", text)


def redacted(text: str) -> str:
    """Free text, such as an error's, without passwords, those of environment variables included."""
    text = without_password(text)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, _STARS)
    return text


def without_passwords(value: Any) -> Any:  # noqa: ANN401  # any JSON value, and the same kind back
    """A JSON value with the passwords of URLs in its texts replaced by stars."""
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, Mapping):
        return {key: without_passwords(held) for key, held in value.items()}
    if isinstance(value, Sequence):
        return [without_passwords(held) for held in value]
    return value


class RedactingFormatter(logging.Formatter):
    """Lines of a log, tracebacks included, without passwords."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return redacted(super().format(record))


def show_no_password() -> None:
    """Make this process write its logs and tracebacks to stderr without passwords."""
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, RedactingFormatter):
            root.removeHandler(old)
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter())
    root.addHandler(handler)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
