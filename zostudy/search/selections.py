"""Selections: from a searched supernet to a genotype.

A selection is ``(searched, *, options) -> Genotype``.

Symbols:
    w    float[E, O], strengths of the operations
"""

import random as pseudo_random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from zostudy.networks.mixing import Mixing
from zostudy.registry import selection
from zostudy.search.discretize import discretize
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask

#: By cell type: for each edge, the column of its operation and the rank of the edge.
Path = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Searched:
    """What a selection chooses from.

    Attributes:
        mask: What was searched.
        strengths: How strong each operation and edge is.
        accuracy: The accuracy of the supernet under a mixing, in percent, on the pictures that
            train α.
        seed: For what is drawn.
    """

    mask: OperationMask
    strengths: Mixing
    accuracy: Callable[[Mixing], float]
    seed: int


@selection("largest", by_strength=True)
def largest(searched: Searched) -> Genotype:
    """The strongest operation of each edge, and the strongest edges of each node (DARTS)."""
    return discretize(searched.strengths, searched.mask)


@selection("skip_limit", by_strength=True, needs=("skip",))
def skip_limit(searched: Searched, *, skips: Annotated[int, "[0, 1000]"] = 2) -> Genotype:
    """As the largest, but with at most so many skip connections in the cells of a type.

    Args:
        searched: The search.
        skips: The limit; the weakest skip connections go first. An edge that has nothing else
            keeps its skip connection.

    References:
        P-DARTS, section 3.3 (Chen et al. 2019).
    """
    space, strengths = searched.mask.space, searched.strengths
    genotype = discretize(strengths, searched.mask)
    if space.identity is None:
        return genotype
    column = space.operations.index(space.identity)
    operations = {kind: own.detach().clone() for kind, own in strengths.operations.items()}
    for kind, rows in searched.mask.rows.items():
        others = [
            edge
            for edge, row in enumerate(rows)
            if any(
                k and n in space.keepable
                for k, n in zip(row, space.operations, strict=True)
                if n != space.identity
            )
        ]
        order = sorted(others, key=operations[kind][:, column].tolist().__getitem__)
        for edge in order:
            names = [name for node in genotype.cells[kind] for name, _ in node]
            if names.count(space.identity) <= skips:
                break
            operations[kind][edge, column] = -1  # below a strength of 0 as well
            genotype = discretize(Mixing(operations, strengths.edges), searched.mask)
    return genotype


@selection("perturbation", needs=("pictures",))
def perturbation(searched: Searched) -> Genotype:
    """The operation of an edge without which the supernet loses most accuracy; so for edges.

    Edges are decided one by one in a random order, and a decided edge has its operation alone.
    The supernet is not trained in between.

    Args:
        searched: The search.

    References:
        "Rethinking Architecture Selection in Differentiable NAS", section 4, Algorithm 1 (Wang et
        al. 2021).
    """
    draw = pseudo_random.Random(searched.seed)
    space, mask = searched.mask.space, searched.mask
    weights = {kind: own.detach().clone() for kind, own in searched.strengths.operations.items()}
    edges = searched.strengths.edges
    places = [(kind, edge) for kind in space.cell_types for edge in range(len(space.edges))]
    draw.shuffle(places)
    for kind, edge in places:
        columns = [c for c, kept in enumerate(mask.rows[kind][edge]) if kept]
        usable = [c for c in columns if space.operations[c] in space.keepable]
        if len(columns) == 1 or not usable:
            continue

        def without(column: int, own: torch.Tensor = weights[kind], edge: int = edge) -> float:
            kept = own[edge, column].clone()
            own[edge, column] = 0
            found = searched.accuracy(Mixing(weights, edges))
            own[edge, column] = kept
            return found

        chosen = min(usable, key=without)
        total = weights[kind][edge].sum()
        weights[kind][edge] = 0
        weights[kind][edge, chosen] = total
    return discretize(Mixing(weights, _edge_losses(searched, weights)), mask)


def _edge_losses(
    searched: Searched, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """For each edge, 1 + the accuracy that leaving it out costs, where edges are ranked."""
    edges = searched.strengths.edges
    if not searched.mask.space.ranks_edges:
        return dict(edges)
    whole = searched.accuracy(Mixing(weights, edges))
    found = {}
    for kind, own in edges.items():
        losses = torch.zeros_like(own)
        for edge in range(len(own)):
            left = {**edges, kind: own.index_fill(0, torch.tensor([edge], device=own.device), 0)}
            losses[edge] = whole - searched.accuracy(Mixing(weights, left))
        # Only the order counts: an edge's strength is its operation's weight times this.
        found[kind] = (1 + losses - losses.min()) / weights[kind].amax(dim=1).clamp_min(1e-12)
    return found


@selection("validated", by_strength=True, needs=("pictures",))
def validated(searched: Searched, *, candidates: Annotated[int, "[1, 10000]"] = 20) -> Genotype:
    """The best of some genotypes by the accuracy that the supernet has with each alone.

    Args:
        searched: The search.
        candidates: Genotypes that are tried: the one of the largest strengths, and draws in which
            each edge takes an operation with a probability in proportion to its strength.
    """
    generator = torch.Generator().manual_seed(searched.seed)
    tried = [discretize(searched.strengths, searched.mask)]
    for _ in range(10 * candidates):
        if len(tried) == candidates:
            break
        drawn = {
            kind: own.detach().cpu() / _gumbel_free(own.shape, generator)
            for kind, own in searched.strengths.operations.items()
        }
        edges = {kind: own.detach().cpu() for kind, own in searched.strengths.edges.items()}
        genotype = discretize(Mixing(drawn, edges), searched.mask)
        if genotype not in tried:
            tried.append(genotype)
    return max(tried, key=lambda one: searched.accuracy(alone(one, searched)))


def _gumbel_free(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Exponential variates: the largest ratio w / variate is a draw in proportion to w."""
    return torch.empty(shape).exponential_(generator=generator).clamp_min(1e-12)


@selection("evolution", needs=("pictures",))
def evolution(
    searched: Searched,
    *,
    population: Annotated[int, "[3, 10000]"] = 20,
    generations: Annotated[int, "[1, 10000]"] = 10,
    mutation: Annotated[float, "(0, 1]"] = 0.1,
) -> Genotype:
    """Evolution of paths by the accuracy that the supernet has with each alone.

    Args:
        searched: The search.
        population: Genotypes of a generation; the better half are the parents of the next.
        generations: Generations after the first, which is random.
        mutation: Probability of an edge of a child to take another operation.

    References:
        "Single Path One-Shot", section 3.3, Algorithm 1 (Guo et al. 2020).
    """
    draw = pseudo_random.Random(searched.seed)
    known: dict[Genotype, float] = {}

    def accuracy(path: Path) -> float:
        genotype = _of_path(path, searched.mask)
        if genotype not in known:
            known[genotype] = searched.accuracy(alone(genotype, searched))
        return known[genotype]

    paths: list[Path] = [_random_path(searched.mask, draw) for _ in range(population)]
    for _ in range(generations):
        paths.sort(key=accuracy, reverse=True)
        parents = paths[: max(2, population // 2)]
        children: list[Path] = []
        while len(parents) + len(children) < population:
            mother, father = draw.sample(parents, 2)
            other = _random_path(searched.mask, draw)
            children.append(
                {
                    kind: [
                        new if draw.random() < mutation else draw.choice(pair)
                        for new, *pair in zip(own, mother[kind], father[kind], strict=True)
                    ]
                    for kind, own in other.items()
                }
            )
        paths = parents + children
    return _of_path(max(paths, key=accuracy), searched.mask)


def _random_path(mask: OperationMask, draw: pseudo_random.Random) -> Path:
    """A path; its operations are such as a genotype may keep, where an edge has one."""
    space = mask.space
    path = {}
    for kind, rows in mask.rows.items():
        choices = []
        for row in rows:
            columns = [column for column, kept in enumerate(row) if kept]
            usable = [c for c in columns if space.operations[c] in space.keepable]
            choices.append((draw.choice(usable or columns), draw.random()))
        path[kind] = choices
    return path


def _of_path(path: Path, mask: OperationMask) -> Genotype:
    """The genotype of a path; where edges are ranked, those of the largest ranks are kept."""
    count = len(mask.space.operations)
    weights = {kind: torch.eye(count)[[c for c, _ in own]] for kind, own in path.items()}
    ranks = {kind: torch.tensor([rank for _, rank in own]) for kind, own in path.items()}
    return discretize(Mixing(weights, ranks), mask)


def alone(genotype: Genotype, searched: Searched) -> Mixing:
    """The mixing in which a genotype's operations have weight 1 and nothing else is computed."""
    space = searched.mask.space
    operations, edges, active = {}, {}, {}
    for kind, nodes in genotype.cells.items():
        like = searched.strengths.operations[kind]
        weights = torch.zeros_like(like)
        for target, pairs in zip(space.targets, nodes, strict=True):
            for name, source in pairs:
                weights[space.edges.index((source, target)), space.operations.index(name)] = 1
        operations[kind] = weights
        edges[kind] = searched.strengths.edges[kind] * (weights.sum(dim=1) > 0)
        active[kind] = tuple(tuple(value > 0 for value in row) for row in weights.tolist())
    return Mixing(operations, edges, active)
