"""From mixing weights and a mask to a genotype (docs/method.md, section 4)."""

from zostudy.errors import ArchitectureError
from zostudy.networks.mixing import Mixing
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import Node


def discretize(mixing: Mixing, mask: OperationMask) -> Genotype:
    """Keep, for each node, the edges with the largest weights, and on each its best operation.

    An edge's weight is max over o of w_o, over the operations that a genotype may keep, times its
    edge weight. Ties go to the earlier edge and operation.

    Args:
        mixing: Softmax of α, and of β with edge normalization.
        mask: The mask; only unmasked operations can be kept.

    Raises:
        ArchitectureError: The mask leaves a node without enough usable edges.

    References:
        docs/method.md, section 4; DARTS, section 2.4 (Liu et al. 2018).
    """
    space = mask.space
    cells: dict[str, tuple[Node, ...]] = {}
    for kind in space.cell_types:
        weights = (mixing.operations[kind] * mixing.edges[kind][:, None]).tolist()
        nodes = []
        for target in space.targets:
            strongest = []
            for edge in space.incoming(target):
                usable = [
                    column
                    for column, kept in enumerate(mask.rows[kind][edge])
                    if kept and space.operations[column] in space.keepable
                ]
                if usable:
                    best = max(usable, key=weights[edge].__getitem__)
                    strongest.append((weights[edge][best], edge, space.operations[best]))
            if len(strongest) < space.kept(target):
                raise ArchitectureError(
                    f"mask: {kind} node {target - space.inputs} has {len(strongest)} usable "
                    f"edges; a genotype needs {space.kept(target)}"
                )
            strongest.sort(key=lambda item: -item[0])
            kept = sorted(strongest[: space.kept(target)], key=lambda item: item[1])
            nodes.append(tuple((name, space.edges[edge][0]) for _, edge, name in kept))
        cells[kind] = tuple(nodes)
    return Genotype(space, cells)
