"""Architectures as public code writes them."""

import ast
import re
from dataclasses import dataclass

from zostudy.errors import ArchitectureError
from zostudy.space.search_space import Cells, Node, Notation, SearchSpace


@dataclass(frozen=True)
class TupleNotation(Notation):
    """``Genotype(normal=[('skip_connect', 0), …], normal_concat=…, …)`` (DARTS, PC-DARTS).

    Attributes:
        names: Each cell type with what the notation calls it.
    """

    names: tuple[tuple[str, str], ...]

    @property
    def opening(self) -> str:
        """A call."""
        return "Genotype("

    def write(self, cells: Cells, space: SearchSpace) -> str:
        """The pairs of all nodes in one list a cell type, and the nodes that are joined."""
        parts = []
        concat = f"range({space.inputs}, {space.inputs + space.nodes})"
        for kind, name in self.names:
            pairs = [pair for node in cells[kind] for pair in node]
            parts.append(f"{name}={pairs!r}, {name}_concat={concat}")
        return f"{self.opening}{', '.join(parts)})"

    def read(self, text: str, space: SearchSpace) -> Cells:
        """The architecture, without evaluating the text.

        Raises:
            ArchitectureError: The text is not in this notation.
        """
        literal = re.sub(r"(?:list\()?range\((\d+), ?(\d+)\)\)?(?=[,)\s])", r"(\1, \2)", text)
        try:
            call = ast.parse(literal, mode="eval").body
            if not isinstance(call, ast.Call):
                raise TypeError("no call of Genotype(…)")
            fields = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
            cells = {}
            for kind, key in self.names:
                pairs = [checked_pair(*pair) for pair in fields[key]]
                nodes = []
                for target in space.targets:
                    nodes.append(tuple(pairs[: space.kept(target)]))
                    del pairs[: space.kept(target)]
                cells[kind] = (*nodes, *((pair,) for pair in pairs))
        except (SyntaxError, TypeError, ValueError, KeyError) as error:
            raise ArchitectureError(
                f"genotype: not in the notation Genotype({self.names[0][1]}="
                f"[(operation, input), …], …): {error}"
            ) from error
        return cells


@dataclass(frozen=True)
class EdgeNotation(Notation):
    """``|operation~input|+|operation~input|operation~input|+…`` (NAS-Bench-201), one cell type.

    Attributes:
        kind: The cell type.
    """

    kind: str

    @property
    def opening(self) -> str:
        """The first node's first bar."""
        return "|"

    def write(self, cells: Cells, space: SearchSpace) -> str:  # noqa: ARG002  # the interface
        """Nodes joined by plus signs, edges between bars."""
        nodes = ("|".join(f"{name}~{source}" for name, source in node) for node in cells[self.kind])
        return "+".join(f"|{node}|" for node in nodes)

    def read(self, text: str, space: SearchSpace) -> Cells:  # noqa: ARG002  # the interface
        """The architecture.

        Raises:
            ArchitectureError: The text is not in this notation.
        """
        nodes: list[Node] = []
        for part in text.split("+"):
            if not re.fullmatch(r"\|([^|~]+~\d+\|)+", part, re.ASCII):
                raise ArchitectureError(
                    f"genotype: {part!r} is not in the notation |operation~input|…| of a node"
                )
            pairs = (edge.split("~") for edge in part.strip("|").split("|"))
            nodes.append(tuple((name, int(source)) for name, source in pairs))
        return {self.kind: tuple(nodes)}


def checked_pair(name: object, source: object) -> tuple[str, int]:
    """An (operation, source) pair.

    Raises:
        TypeError: It is something else.
    """
    if not (isinstance(name, str) and isinstance(source, int)) or isinstance(source, bool):
        raise TypeError(f"[{name!r}, {source!r}] is not [text, whole number]")
    return name, source
