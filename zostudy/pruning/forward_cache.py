"""What of a pass through the supernet stays when an operation or an edge goes.

A removal on edge (i, j) of a cell type leaves the same, in the order of the network:

- the stem, and every cell before the first one of that type;
- in that first cell what its inputs and the nodes before j send out, but for edge (i, j) itself;
- in the cells behind it, where an input is the output of a cell before, what that input sends out,
  but for edge (i, j) if the cell is of the same type.

What edge (i, j) carries without operation o is had for all edges that leave i at once. The rest is
the supernet's own code: a copy of it in which stubs stand where outputs are known.
"""

import contextlib
import copy
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from zostudy.networks.mixing import Mixing
from zostudy.networks.node_operations import Term
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs
from zostudy.proxies.values import reading
from zostudy.pruning.scoring import Edge, Removal, uniform_mixing
from zostudy.space.mask import Place

M = TypeVar("M", bound=nn.Module)


class _Stub(nn.Module):
    """Stands in for a module whose output is known."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self._output = output

    def forward(self, *_: object) -> object:
        """The output, whatever the input."""
        return self._output


class _NodeStub(nn.Module):
    """Stands in for a node's operations whose sums are known.

    Args:
        sums: For each edge that leaves the node, by its place, its mixed operation.
    """

    recompute = "none"

    def __init__(self, sums: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._sums = sums

    def forward(self, *_: object) -> Iterator[Term]:
        """The sums, whatever the input."""
        yield from (Term(row, total) for row, total in self._sums.items())


def _summed(terms: Iterable[Term]) -> dict[int, Tensor]:
    """The mixed operation of each edge that leaves a node, from its terms."""
    sums: dict[int, Tensor] = {}
    for row, term, weight, _ in terms:
        part = term if weight is None else weight * term
        sums[row] = sums[row] + part if row in sums else part
    return sums


def _with(module: M, parts: Mapping[str, nn.Module]) -> M:
    """A copy of a module that shares all but some of its children."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **parts}
    return twin


#: What is sent out in place of what was: by cell, source node and place of the edge among those
#: that leave the node; stacked over the removals that go together.
Activations = Mapping[tuple[int, int, int], Tensor]

#: Removals that go together, and what they change first.
Changes = Iterator[tuple[list[Removal], Activations]]


@dataclass(frozen=True)
class ForwardCache:
    """One pass of a batch, most of which is kept for the removals of one cell type.

    Attributes:
        supernet: The supernet.
        mixing: Its uniform mixing.
        kind: The cell type.
        batch: The batch.
        names: What is read of each pass.
        inputs: What the nodes before and at the first change read, by name.
        outputs: What they send out, by place of the edge; and the outputs of the other modules.
    """

    supernet: Supernet
    mixing: Mixing
    kind: str
    batch: ProxyInputs
    names: frozenset[str]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Any]

    @classmethod
    def of(
        cls, supernet: Supernet, kind: str, batch: ProxyInputs, names: Collection[str]
    ) -> "ForwardCache":
        """Pass a batch with uniform weights."""
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Any] = {}
        first = supernet.sequence.index(kind)
        wanted = ["stem", *(f"cells.{cell}" for cell in range(first))]
        for cell in range(0 if "states" in names else first, first + 1):
            wanted += _parts(supernet, cell)
        for cell, source in _behind(supernet, first):
            wanted += [f"cells.{cell}.preprocess.{source}", f"cells.{cell}.nodes.{source}"]

        def keep(name: str, _: nn.Module, given: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401  # any
            # The ReLU behind the stem works in place. What nodes send comes as they are asked.
            outputs[name] = output.clone() if name == "stem" else output
            if ".nodes." in name:
                inputs[name], outputs[name] = given[0], given[1]

        mixing = uniform_mixing(supernet)
        with contextlib.ExitStack() as hooks:
            for name in wanted:
                hook = functools.partial(keep, name)
                hooks.callback(supernet.get_submodule(name).register_forward_hook(hook).remove)
            supernet(batch.images, mixing)
        for name, images in inputs.items():
            outputs[name] = _summed(supernet.get_submodule(name)(images, outputs[name]))
        return cls(supernet, mixing, kind, batch, frozenset(names), inputs, outputs)

    @property
    def first(self) -> int:
        """The first cell that a removal changes."""
        return self.supernet.sequence.index(self.kind)

    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        found = list(self.inputs.values())
        for output in self.outputs.values():
            found += output.values() if isinstance(output, dict) else output
        return found

    def edge_changes(self, edges: Sequence[Edge], mixings: Mapping[Edge, Mixing]) -> Changes[Edge]:
        """What each edge's removal changes first: the edges that enter the same node."""
        space = self.supernet.space
        for removed in edges:
            ratios = mixings[removed].edges[self.kind] / self.mixing.edges[self.kind]
            change: dict[tuple[int, int, int], Tensor] = {}
            for row in space.incoming(space.edges[removed[1]][1]):
                source = space.edges[row][0]
                number = _leaving(self.supernet, source).index(row)
                for cell in self._reached(source):
                    sent = self.outputs[f"cells.{cell}.nodes.{source}"]
                    if number in sent:
                        change[cell, source, number] = (ratios[row] * sent[number])[None]
            yield [removed], change

    def operation_changes(self, places: Sequence[Place], size: int) -> Changes[Place]:
        """Operations of one edge, up to a number of them, and what their removals change first."""
        space = self.supernet.space
        for source in _sources(self.supernet):
            here = [p for p in places if space.edges[p[1]][0] == source]
            columns = sorted({column for _, _, column in here})
            for start in range(0, len(columns), size):
                sent = {c: self._sent(source, c) for c in columns[start : start + size]}
                for number, row in enumerate(_leaving(self.supernet, source)):
                    group = [p for p in here if p[1] == row and p[2] in sent]
                    change = {
                        (cell, source, number): torch.stack(
                            [sent[p[2]][cell][number] for p in group]
                        )
                        for cell in self._reached(source)
                        if group
                    }
                    if group:
                        yield group, change

    def _sent(self, source: int, column: int) -> dict[int, dict[int, Tensor]]:
        """What a node sends out when every edge that can lacks one operation, by cell."""
        operations = self.mixing.operations[self.kind].clone()
        operations[:, column] = 0
        total = operations.sum(dim=1, keepdim=True)
        left = torch.where(total > 0, operations / total, self.mixing.operations[self.kind])
        weights = (left * self.mixing.edges[self.kind][:, None])[_leaving(self.supernet, source)]
        names = {cell: f"cells.{cell}.nodes.{source}" for cell in self._reached(source)}
        found = {}
        for cell, name in names.items():
            node = self.supernet.get_submodule(name)
            found[cell] = _summed(node(self.inputs[name], node.weights(weights)))  # type: ignore[operator]  # of a node
        return found

    def _reached(self, source: int) -> list[int]:
        """The cells in which a change of what a node sends out is the first change."""
        behind = [
            cell
            for cell, other in _behind(self.supernet, self.first)
            if other == source and self.supernet.sequence[cell] == self.kind
        ]
        return [self.first, *behind]

    def readings(
        self, removals: Sequence[Removal], mixings: Mapping[Removal, Mixing], change: Activations
    ) -> list[dict[str, Any]]:
        """What is read of the network without each of the removals that go together."""
        target = self.supernet.space.edges[removals[0][1]][1]
        edges = mixings[removals[0]].edges  # those of all: only an edge alone changes them

        def read(own: Activations, operations: Tensor) -> dict[str, Any]:
            mixing = Mixing({**self.mixing.operations, self.kind: operations}, edges)
            return reading(self._network(target, own), self.batch, mixing, self.names)

        stacked = torch.stack([mixings[removal].operations[self.kind] for removal in removals])
        if len(removals) == 1:
            return [read({place: sent[0] for place, sent in change.items()}, stacked[0])]
        together = vmap(read)(change, stacked)
        return [
            {
                name: tuple(part[index] for part in read_)
                if isinstance(read_, tuple)
                else read_[index]
                for name, read_ in together.items()
            }
            for index in range(len(removals))
        ]

    def _network(self, target: int, change: Activations) -> Supernet:
        """The supernet that computes only what a change before a node of the cell reaches."""
        first = self.first
        cells: list[nn.Module] = list(self.supernet.cells)
        for cell in range(first):
            whole = f"cells.{cell}"
            parts = _parts(self.supernet, cell) if "states" in self.names else []
            cells[cell] = self._stubbed(cell, parts, {}) if parts else _Stub(self.outputs[whole])
        same = [f"cells.{first}.preprocess.{n}" for n in range(self.supernet.space.inputs)]
        same += [
            f"cells.{first}.nodes.{source}" for source in _sources(self.supernet) if source < target
        ]
        cells[first] = self._stubbed(first, same, change)
        behind: dict[int, list[str]] = {}
        for cell, source in _behind(self.supernet, first):
            names = [f"cells.{cell}.preprocess.{source}", f"cells.{cell}.nodes.{source}"]
            behind.setdefault(cell, []).extend(names)
        for cell, names in behind.items():
            cells[cell] = self._stubbed(cell, names, change)
        stem = _Stub(self.outputs["stem"].clone())
        return _with(self.supernet, {"stem": stem, "cells": nn.ModuleList(cells)})

    def _stubbed(self, cell: int, names: Sequence[str], change: Activations) -> nn.Module:
        """A cell in which some parts are stubs."""
        stubs: dict[str, dict[str, nn.Module]] = {}
        for name in names:
            part, number = name.split(".")[2:]
            stub: nn.Module = _Stub(self.outputs[name])
            if part == "nodes":
                sent = {
                    row: change.get((cell, int(number), row), whole)
                    for row, whole in self.outputs[name].items()
                }
                stub = _NodeStub(sent)
            stubs.setdefault(part, {})[number] = stub
        whole = self.supernet.cells[cell]
        return _with(whole, {p: _with(whole.get_submodule(p), own) for p, own in stubs.items()})


def _behind(supernet: Supernet, first: int) -> list[tuple[int, int]]:
    """The inputs, by cell and number, of cells behind one that are outputs of cells before it."""
    inputs = supernet.space.inputs
    return [
        (first + distance, source)
        for distance in range(1, min(inputs, len(supernet.cells) - first))
        for source in range(inputs - distance)
    ]


def _sources(supernet: Supernet) -> range:
    """The nodes that edges leave."""
    return range(supernet.space.inputs + supernet.space.nodes - 1)


def _leaving(supernet: Supernet, source: int) -> list[int]:
    """The edges that leave a node."""
    return [row for row, edge in enumerate(supernet.space.edges) if edge[0] == source]


def _parts(supernet: Supernet, cell: int) -> list[str]:
    """Names of a cell's input processing and of its nodes' operations."""
    names = [f"cells.{cell}.preprocess.{number}" for number in range(supernet.space.inputs)]
    return names + [f"cells.{cell}.nodes.{source}" for source in _sources(supernet)]
