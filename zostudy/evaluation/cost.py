"""What a network costs: its parameters and its multiply-accumulates."""

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from zostudy.config.settings import EvaluateSettings
from zostudy.data.dataset import Dataset
from zostudy.networks.macs import macs
from zostudy.networks.operations import build
from zostudy.networks.standalone import AUXILIARY, StandaloneNetwork
from zostudy.space import enumeration
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

#: By cell type, for each cell the shapes (channels, height, width) of the nodes that may be read.
_Nodes = dict[str, list[list[tuple[int, int, int]]]]


def of_genotype(
    genotype: Genotype,  # noqa: ARG001  # today's metrics are those of the network
    network: nn.Module,
    dataset: Dataset,
) -> dict[str, int]:
    """Every metric that follows from a genotype and its network alone, by its name.

    What is computed here is declared in `zostudy.metrics` with the source ``genotype``.

    Args:
        genotype: The architecture.
        network: Its stand-alone network; it stays as it is, and may be on the ``meta`` device.
        dataset: Gives the shape of the pictures.
    """
    return {
        **of_module(network, *_shape(dataset)),
    }


def of_module(module: nn.Module, channels: int, height: int, width: int) -> dict[str, int]:
    """The metrics that add up: those of a network are the sums of those of its modules.

    Args:
        module: A network or a part of it; it stays as it is.
        channels: Channels of what it reads.
        height: Its height in pixels.
        width: Its width in pixels.
    """
    return {"parameters": parameters(module), "macs": macs(module, channels, height, width)}


class Costs:
    """What the stand-alone networks of genotypes cost, without building each of them.

    A network is a row of cells, and a cell's operations are modules of their own, each computed
    once. What adds up is therefore that of one network, with other operations in the place of its
    own; it is exact, to the last parameter. A metric that does not add up takes the network.

    Args:
        space: The search space.
        dataset: Gives the shape of the pictures and the classes.
        settings: Cells and channels of the networks.
    """

    def __init__(self, space: SearchSpace, dataset: Dataset, settings: EvaluateSettings) -> None:
        self._space, self._dataset, self._settings = space, dataset, settings
        self._known: dict[tuple[str, int, str], Counter[str]] = {}
        self._modules: dict[tuple[str, int, int, int, int], dict[str, int]] = {}

    def __call__(self, genotype: Genotype, names: Collection[str]) -> dict[str, int]:
        """Metrics of a genotype, by their names."""
        fixed, nodes = self._network
        if not fixed.keys() >= set(names):
            found = of_genotype(genotype, self._built(genotype), self._dataset)
            return {name: found[name] for name in names}
        terms = [self._operation(nodes, *place) for place in genotype.operations()]
        return {name: fixed[name] + sum(term[name] for term in terms) for name in names}

    def least(self, mask: OperationMask) -> dict[str, int]:
        """Of each metric that adds up, the least of all architectures that a mask leaves."""
        fixed, nodes = self._network
        found = dict(fixed)
        for kind, target in itertools.product(self._space.cell_types, self._space.targets):
            edges = {
                self._space.edges[edge][0]: names
                for edge, names in enumeration.operations(mask, kind, target).items()
                if names
            }
            for metric in found:
                cheapest = sorted(
                    min(self._operation(nodes, kind, source, target, one)[metric] for one in names)
                    for source, names in edges.items()
                )
                found[metric] += sum(cheapest[: self._space.kept(target)])
        return found

    @functools.cached_property
    def _network(self) -> tuple[dict[str, int], _Nodes]:
        """What every network costs beside its operations, and what operations read in it."""
        genotype = next(enumeration.genotypes(OperationMask.full(self._space)))
        network, shape = self._built(genotype), _shape(self._dataset)
        nodes: _Nodes = {kind: [] for kind in self._space.cell_types}
        with contextlib.ExitStack() as hooks, torch.no_grad():
            layout = self._space.layout(self._settings.cells)
            for position, cell in zip(layout, network.cells, strict=True):

                def note(_: nn.Module, given: tuple[Any, ...], kind: str = position.kind) -> None:
                    nodes[kind].append([tuple(state.shape[1:]) for state in given[0]])

                *_, last = cell.get_submodule("nodes").children()
                hooks.callback(last.register_forward_pre_hook(note).remove)
            network.eval()(torch.empty(1, *shape, device="meta"))
        fixed = Counter(of_module(network, *shape))
        for place in genotype.operations():
            fixed.subtract(self._operation(nodes, *place))
        return dict(fixed), nodes

    def _operation(
        self, nodes: _Nodes, kind: str, source: int, target: int, name: str
    ) -> Counter[str]:
        """What an operation on an edge costs, in all cells of a type together."""
        del target  # what it enters makes no difference
        key = kind, source, name
        if key not in self._known:
            self._known[key] = Counter()
            for read in nodes[kind]:
                self._known[key].update(self._alone(kind, source, name, *read[source]))
        return self._known[key]

    def _alone(
        self, kind: str, source: int, name: str, channels: int, height: int, width: int
    ) -> dict[str, int]:
        stride = self._space.stride(kind, source)
        key = name, stride, channels, height, width
        if key not in self._modules:
            with torch.device("meta"):
                module = build(self._space.operation(name), channels, stride, affine=True)
            self._modules[key] = of_module(module, channels, height, width)
        return self._modules[key]

    def _built(self, genotype: Genotype) -> StandaloneNetwork:
        with torch.device("meta"):
            return StandaloneNetwork(
                genotype,
                cells=self._settings.cells,
                channels=self._settings.channels,
                classes=len(self._dataset.classes),
                in_channels=self._dataset.channels,
                auxiliary=False,
            )


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    return dataset.channels, dataset.height, dataset.width


def parameters(network: nn.Module) -> int:
    """Learnable numbers of a network, without its auxiliary head.

    References:
        Liu et al. 2018, "DARTS", table 1, counts the same way.
    """
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith(AUXILIARY)
    )
