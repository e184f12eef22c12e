"""The genotype that is meant in text with names, such as the file ``genotypes.py`` of public code.

``NAME = Genotype(…)``, ``NAME = '|…|'`` and ``NAME = OTHER`` are read; ``Genotype =
namedtuple('Genotype', …)`` says in which order arguments without a name stand; other values
(``PRIMITIVES = […]``) belong to no genotype.
"""

import ast
from collections.abc import Sequence

from zostudy.errors import ArchitectureError
from zostudy.options import nearest
from zostudy.space import text as texts
from zostudy.space.text import Entry, shown, shown_names


def genotype(text: str, name: str, openings: tuple[str, ...]) -> str:
    """The text of one genotype in a notation.

    Args:
        text: The whole text.
        name: The name of the genotype; empty where there is but one.
        openings: What texts of known notations begin with.

    Returns:
        Text that begins with one of the openings; the whole text where it holds none.

    Raises:
        ArchitectureError: There are several and none is named, or none of that name.
    """
    try:
        found = texts.entries(text)
    except ArchitectureError:
        if any(opening in text for opening in openings):
            raise
        return text  # no notation at all, which the caller says
    candidates = [entry for entry in found if _written(entry.value, found, openings)]
    _check_rest(found, candidates)
    if not candidates and not name:
        return text
    return _chosen(candidates, name, found, openings)


def _check_rest(found: Sequence[Entry], candidates: Sequence[Entry]) -> None:
    """Whether every value that has no name is a genotype."""
    for entry in found:
        if not entry.name and entry not in candidates and candidates:
            raise ArchitectureError(
                f"genotype: line {entry.line}: {texts.source(entry.value)} is no genotype"
            )


def _chosen(
    candidates: Sequence[Entry], name: str, found: Sequence[Entry], openings: tuple[str, ...]
) -> str:
    names = [entry.name for entry in candidates if entry.name]
    if name:
        hint = nearest(name[:100], names) or f"; there are {shown_names(names)}"
        lines = [entry.line for entry in found if entry.name == name]
        if name not in names:
            raise ArchitectureError(f"genotype: none is named {shown(name)}{hint}")
        if len(lines) > 1:
            raise ArchitectureError(
                f"genotype: {name!r} is given a value in the lines {', '.join(map(str, lines))}"
            )
        candidates = [entry for entry in candidates if entry.name == name]
    written = {_written(entry.value, found, openings) for entry in candidates}
    if len(written) > 1:
        raise ArchitectureError(
            f"genotype: there are several ({shown_names(names)}); say which by --name"
        )
    return written.pop()


def _written(value: ast.expr, found: Sequence[Entry], openings: tuple[str, ...]) -> str:
    """The text of a genotype in its notation; empty where a value is something else."""
    for _ in found:  # names that stand for names
        if not isinstance(value, ast.Name):
            break
        named = [entry.value for entry in found if entry.name == value.id]
        if len(named) != 1:
            return ""
        value = named[0]
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        text = value.value.strip()
        return text if text.startswith(openings) else ""
    if not isinstance(value, ast.Call) or f"{texts.called(value)}(" not in openings:
        return ""
    return texts.source_of(_by_name(value, found))


def _by_name(call: ast.Call, found: Sequence[Entry]) -> ast.Call:
    """A call whose arguments all have a name, where the text says the order of the others."""
    order = [
        field for entry in found if entry.name == texts.called(call) for field in _order(entry)
    ]
    placed = call.args[: len(order)]
    given = [ast.keyword(field, value) for field, value in zip(order, placed, strict=False)]
    function = ast.Name(texts.called(call))
    return ast.Call(function, call.args[len(placed) :], [*given, *call.keywords])


def _order(entry: Entry) -> list[str]:
    match entry.value:
        case ast.Call(args=[_, ast.Constant(value=str(fields))]):
            return fields.replace(",", " ").split()
        case ast.Call(args=[_, ast.List(elts=parts) | ast.Tuple(elts=parts)]):
            return [str(p.value) for p in parts if isinstance(p, ast.Constant)]
    return []
