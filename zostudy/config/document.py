"""Study files as documents: strict YAML, overrides by path, merging."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zostudy.errors import ConfigError

Document = dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that rejects duplicate keys and reads 1e-3 as a number."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Document:
    found: Document = {}
    for key_node, value_node in node.value:
        place = f"line {key_node.start_mark.line + 1}"
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{place}: merge keys (<<) are not allowed; write the keys out")
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ConfigError(f"{place}: key {key!r} is no text")
        if key in found:
            raise ConfigError(f"{place}: key {key!r} stands twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse(text: str) -> Any:  # noqa: ANN401  # a YAML document can be anything
    """The value that YAML text holds.

    Raises:
        ConfigError: The text is no YAML, holds a key twice, or is nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # derives from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{place}{getattr(error, 'problem', None) or 'no YAML'}") from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply") from error


def read(path: Path) -> Document:
    """A study file as a document.

    Raises:
        ConfigError: The file cannot be read, or is no mapping.
    """
    try:
        document = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: needs keys and values at its top; see `zostudy new`")
    return document


def assignment(text: str) -> tuple[str, Any]:
    """The path and the value of ``path=value``; the value is read as YAML.

    Raises:
        ConfigError: There is no ``=`` or no path.
    """
    path, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", path):
        raise ConfigError(f"--set {text!r}: needs the form path=value, such as search.epochs=10")
    try:
        return path, parse(value)
    except ConfigError as error:
        raise ConfigError(f"--set {path}: {error}") from error


def override(document: Document, values: Mapping[str, Any]) -> Document:
    """A copy of the document with some paths set.

    Raises:
        ConfigError: A path leads through something that has no keys.
    """
    result = copy.deepcopy(document)
    for path, value in values.items():
        *parents, last = _keys(path)
        place = result
        for depth, key in enumerate(parents):
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{path}: {'.'.join(parents[: depth + 1])} has no keys")
        place[last] = copy.deepcopy(value)
    return result


def _keys(path: str) -> list[str]:
    """The keys that a path leads through; a swept setting's own path is one key."""
    swept = "sweep.parameters."
    if path.startswith(swept):
        return [*swept.rstrip(".").split("."), path.removeprefix(swept)]
    return path.split(".")


def merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> Document:
    """Both documents in one; where both have a value, the second's wins."""
    result = copy.deepcopy(dict(base))
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
