"""Architectures as public code writes them."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from zostudy.errors import ArchitectureError
from zostudy.options import nearest
from zostudy.space import text as texts
from zostudy.space.search_space import Cells, Node, Notation, SearchSpace
from zostudy.space.text import listed, shown

#: A choice of NNI's: cell, what is chosen, node, which of the node's edges.
_CHOICE = re.compile(r"(\w+)/(op|input)_(\d{1,4})_(\d{1,4})", re.ASCII)


@dataclass(frozen=True)
class TupleNotation(Notation):
    """``Genotype(normal=[('skip_connect', 0), …], normal_concat=…, …)`` (DARTS, PC-DARTS).

    The pairs of a node may stand in a list of their own, and the nodes that are joined may be left
    out. The same fields are read as a JSON object, and so are the choices of NNI's DARTS
    (``{"normal/op_2_0": "skip_connect", "normal/input_2_0": 0, …}``).

    Attributes:
        names: Each cell type with what the notation calls it.
        empty: Fields that say nothing, and may be there as ``None``.

    References:
        github.com/quark0/darts, cnn/genotypes.py; github.com/D-X-Y/AutoDL-Projects (GDAS), whose
        fields ``connectN`` and ``connects`` are None; github.com/microsoft/nni, nasnet.py.
    """

    names: tuple[tuple[str, str], ...]
    empty: tuple[str, ...] = ("connectN", "connects")

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
            ArchitectureError: The text is not in this notation, or says what the space has not.
        """
        call = texts.expression(text)
        if not isinstance(call, ast.Call) or f"{texts.called(call)}(" != self.opening:
            raise ArchitectureError(f"genotype: {shown(text)} is no call of {self.opening}…)")
        return self._of_fields(texts.arguments(call, self._fields), space)

    def read_document(self, data: Mapping[str, object], space: SearchSpace) -> Cells | None:
        """The architecture in a JSON object of the same fields, or of NNI's choices.

        Raises:
            ArchitectureError: It says what the space has not.
        """
        if any(name in data for _, name in self.names):
            return self._of_fields(data, space)
        if any(_CHOICE.fullmatch(key) for key in data):
            return self._of_choices(data, space)
        return None

    @property
    def _fields(self) -> tuple[str, ...]:
        return tuple(part for _, name in self.names for part in (name, f"{name}_concat"))

    def _of_fields(self, fields: Mapping[str, object], space: SearchSpace) -> Cells:
        for name, given in fields.items():
            if name not in self._fields and not (name in self.empty and given is None):
                hint = nearest(name[:100], self._fields)
                hint = hint or f"; allowed: {', '.join(self._fields)}"
                raise ArchitectureError(
                    f"genotype: the field {shown(name)} says what {space.name!r} has not{hint}"
                )
        cells = {}
        for kind, name in self.names:
            if name not in fields:
                raise ArchitectureError(f"genotype: the field {name!r} is missing")
            _check_joined(f"{name}_concat", fields, space)
            cells[kind] = self._nodes(name, fields[name], space)
        return cells

    def _nodes(self, name: str, given: object, space: SearchSpace) -> tuple[Node, ...]:
        """The pairs of a cell, by nodes."""
        form = f"{self.opening}{name}=[(operation, input), …], …)"
        try:
            parts = listed(given)
            if parts and all(_is_list_of_lists(node) for node in parts):
                return tuple(tuple(checked_pair(*pair) for pair in node) for node in parts)
            pairs = [checked_pair(*listed(pair)) for pair in parts]
        except TypeError as error:
            raise ArchitectureError(
                f"genotype.{name}: not in the notation {form}: {error}"
            ) from error
        return by_nodes(pairs, name, space)

    def _of_choices(self, data: Mapping[str, object], space: SearchSpace) -> Cells:
        wanted = [
            (kind, target, f"{name}/{{}}_{target}_{index}")
            for kind, name in self.names
            for target in space.targets
            for index in range(space.kept(target))
        ]
        keys = [place.format(what) for _, _, place in wanted for what in ("op", "input")]
        for key in (*data, *keys):
            if key not in data or key not in keys:
                what = "is missing" if key not in data else f"says what {space.name!r} has not"
                raise ArchitectureError(f"genotype: the key {shown(key)} {what}")
        cells: dict[str, list[Node]] = {kind: [() for _ in space.targets] for kind, _ in self.names}
        for kind, target, place in wanted:
            source = data[place.format("input")]
            if isinstance(source, list) and len(source) == 1:
                (source,) = source
            try:
                pair = checked_pair(data[place.format("op")], source)
            except TypeError as error:
                raise ArchitectureError(f"genotype: {place.format('op')}: {error}") from error
            cells[kind][target - space.inputs] += (pair,)
        return {kind: tuple(nodes) for kind, nodes in cells.items()}


def _check_joined(name: str, fields: Mapping[str, object], space: SearchSpace) -> None:
    """Whether the nodes that are joined, where they are given, are those of the space."""
    if name not in fields:
        return
    given, joined = fields[name], list(space.targets)[-space.outputs :]
    if not isinstance(given, list | tuple) or [repr(node) for node in given] != [
        *map(repr, joined)
    ]:
        raise ArchitectureError(
            f"genotype.{name}: {shown(given)}; the cells of {space.name!r} join {joined}"
        )


def _is_list(given: object) -> bool:
    return isinstance(given, list | tuple)


def _is_list_of_lists(given: object) -> bool:
    return _is_list(given) and all(_is_list(part) for part in listed(given))


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
            if not re.fullmatch(r"\|([^|~]+~\d{1,9}\|)+", part, re.ASCII):
                raise ArchitectureError(
                    f"genotype: {shown(part)} is not in the notation |operation~input|…| of a node"
                )
            pairs = (edge.split("~") for edge in part.strip("|").split("|"))
            nodes.append(tuple((name, int(source)) for name, source in pairs))
        return {self.kind: tuple(nodes)}


def by_nodes(pairs: list[tuple[str, int]], name: str, space: SearchSpace) -> tuple[Node, ...]:
    """The pairs of a cell, those of one node together.

    Args:
        pairs: (operation, input) of every edge, node by node.
        name: What the cell is called in messages.
        space: The search space.

    Raises:
        ArchitectureError: There are more or fewer than the space has.
    """
    counts = [space.kept(target) for target in space.targets]
    if len(pairs) != sum(counts):
        raise ArchitectureError(
            f"genotype.{name}: {len(pairs)} (operation, input) pairs; {space.name!r} has "
            f"{sum(counts)}, by nodes {', '.join(map(str, counts))}"
        )
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return tuple(tuple(pairs[end - count : end]) for end, count in zip(ends, counts, strict=True))


def checked_pair(*pair: object) -> tuple[str, int]:
    """An (operation, source) pair.

    Raises:
        TypeError: It is something else.
    """
    match pair:
        case (str(name), int(source)) if not isinstance(source, bool):
            return name, source
    raise TypeError(f"{shown(list(pair))} is not [text, whole number]")
