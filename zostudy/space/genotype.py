"""A discrete architecture: for each cell type and intermediate node, the edges and operations kept.

In JSON::

    {"search_space": "darts",
     "cells": {"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], …], "reduction": […]}}

Entry n of a cell lists the kept edges of intermediate node n as pairs (operation, source node).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zostudy.errors import ArchitectureError
from zostudy.options import nearest
from zostudy.registry import components
from zostudy.space import named
from zostudy.space import text as texts
from zostudy.space.notation import by_nodes, checked_pair
from zostudy.space.search_space import Node, Notation, SearchSpace, search_space
from zostudy.space.text import listed, shown, shown_names

#: The zero operation's output, in a canonical form.
_ZERO = "#"


@dataclass(frozen=True)
class Genotype:
    """A validated discrete architecture.

    Attributes:
        space: The search space it belongs to.
        cells: For each cell type, for each intermediate node, its (operation, source) pairs in
            the order of their sources.

    Raises:
        ArchitectureError: It does not fit the search space.
    """

    space: SearchSpace
    cells: Mapping[str, tuple[Node, ...]]

    def __post_init__(self) -> None:
        if set(self.cells) != set(self.space.cell_types):
            raise ArchitectureError(
                f"genotype.cells: cell types are {shown_names(self.cells)}; "
                f"{self.space.name!r} has {', '.join(map(repr, self.space.cell_types))}"
            )
        ordered = {}
        for kind in self.space.cell_types:
            self._check_cell(kind)
            ordered[kind] = tuple(
                tuple(sorted(node, key=lambda pair: pair[1])) for node in self.cells[kind]
            )
        object.__setattr__(self, "cells", ordered)

    def _check_cell(self, kind: str) -> None:
        nodes = self.cells[kind]
        if len(nodes) != self.space.nodes:
            raise ArchitectureError(
                f"genotype.cells.{kind}: {len(nodes)} nodes; "
                f"{self.space.name!r} has {self.space.nodes}"
            )
        for target, node in zip(self.space.targets, nodes, strict=True):
            self._check_node(f"genotype.cells.{kind}[{target - self.space.inputs}]", target, node)

    def _check_node(self, place: str, target: int, node: Node) -> None:
        sources = [source for _, source in node]
        needed = self.space.kept(target)
        if len(node) != needed or len(set(sources)) != len(sources):
            raise ArchitectureError(
                f"{place}: inputs {shown(sources)}; needs {needed} different ones"
            )
        for name, source in node:
            if name not in self.space.keepable:
                hint = nearest(name[:100], self.space.keepable)
                hint = hint or f"; allowed: {', '.join(self.space.keepable)}"
                raise ArchitectureError(f"{place}: operation {shown(name)} is not allowed{hint}")
            if not 0 <= source < target:
                raise ArchitectureError(
                    f"{place}: input {shown(source)} is not allowed; allowed: 0 to {target - 1}"
                )

    def __hash__(self) -> int:
        return hash(self.to_json())

    def operations(self) -> Iterator[tuple[str, int, int, str]]:
        """Every operation: cell type, the nodes that its edge leaves and enters, and its name."""
        for kind, nodes in self.cells.items():
            for target, node in zip(self.space.targets, nodes, strict=True):
                for name, source in node:
                    yield kind, source, target, name

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as in JSON."""
        cells = {
            kind: [[[name, source] for name, source in node] for node in nodes]
            for kind, nodes in self.cells.items()
        }
        return {"search_space": self.space.name, "cells": cells}

    def to_json(self) -> str:
        """One line of JSON; equal genotypes give equal text."""
        return json.dumps(self.to_dict(), separators=(", ", ": "))

    def to_notation(self) -> str:
        """The text that public code writes for it; see the search space's notation.

        Raises:
            ArchitectureError: The search space has no notation.
        """
        if self.space.notation is None:
            raise ArchitectureError(f"genotype: {self.space.name!r} has no notation")
        return self.space.notation.write(self.cells, self.space)

    def canonical(self) -> str:
        """Text that is equal for isomorphic architectures.

        Each node is written as the expression of the cell's inputs that it computes: operations
        around their sources, the terms of a sum in order; what is the identity is left out, and
        the zero operation, or any operation on it, is ``#``. Cells whose outputs have equal
        expressions are isomorphic. As in NATS-Bench, a sum of zeros only is not taken for zero.

        References:
            Dong and Yang 2020, "NAS-Bench-201", section 2.1; the unique string of NATS-Bench.
        """
        return " | ".join(self._expression(kind) for kind in self.space.cell_types)

    def _expression(self, kind: str) -> str:
        space = self.space
        nodes = [str(source) for source in range(space.inputs)]
        for node in self.cells[kind]:
            terms = []
            for name, source in node:
                if name == space.zero or nodes[source] == _ZERO:
                    terms.append(_ZERO)
                elif name == space.identity and space.stride(kind, source) == 1:
                    terms.append(nodes[source])
                else:
                    terms.append(f"({nodes[source]})@{name}")
            nodes.append("+".join(sorted(terms)))
        return nodes[-1] if space.output == "last" else "; ".join(sorted(nodes[space.inputs :]))

    def __str__(self) -> str:
        """Its nodes, a line each, and its text in the search space's notation."""
        lines = []
        naming = self.space.node_name
        for kind, nodes in self.cells.items():
            lines.append(f"{kind} cell")
            for target, node in zip(self.space.targets, nodes, strict=True):
                inputs = "  +  ".join(f"{name}({naming(source)})" for name, source in node)
                lines.append(f"  {naming(target)} = {inputs}")
        if self.space.notation is not None:
            lines.append(self.to_notation())
        return "\n".join(lines)


def from_dict(data: object, extensions: tuple[str, ...] = ()) -> Genotype:
    """A genotype from what JSON holds, in our form.

    Raises:
        ArchitectureError: The structure is another, or the genotype does not fit its space.
        ConfigError: The search space is unknown.
    """
    known = {"search_space", "cells"}
    if not (
        isinstance(data, dict)
        and set(data) == known
        and isinstance(data["search_space"], str)
        and isinstance(data["cells"], dict)
    ):
        there = f"; there are {shown_names(data)}" if isinstance(data, dict) else ""
        raise ArchitectureError(
            f"genotype: needs exactly the keys 'search_space' and 'cells'{there}"
        )
    cells: dict[str, tuple[Node, ...]] = {}
    for kind, nodes in data["cells"].items():
        try:
            cells[kind] = tuple(
                tuple(checked_pair(*listed(pair)) for pair in listed(node))
                for node in listed(nodes)
            )
        except TypeError as error:
            raise ArchitectureError(
                f"genotype.cells.{kind[:100]}: needs a list of nodes, each a list of "
                f"[operation, input] pairs ({error})"
            ) from error
    return Genotype(search_space(data["search_space"], extensions), cells)


def from_json(text: str, extensions: tuple[str, ...] = (), space: str = "") -> Genotype:
    """A genotype from JSON text, in our form or in one that public code writes.

    Args:
        text: The text.
        extensions: Modules that may declare further search spaces.
        space: The search space that is tried first where the text names none.

    Raises:
        ArchitectureError: The text is no JSON, or no genotype.
    """
    try:
        data = texts.json_value(text)
    except ValueError as error:
        raise ArchitectureError(f"genotype: {error}") from error
    if isinstance(data, dict) and "search_space" not in data:
        for known, notation in _notations(extensions, space):
            cells = notation.read_document(data, known)
            if cells is not None:
                return Genotype(known, cells)
    return from_dict(data, extensions)


def read(
    path: Path, extensions: tuple[str, ...] = (), *, name: str = "", space: str = ""
) -> Genotype:
    """A genotype from a file, in JSON or in the notation of a search space.

    Args:
        path: The file.
        extensions: Modules that may declare further search spaces.
        name: The name that the genotype is given in the file, where that holds several.
        space: The search space that it must be of, if one is given.

    Raises:
        ArchitectureError: The file cannot be read or holds no genotype, or one of another space.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(texts.LONGEST + 1).strip()
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ArchitectureError(f"{path}: cannot be read ({error})") from error
    try:
        genotype = _of_text(text, extensions, name, space)
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error
    if space and genotype.space.name != space:
        raise ArchitectureError(
            f"{path}: genotype: is of the search space {genotype.space.name!r}; "
            f"the study has {space!r}"
        )
    return genotype


def _of_text(text: str, extensions: tuple[str, ...], name: str, space: str) -> Genotype:
    if len(text) > texts.LONGEST:
        raise ArchitectureError(f"genotype: is longer than the {texts.LONGEST:,} characters")
    if not text.startswith("{"):
        return from_notation(text, extensions, name=name, space=space)
    if name:
        raise ArchitectureError(f"genotype: JSON holds one genotype without a name, not {name!r}")
    return from_json(text, extensions, space)


def from_notation(
    text: str, extensions: tuple[str, ...] = (), *, name: str = "", space: str = ""
) -> Genotype:
    """A genotype from text in the notation of the search space that it begins like.

    In front of it and around it may stand what Python has there: ``NAME = …``, comments, imports.

    Args:
        text: The text.
        extensions: Modules that may declare further search spaces.
        name: The name that the genotype is given in the text, where that holds several.
        space: The search space whose notation is tried first.

    Raises:
        ArchitectureError: No search space writes so, or the text holds no genotype, or several.
    """
    text = text.strip()
    notations = _notations(extensions, space)
    openings = [notation.opening for _, notation in notations]
    if name or not text.startswith(tuple(openings)):
        text = named.genotype(text, name, tuple(openings))
    for known, notation in notations:
        if text.startswith(notation.opening):
            return parse(text, known)
    forms = ", ".join(f"{notation.opening}… ({known.name})" for known, notation in notations)
    raise ArchitectureError(
        f"genotype: begins with {shown(text[:20])}; known notations: {forms}, or JSON"
    )


def _notations(extensions: tuple[str, ...], first: str) -> list[tuple[SearchSpace, Notation]]:
    """Search spaces that have a notation, with it; one of them before the others."""
    names = sorted(components("search_space", extensions), key=lambda name: name != first)
    spaces = [search_space(name, extensions) for name in names]
    return [(space, space.notation) for space in spaces if space.notation is not None]


def of_cells(texts_of: Mapping[str, str], space: SearchSpace) -> Genotype:
    """A genotype from a text for each cell type: its ``operation:input`` pairs, node by node.

    Raises:
        ArchitectureError: A text is no such list, or the genotype does not fit the space.
    """
    cells = {}
    for kind, text in texts_of.items():
        pairs = []
        for part in text.split():
            name, colon, source = part.rpartition(":")
            if not (colon and source.isascii() and source.isdigit()):
                raise ArchitectureError(
                    f"genotype: {shown(part)} is no operation:input of the {kind} cell"
                )
            pairs.append((name, int(source[:9])))
        cells[kind] = by_nodes(pairs, kind, space)
    return Genotype(space, cells)


def parse(text: str, space: SearchSpace) -> Genotype:
    """A genotype of a search space from text in its notation, spaces around it left out.

    Raises:
        ArchitectureError: The text is in another notation, or the genotype does not fit the space.
    """
    if space.notation is None:
        raise ArchitectureError(f"genotype: {space.name!r} has no notation")
    return Genotype(space, space.notation.read(text.strip(), space))
