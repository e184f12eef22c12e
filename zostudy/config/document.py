"""Study files as documents: strict YAML, overrides by path, merging."""

import codecs
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from zostudy.config import strict_yaml
from zostudy.errors import ConfigError

T = TypeVar("T")

Document = dict[str, Any]

_log = logging.getLogger(__name__)

#: Bytes of the largest study file that is read.
_MOST_BYTES = 2**20

_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def parse(text: str) -> Any:  # noqa: ANN401  # a YAML document can be anything
    """The value that YAML text holds.

    Raises:
        ConfigError: The text is no YAML, holds a key twice, or is nested too deeply.
    """
    return strict_yaml.load(text).value


def read(path: Path) -> Document:
    """A study file as a document.

    Raises:
        ConfigError: The file cannot be read, or is no mapping.
    """
    document: Document = read_with_lines(path).value
    return document


def read_with_lines(path: Path) -> strict_yaml.Read:
    """A study file as a document, with what is not read as it looks, which is warned of.

    Raises:
        ConfigError: The file cannot be read, or is no mapping.
    """
    try:
        found = strict_yaml.load(_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(found.value, dict):
        raise ConfigError(f"{path}: needs keys and values at its top; see `zostudy new`")
    for line in found.warnings():
        _log.warning("warning: %s: %s", path, line)
    return found


def _text(path: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: It is too large, or no UTF-8 text.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"is larger than {_MOST_BYTES:,} bytes; is it a study file?")
    for mark, name in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ConfigError(f"is no UTF-8 text but {name}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise ConfigError(f"line {line}: byte 0x{byte:02x} is no UTF-8 text") from error


def assignment(text: str) -> tuple[str, Any]:
    """The path and the value of ``path=value``; the value is read as YAML.

    Raises:
        ConfigError: There is no ``=`` or no path.
    """
    path, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", path):
        raise ConfigError(f"--set {text!r}: needs the form path=value, such as search.epochs=10")
    try:
        found = strict_yaml.load(value)
    except ConfigError as error:
        raise ConfigError(f"--set {path}: {error}") from error
    for line in found.warnings():
        _log.warning("warning: --set %s: %s", path, line)
    return path, found.value


def override(document: Document, values: Mapping[str, Any]) -> Document:
    """A copy of the document with some paths set.

    Raises:
        ConfigError: A path leads through something that has no keys.
    """
    result = copied(document)
    for path, value in values.items():
        *parents, last = _keys(path)
        place = result
        for depth, key in enumerate(parents):
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{path}: {'.'.join(parents[: depth + 1])} has no keys")
        place[last] = copied(value)
    return result


def _keys(path: str) -> list[str]:
    """The keys that a path leads through; a swept setting's own path is one key."""
    swept = "sweep.parameters."
    if path.startswith(swept):
        return [*swept.rstrip(".").split("."), path.removeprefix(swept)]
    return path.split(".")


def merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> Document:
    """Both documents in one; where both have a value, the second's wins."""
    result = copied(dict(base))
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copied(value)
    return result


def copied(value: T) -> T:
    """A value of a document with lists and dictionaries of its own."""
    found: Any = value
    if isinstance(value, dict):
        found = {k: copied(v) if isinstance(v, dict | list) else v for k, v in value.items()}
    elif isinstance(value, list):
        found = [copied(inner) for inner in value]
    return cast("T", found)
