"""A genotype drawn at random from those that a mask allows: what a search is compared with."""

import torch

from zostudy.runtime import seeded
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import Node

#: Stream of a trial's seed that random genotypes are drawn from.
_RANDOM_GENOTYPE = "search/random genotype"


def random_genotype(mask: OperationMask, seed: int, draw: int) -> Genotype:
    """Every node's edges and their operations, each equally likely among those that are left.

    Edges are drawn first, so that an edge on which the mask keeps more operations is not drawn more
    often.

    Args:
        mask: The mask; a genotype exists under it.
        seed: The trial's seed.
        draw: Which of the random genotypes of that seed.
    """
    space, generator = mask.space, seeded("cpu", seed, _RANDOM_GENOTYPE, draw)
    cells: dict[str, tuple[Node, ...]] = {}
    for kind in space.cell_types:
        usable = {
            edge: [
                name
                for name, kept in zip(space.operations, row, strict=True)
                if kept and name in space.keepable
            ]
            for edge, row in enumerate(mask.rows[kind])
        }
        nodes = []
        for target in space.targets:
            edges = [edge for edge in space.incoming(target) if usable[edge]]
            order = torch.randperm(len(edges), generator=generator).tolist()
            kept = sorted(edges[place] for place in order[: space.kept(target)])
            chosen = [
                int(torch.randint(len(usable[edge]), (), generator=generator)) for edge in kept
            ]
            nodes.append(
                tuple(
                    (usable[edge][place], space.edges[edge][0])
                    for edge, place in zip(kept, chosen, strict=True)
                )
            )
        cells[kind] = tuple(nodes)
    return Genotype(space, cells)
