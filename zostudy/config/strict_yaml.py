"""YAML as study files use it: text, numbers, true and false, lists, and keys with values.

Text becomes nodes by PyYAML, which knows every node's line, and nodes become values here, so that
whatever is wrong is named by its line and its key. Dates, tags, merge keys and aliases without end
are refused; numbers that YAML 1.1 does not read as they look (``010``, ``1:30``) are noted.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from zostudy.errors import ConfigError

#: Deepest nesting of lists and keys; a study file needs five levels.
_DEEPEST = 50
#: Values that a text may hold once its aliases are followed.
_MOST_VALUES = 200_000
_TAGS = "tag:yaml.org,2002:"
_OCTAL, _SEXAGESIMAL = "an octal number", "a number of base 60"
_INTEGERS = range(-(2**63), 2**63)
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_FLOAT_WITHOUT_POINT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$", re.ASCII)

#: What PyYAML says, and what it means to somebody who writes a study file.
_PROBLEMS = {
    "cannot start any token": "a tab, or a character that cannot stand here; indent with spaces, "
    "and put text with special characters in quotes",
    "but found another document": "a second document begins here; needs one, without '---' lines",
    "expected <block end>": "does not fit the indentation of the lines before",
    "could not find expected ':'": "a key without ':', or text that is not closed",
    "found unexpected end of stream": "a quote that is not closed",
    "mapping values are not allowed here": "mapping values are not allowed here: a key stands "
    "where none can, or a text holds ': ' and needs quotes",
    "but found '<stream end>'": "a list or keys in brackets that are not closed",
    "expected ',' or": "a list or keys in brackets that are not closed, or lack a comma",
}


@dataclass(frozen=True)
class Written:
    """A scalar that YAML does not read as it looks.

    Attributes:
        line: Its line, from 1.
        text: What is written.
        value: What YAML reads.
        why: The notation that YAML takes it for, of a number; else empty.
    """

    line: int
    text: str
    value: object
    why: str = ""

    @property
    def meant(self) -> str:
        """What to write instead."""
        plain = self.text.lstrip("+-0") if self.why == _OCTAL else f"'{self.text}' for text"
        return f"{self.value}, or {plain}"


@dataclass(frozen=True)
class Read:
    """What a YAML text holds.

    Attributes:
        value: The value.
        written: By their paths, the scalars that are not read as they look.
    """

    value: Any
    written: Mapping[str, Written]

    def warnings(self) -> list[str]:
        """A line for every number in a notation that few people mean."""
        return [
            f"line {found.line}: {f'{path}: ' if path else ''}{found.text} is {found.value} in "
            f"YAML, which takes it for {found.why}; write {found.meant}"
            for path, found in self.written.items()
            if found.why
        ]

    def explained(self, message: str, but: Iterable[str] = ()) -> str:
        """The lines of an error, each with what is written at its place where that looks else.

        Args:
            message: The error.
            but: Paths whose values do not come from this text.
        """
        known = {path: found for path, found in self.written.items() if path not in set(but)}
        return "\n".join(_explained(line, known) for line in message.splitlines())


def _explained(line: str, written: Mapping[str, Written]) -> str:
    found = written.get(line.partition(": ")[0])
    if found is None:
        return line
    if not found.text:
        return f"{line} (line {found.line} has no value)"
    read = {"True": "true", "False": "false", "None": "no value"}.get(str(found.value), found.value)
    text = f"line {found.line}: {found.text} is {read} in YAML; for text: '{found.text}'"
    return f"{line} ({text})"


def load(text: str) -> Read:
    """The value that YAML text holds.

    Raises:
        ConfigError: The text is no YAML, holds a key twice, is nested too deeply, or holds what no
            setting can be; the message names the line and, where it is known, the key.
    """
    wrong = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if wrong:
        raise ConfigError(
            f"line {_line_at(text, wrong.start())}: holds the control character "
            f"U+{ord(wrong[0]):04X}; remove it, and save the file as UTF-8 text"
        )
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError(_problem(error, text)) from error
    finally:
        loader.dispose()
    reader = _Reader(loader)
    return Read(None if node is None else reader.value(node, ""), reader.written)


def _line_at(text: str, position: int) -> int:
    return len(_LINE_BREAK.findall(text, 0, position)) + 1


def _problem(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with the syntax, its line and what stands there."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or "is no YAML")
    meant = next((plain for known, plain in _PROBLEMS.items() if known in said), said)
    if mark is None:
        return meant
    lines = _LINE_BREAK.split(text)
    there = lines[mark.line].strip()[:60] if mark.line < len(lines) else ""
    return f"line {mark.line + 1}: {meant}{f' (at {there!r})' if there else ''}"


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number and is not nested without end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node, as PyYAML composes it, unless it is nested too deeply."""
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's
            line = mark.line + 1
            raise ConfigError(f"line {line}: is nested too deeply; allowed: {_DEEPEST} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.add_implicit_resolver(f"{_TAGS}float", _FLOAT_WITHOUT_POINT, list("-+0123456789."))


@dataclass
class _Reader:
    """Makes values of nodes.

    Attributes:
        loader: PyYAML's, which knows how numbers are written.
        written: By their paths, the scalars that are not read as they look.
        count: Values so far.
        open: The nodes that the present one lies in.
    """

    loader: _Loader
    written: dict[str, Written] = field(default_factory=dict)
    count: int = 0
    open: list[yaml.Node] = field(default_factory=list)

    def value(self, node: yaml.Node, path: str) -> Any:  # noqa: ANN401  # any value
        """The value of a node.

        Args:
            node: The node.
            path: The keys that lead to it.
        """
        if any(node is outer for outer in self.open):
            raise _error(node, path, "an alias leads back to what it stands in; write it out")
        self.count += 1
        if self.count > _MOST_VALUES:
            raise _error(node, path, f"its aliases make more than {_MOST_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.open.append(node)
        try:
            return self._collection(node, path)
        finally:
            self.open.pop()

    def _collection(self, node: yaml.Node, path: str) -> Any:  # noqa: ANN401  # list or dictionary
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAGS}seq":
            return [self.value(inner, f"{path}[{i}]") for i, inner in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAGS}map":
            return self._mapping(node, path)
        raise _tagged(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = f"line {key_node.start_mark.line + 1}"
            inside = f" in {_cut(path)!r}" if path else ""
            if key_node.tag == f"{_TAGS}merge":
                text = "merge keys (<<) are not allowed"
                raise ConfigError(f"{place}: {text}{inside}; write the keys out")
            key = self.value(key_node, path)
            if not isinstance(key, str):
                raise ConfigError(f"{place}: key {key!r} is no text{inside}; put it in quotes")
            if key in found:
                raise ConfigError(f"{place}: key {_cut(key)!r} stands twice{inside}")
            found[key] = self.value(value_node, f"{path}.{key}" if path else key)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:  # noqa: ANN401  # text, number, bool or None
        kind = node.tag.removeprefix(_TAGS)
        if kind in ("str", "value", "merge"):
            return _text(node, path)
        if kind == "timestamp":
            text = f"{node.value} is a date in YAML, and no setting is one; for text: "
            raise _error(node, path, f"{text}'{node.value}'")
        if kind not in ("int", "float", "bool", "null"):
            raise _tagged(node, path)
        try:
            found = getattr(self, f"_{kind}")(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise _error(node, path, f"{_cut(node.value)!r} is no {_KINDS[kind]}") from error
        if kind in ("int", "float") and not _usable(found):
            text = f"{_cut(node.value)} is not allowed; allowed: finite numbers, whole ones from "
            raise _error(node, path, f"{text}-2^63 to 2^63 - 1")
        self._note(node, path, found)
        return found

    def _int(self, node: yaml.ScalarNode) -> int:
        return int(self.loader.construct_yaml_int(node))

    def _float(self, node: yaml.ScalarNode) -> float:
        return float(self.loader.construct_yaml_float(node))

    def _bool(self, node: yaml.ScalarNode) -> bool:
        return bool(self.loader.bool_values[node.value.lower()])

    def _null(self, node: yaml.ScalarNode) -> None:
        if node.value.lower() not in ("", "~", "null"):
            raise ValueError

    def _note(self, node: yaml.ScalarNode, path: str, found: object) -> None:
        """Keep what is written where it looks like something else."""
        text, plain = node.value, node.style is None
        if not plain or isinstance(found, bool | None):
            looks = text.lower() in ("true", "false", "null")
            why = ""
        else:
            why = _SEXAGESIMAL if ":" in text else ""
            if re.fullmatch(r"[-+]?0[0-7_]+", text) and int(text.replace("_", "")) != found:
                why = _OCTAL
            looks = not why
        if not looks and plain:
            self.written[path] = Written(node.start_mark.line + 1, text, found, why)


_KINDS = {"int": "whole number", "float": "number", "bool": "truth value", "null": "null"}


def _usable(number: float) -> bool:
    return number in _INTEGERS if isinstance(number, int) else math.isfinite(number)


def _text(node: yaml.ScalarNode, path: str) -> str:
    """The text of a scalar, in which an escape may have hidden a control character."""
    text: str = node.value
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n":
            wrong = f"holds the control character U+{ord(character):04X}; remove it"
            raise _error(node, path, wrong)
    return text


def _tagged(node: yaml.Node, path: str) -> ConfigError:
    tag = node.tag.replace(_TAGS, "!!")
    return _error(
        node,
        path,
        f"tag {_cut(tag)} is not allowed here; allowed: text, numbers, true, false, lists, and "
        "keys with values, without tags",
    )


def _error(node: yaml.Node, path: str, text: str) -> ConfigError:
    return ConfigError(
        f"line {node.start_mark.line + 1}: {f'{_cut(path)}: ' if path else ''}{text}"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
