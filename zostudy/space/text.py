"""What files say, as plain values: JSON, and text that is written like Python.

Nothing is evaluated. Text is bounded in size, and what is nested too deeply is refused.
"""

import ast
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from zostudy.errors import ArchitectureError

#: Characters of the longest text that is read as Python.
LONGEST = 256 * 1024

_SHOWN, _DEEPEST, _LONGEST_RANGE = 80, 8, 1000


def shown(value: object) -> str:
    """A value as an error message shows it, in one line and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def shown_names(names: Iterable[str]) -> str:
    """Names as an error message lists them."""
    text = ", ".join(map(repr, names))
    return (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…") or "none"


def json_value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    """What JSON holds; no object may have a key twice.

    Raises:
        ValueError: The text is no such JSON; the message is one line.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is there twice")
        found[key] = value
    return found


@dataclass(frozen=True)
class Entry:
    """A statement of text that is written like Python: a value, and the name it is given.

    Attributes:
        name: The name; empty where the value stands alone.
        value: The value, not looked at.
        line: Its line, from 1.
    """

    name: str
    value: ast.expr
    line: int


def entries(text: str) -> list[Entry]:
    """The assignments and values of a text; imports and a docstring are left out.

    Raises:
        ArchitectureError: It is no Python, or says something else.
    """
    found: list[Entry] = []
    for index, statement in enumerate(_parsed(text)):
        match statement:
            case ast.Assign(targets=targets, value=value):
                found += [Entry(_name(t), value, statement.lineno) for t in targets]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                found.append(Entry(_name(target), value, statement.lineno))
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.Expr(value=ast.Constant(value=str(words))) if not index and "|" not in words:
                pass  # a docstring
            case ast.Expr(value=value):
                found.append(Entry("", value, statement.lineno))
            case _:
                _refuse(statement, "allowed: NAME = value, and imports, which are not followed")
    return found


def expression(text: str) -> ast.expr:
    """The one value that a text holds.

    Raises:
        ArchitectureError: It holds something else, or more.
    """
    statements = _parsed(text)
    for statement in statements[1:]:
        _refuse(statement, "nothing may follow a genotype")
    if not statements or not isinstance(statements[0], ast.Expr):
        raise ArchitectureError(f"genotype: {shown(text[:_SHOWN])} is no value")
    return statements[0].value


def _parsed(text: str) -> list[ast.stmt]:
    if len(text) > LONGEST:
        raise ArchitectureError(f"genotype: {len(text):,} characters; allowed: {LONGEST:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            return ast.parse(text).body
    except SyntaxError as error:
        raise ArchitectureError(f"genotype: line {error.lineno or 1}: {error.msg}") from error
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise ArchitectureError(f"genotype: cannot be read ({reason})") from error


def _name(target: ast.expr) -> str:
    if not isinstance(target, ast.Name):
        _refuse(target, "a value is given to one name")
    return target.id


def _refuse(node: ast.stmt | ast.expr, allowed: str) -> NoReturn:
    raise ArchitectureError(f"genotype: line {node.lineno}: {source(node)} is not read; {allowed}")


def source(node: ast.AST) -> str:
    """What is written, as an error message shows it."""
    try:
        return shown(ast.unparse(node))
    except RecursionError:
        return "something nested deeply"


def source_of(node: ast.expr) -> str:
    """The text of a value.

    Raises:
        ArchitectureError: It is nested too deeply.
    """
    try:
        return ast.unparse(node)
    except RecursionError as error:
        raise ArchitectureError("genotype: is nested too deeply") from error


def listed(given: object) -> Sequence[Any]:
    """A list as it is.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(given, list | tuple):
        raise TypeError(f"{shown(given)} is no list")
    return given


def called(node: ast.expr) -> str:
    """The last name of what is called; empty where nothing is."""
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
    return ""


def arguments(call: ast.Call, order: Sequence[str]) -> dict[str, Any]:
    """The arguments of a call by name.

    Args:
        call: The call.
        order: The names of arguments that are given by their place.

    Raises:
        ArchitectureError: One is given twice, or is no plain value.
    """
    found: dict[str, Any] = {}
    if len(call.args) > len(order):
        raise ArchitectureError(
            f"genotype: {len(call.args)} arguments without a name; allowed: {', '.join(order)}"
        )
    placed = zip(order, call.args, strict=False)
    named = ((keyword.arg, keyword.value) for keyword in call.keywords)
    for name, node in (*placed, *named):
        if name is None or name in found:
            raise ArchitectureError(f"genotype: {name or '**'} is given more than once, or hidden")
        found[name] = value(node, f"genotype.{name}")
    return found


def value(node: ast.expr, place: str, depth: int = 0) -> Any:  # noqa: ANN401  # any plain value
    """A plain value: a text, a number, nothing, or a list of those; ranges are lists.

    Args:
        node: The value as it is written.
        place: What messages call it.
        depth: How deeply it is nested.

    Raises:
        ArchitectureError: It is something else.
    """
    match node:
        case ast.Constant(value=str() | int() | float() | None as plain) if not isinstance(
            plain, bool
        ):
            return plain
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=parts) | ast.Tuple(elts=parts) if depth < _DEEPEST:
            return [value(part, place, depth + 1) for part in parts]
        case ast.Call(func=ast.Name(id="range"), args=bounds, keywords=[]):
            return list(_range(bounds, place))
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inside], keywords=[]):
            given = value(inside, place, depth + 1) if depth < _DEEPEST else None
            if isinstance(given, list):
                return given
    raise ArchitectureError(
        f"{place}: not in the notation: {source(node)} is no plain value; "
        "allowed: lists of texts and numbers"
    )


def _range(bounds: Sequence[ast.expr], place: str) -> Iterator[int]:
    numbers = [value(bound, place) for bound in bounds]
    whole = all(isinstance(number, int) for number in numbers)
    if not (whole and 1 <= len(numbers) <= 3 and numbers[2:] != [0]):
        raise ArchitectureError(f"{place}: range of {shown(numbers)}; needs one to three numbers")
    found = range(*numbers)
    if max(map(abs, (found.start, found.stop))) > _LONGEST_RANGE:
        raise ArchitectureError(f"{place}: range of {shown(numbers)} is too long")
    return iter(found)
