"""A discrete architecture: for each cell type and intermediate node, the edges and operations kept.

In JSON::

    {"search_space": "darts",
     "cells": {"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], …], "reduction": […]}}

Entry n of a cell lists the kept edges of intermediate node n as pairs (operation, source node).
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zostudy.errors import ArchitectureError
from zostudy.registry import nearest
from zostudy.space.search_space import SearchSpace, search_space

Node = tuple[tuple[str, int], ...]

#: Cell types as the reference repositories call them.
_NOTATION = {"normal": "normal", "reduction": "reduce"}


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
                f"genotype.cells: cell types are {', '.join(map(repr, self.cells)) or 'none'}; "
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
            place = f"genotype.cells.{kind}[{target - self.space.inputs}]"
            sources = [source for _, source in node]
            if len(node) != self.space.kept_edges or len(set(sources)) != len(sources):
                raise ArchitectureError(
                    f"{place}: inputs {sources}; needs {self.space.kept_edges} different ones"
                )
            for name, source in node:
                if name not in self.space.operations or name == self.space.zero:
                    allowed = [o for o in self.space.operations if o != self.space.zero]
                    hint = nearest(name, allowed) or f"; allowed: {', '.join(allowed)}"
                    raise ArchitectureError(f"{place}: operation {name!r} is not allowed{hint}")
                if not 0 <= source < target:
                    raise ArchitectureError(
                        f"{place}: input {source} is not allowed; allowed: 0 to {target - 1}"
                    )

    def __hash__(self) -> int:
        return hash(self.to_json())

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
        """The tuple notation of the reference repositories (DARTS, PC-DARTS).

        Raises:
            ArchitectureError: The search space has other cell types than normal and reduction.
        """
        if set(self.cells) != set(_NOTATION):
            raise ArchitectureError(f"genotype: {self.space.name!r} has no tuple notation")
        parts = []
        concat = f"range({self.space.inputs}, {self.space.inputs + self.space.nodes})"
        for kind, nodes in self.cells.items():
            pairs = [pair for node in nodes for pair in node]
            parts.append(f"{_NOTATION[kind]}={pairs!r}, {_NOTATION[kind]}_concat={concat}")
        return f"Genotype({', '.join(parts)})"

    def __str__(self) -> str:
        lines = []
        for kind, nodes in self.cells.items():
            lines.append(f"{kind} cell")
            for target, node in zip(self.space.targets, nodes, strict=True):
                inputs = "  +  ".join(f"{name}({self._label(source)})" for name, source in node)
                lines.append(f"  {self._label(target)} = {inputs}")
        return "\n".join(lines)

    def _label(self, node: int) -> str:
        if node < self.space.inputs:
            return f"c{node - self.space.inputs}"
        return f"n{node - self.space.inputs}"


def from_dict(data: object, extensions: tuple[str, ...] = ()) -> Genotype:
    """A genotype from what JSON holds.

    Raises:
        ArchitectureError: The structure is another, or the genotype does not fit its space.
        ConfigError: The search space is unknown.
    """
    if not (
        isinstance(data, dict)
        and set(data) == {"search_space", "cells"}
        and isinstance(data["search_space"], str)
        and isinstance(data["cells"], dict)
    ):
        raise ArchitectureError("genotype: needs exactly the keys 'search_space' and 'cells'")
    cells: dict[str, tuple[Node, ...]] = {}
    for kind, nodes in data["cells"].items():
        try:
            cells[kind] = tuple(tuple(_pair(*pair) for pair in node) for node in nodes)
        except (TypeError, ValueError) as error:
            raise ArchitectureError(
                f"genotype.cells.{kind}: needs a list of nodes, each a list of "
                f"[operation, input] pairs ({error})"
            ) from error
    return Genotype(search_space(data["search_space"], extensions), cells)


def _pair(name: object, source: object) -> tuple[str, int]:
    if not (isinstance(name, str) and isinstance(source, int)) or isinstance(source, bool):
        raise TypeError(f"[{name!r}, {source!r}] is not [text, whole number]")
    return name, source


def from_json(text: str, extensions: tuple[str, ...] = ()) -> Genotype:
    """A genotype from JSON text.

    Raises:
        ArchitectureError: The text is no JSON, or no genotype.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArchitectureError(f"genotype: line {error.lineno}: {error.msg}") from error
    return from_dict(data, extensions)


def read(path: Path, extensions: tuple[str, ...] = ()) -> Genotype:
    """A genotype from a file, in JSON or in the reference repositories' tuple notation.

    Raises:
        ArchitectureError: The file cannot be read or holds no genotype.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{path}: cannot be read ({error})") from error
    try:
        return from_json(text, extensions) if text.startswith("{") else from_notation(text)
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error


def from_notation(text: str) -> Genotype:
    """A DARTS genotype from the reference repositories' tuple notation, read without evaluating it.

    Raises:
        ArchitectureError: The text is not in that notation.
    """
    literal = re.sub(r"(?:list\()?range\((\d+), ?(\d+)\)\)?(?=[,)\s])", r"(\1, \2)", text.strip())
    try:
        call = ast.parse(literal, mode="eval").body
        if not isinstance(call, ast.Call):
            raise TypeError("no call of Genotype(…)")
        fields = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        space = search_space("darts")
        cells = {}
        for kind, key in _NOTATION.items():
            pairs = [_pair(*pair) for pair in fields[key]]
            step = space.kept_edges
            cells[kind] = tuple(tuple(pairs[i : i + step]) for i in range(0, len(pairs), step))
    except (SyntaxError, TypeError, ValueError, KeyError) as error:
        raise ArchitectureError(
            f"genotype: not in the notation Genotype(normal=[(operation, input), …], …): {error}"
        ) from error
    return Genotype(space, cells)
