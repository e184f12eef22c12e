"""What is wrong with a document, in lines: the place, the value and what is allowed there.

pydantic says what is wrong in terms of Python's types and of its own validators. Its errors are
read here for their places only; what is allowed at a place follows from the settings' JSON schema.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zostudy.options import nearest, shown

Schema = Mapping[str, Any]
Place = tuple[str | int, ...]


def lines(
    model: type[BaseModel], document: object, error: ValidationError, place: str = ""
) -> list[str]:
    """A line for every mistake in a document.

    Args:
        model: The settings that the document should be.
        document: The document.
        error: What pydantic says of it.
        place: The path of the document in the study file.
    """
    found: dict[Place, str] = {}
    for item in error.errors(include_url=False):
        at = _place(document, item)
        if at not in found or item["type"] == "value_error":  # which says more than a wrong kind
            found[at] = _line(model, document, item, at, place)
    # Of a value that may be of several kinds, all are reported; what lies deepest says most.
    return [text for at, text in found.items() if not _has_deeper(at, found, document)]


def _has_deeper(at: Place, places: Iterable[Place], document: object) -> bool:
    """Whether something is wrong inside the value at a place, which is a list or has keys."""
    inside = [other for other in places if len(other) > len(at) and other[: len(at)] == at]
    return bool(inside) and bool(at) and isinstance(_value(document, at), dict | list)


def _place(document: object, item: ErrorDetails) -> Place:
    """The keys of the document that lead to an error; pydantic puts names of types between them."""
    found: list[str | int] = []
    current: Any = document
    loc = item["loc"]
    for depth, part in enumerate(loc):
        if _holds(current, part):
            current = current[part]
        elif not (item["type"] == "missing" and isinstance(part, str) and depth == len(loc) - 1):
            continue
        found.append(part)
    return tuple(found)


def _holds(value: object, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _value(document: object, at: Place) -> Any:  # noqa: ANN401  # any JSON value
    current: Any = document
    for part in at:
        current = current[part]
    return current


def _line(
    model: type[BaseModel], document: object, item: ErrorDetails, at: Place, place: str
) -> str:
    path = _path(place, at)
    schema = _schema_at(_schema(model), at)
    if item["type"] == "extra_forbidden":
        fields = [
            name for name in _fields(_schema_at(_schema(model), at[:-1])) if name != "options"
        ]
        hint = nearest(str(at[-1]), fields) or (f"; known: {', '.join(fields)}" if fields else "")
        return f"{path}: unknown key{hint}"
    if item["type"] == "missing" and isinstance(item["loc"][-1], str):
        return f"{path}: is missing and has no default"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and "x-allowed" not in schema:
        section = f"{path}." if path and not message.startswith(f"{path.split('.')[0]}.") else ""
        return f"{section}{message}"
    value = _value(document, at)
    near = nearest(value, _choices(schema)) if isinstance(value, str) else ""
    return f"{path or 'study file'}: {shown(value)} is not allowed: needs {allowed(schema)}{near}"


def _path(place: str, at: Place) -> str:
    text = place
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@functools.cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _schema_at(whole: Schema, at: Sequence[str | int]) -> Schema:
    """What the schema says of a place, all references resolved; nothing where it says nothing."""
    current = _resolved(whole, whole)
    for part in at:
        branches = [_resolved(whole, branch) for branch in current.get("anyOf", [current])]
        inner = [found for branch in branches if (found := _inside(branch, part)) is not None]
        current = _resolved(whole, inner[0]) if inner else {}
    if "anyOf" in current:
        return {**current, "anyOf": [_resolved(whole, branch) for branch in current["anyOf"]]}
    return current


def _inside(schema: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        ahead = schema.get("prefixItems", [])
        found = ahead[part] if part < len(ahead) else schema.get("items")
    else:
        found = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _resolved(whole: Schema, schema: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = whole["$defs"][reference.rsplit("/", 1)[-1]]
    return found


def _fields(schema: Schema) -> list[str]:
    branches = schema.get("anyOf", [schema])
    return [name for branch in branches for name in branch.get("properties", {})]


def _choices(schema: Schema) -> list[str]:
    branches = schema.get("anyOf", [schema])
    return [
        str(value)
        for branch in branches
        for value in branch.get("enum", [branch["const"]] if "const" in branch else [])
    ]


def allowed(schema: Schema) -> str:
    """What a JSON schema allows, in words."""
    if "x-allowed" in schema:
        return str(schema["x-allowed"])
    if "anyOf" in schema:
        branches = [one for one in schema["anyOf"] if one.get("type") != "null"]  # left out
        return ", or ".join(map(allowed, branches))
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema:
        return repr(schema["const"])
    kind = schema.get("type", "")
    if kind in ("integer", "number"):
        return f"{'an integer' if kind == 'integer' else 'a number'}{_range(schema)}"
    if kind == "array":
        return _list(schema)
    if kind == "object":
        fields = ", ".join(name for name in _fields(schema) if name != "options")
        return f"keys with values{f' ({fields})' if fields else ''}"
    return {"boolean": "true or false", "string": "text"}.get(str(kind), "another value")


def _list(schema: Schema) -> str:
    ahead = schema.get("prefixItems")
    if ahead:
        return f"a list of {len(ahead)} values, each {allowed(ahead[0])}"
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f" of {least} to {most} values" if most else " of values"
    inner = schema.get("items", {})
    return f"a list{count}{f', each {allowed(inner)}' if inner.get('type') else ''}"


def _range(schema: Schema) -> str:
    """The interval of a number, such as ``from 1 to 64``."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    start = (
        f" from {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    )
    if high is not None:
        most = f"{high}" if isinstance(high, int) else f"{high:g}"
        return (
            f"{start} to {most}" if low is not None else f"{start}{',' * bool(start)} up to {most}"
        )
    if below is not None:
        return f"{start}{',' * bool(start)} below {below:g}"
    return f"{start} up" if low is not None else start
