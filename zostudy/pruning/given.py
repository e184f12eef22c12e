"""A genotype that the study file names, an operation for each edge, as a mask source.

A sweep may vary the operation of each edge, and so propose genotypes itself. The settings are
checked against the search space as soon as they are read, for which this module imports no torch.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from zostudy.errors import ConfigError
from zostudy.options import nearest, shown
from zostudy.registry import mask_source
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import Node, SearchSpace

if TYPE_CHECKING:
    from zostudy.pruning.mask_sources import PruneContext, PruneResult


@mask_source("given", known=True, genotype={}, fits="named")
def given(context: "PruneContext", *, cells: dict) -> "PruneResult":  # type: ignore[type-arg]  # JSON
    """The genotype that the study names, an operation for each edge that it keeps.

    Args:
        context: What is pruned.
        cells: The operations, by cell type, node and where the edge comes from, named as in a
            printed genotype: ``{normal: {n0: {c-1: skip_connect}, …}}``.
    """
    from zostudy.pruning.mask_sources import PruneResult
    from zostudy.space.mask import OperationMask

    genotype = named(context.space, cells=cells)
    return PruneResult(OperationMask.of(genotype), genotype=genotype)


def named(space: SearchSpace, *, cells: Any) -> Genotype:  # noqa: ANN401  # any JSON value
    """The genotype whose operations are named.

    Args:
        space: The search space.
        cells: The operations, as `given` has them.

    Raises:
        ConfigError: They are no genotype of the search space.
    """
    kinds = _entries("prune.cells", cells, space.cell_types)
    found = {}
    for kind in space.cell_types:
        place = f"prune.cells.{kind}"
        targets = {space.node_name(target): target for target in space.targets}
        nodes = _entries(place, kinds.get(kind, {}), targets)
        found[kind] = tuple(
            _node(f"{place}.{name}", nodes.get(name, {}), target, space)
            for name, target in targets.items()
        )
    return Genotype(space, found)


def _node(place: str, given: object, target: int, space: SearchSpace) -> Node:
    """The edges of a node."""
    sources = {space.node_name(source): source for source in range(target)}
    edges = _entries(place, given, sources)
    if len(edges) != space.kept(target):
        raise ConfigError(
            f"{place}: {len(edges)} edges have an operation; {space.name!r} keeps "
            f"{space.kept(target)}, from {', '.join(sources)}"
        )
    for name, operation in edges.items():
        if operation not in space.keepable:
            hint = nearest(str(operation), space.keepable)
            raise ConfigError(
                f"{place}.{name}: operation {shown(operation)} is not allowed{hint}; "
                f"allowed: {', '.join(space.keepable)}"
            )
    return tuple((operation, sources[name]) for name, operation in edges.items())


def _entries(place: str, given: object, allowed: Collection[str]) -> dict[str, Any]:
    """A dictionary whose keys are among those allowed."""
    if not isinstance(given, dict):
        raise ConfigError(f"{place}: {shown(given)}; needs keys among {', '.join(allowed)}")
    for name in given:
        if name not in allowed:
            hint = nearest(str(name), allowed)
            raise ConfigError(f"{place}.{name}: unknown key{hint}; known: {', '.join(allowed)}")
    return given
