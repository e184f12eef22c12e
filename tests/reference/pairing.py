"""Which parameter of zostudy's supernet is which of the per-edge reference's."""

import torch

from tests.reference import nasbench201
from tests.reference.supernet import ReferenceSupernet
from zostudy.networks.node_operations import SharedDense, SharedReduction
from zostudy.networks.operations import FactorizedReduction

REFERENCES = {
    "darts": ReferenceSupernet,
    "nasbench201": nasbench201.ReferenceSupernet,
}


def reference_of(supernet, settings, in_channels, classes):
    """The reference of the same mask and size, with the same weights, α and β."""
    reference = REFERENCES[supernet.space.name](
        supernet.mask.rows,
        cells=settings.cells,
        channels=settings.channels,
        classes=classes,
        in_channels=in_channels,
        partial_channels=settings.partial_channels,
        edge_normalization=settings.edge_normalization,
        attention=settings.channel_split.options.get("kernel", 0),
    ).to(supernet.classifier.weight.dtype)
    with torch.no_grad():
        for ours, index, theirs in pairs(supernet, reference):
            theirs.copy_(ours[index].reshape(theirs.shape))
    return reference


def pairs(supernet, reference):
    """(our parameter, the index of a part of it, the reference's parameter) for every parameter."""
    everything = ...
    yield supernet.stem[0].weight, everything, reference.stem[0].weight
    yield supernet.stem[1].weight, everything, reference.stem[1].weight
    yield supernet.stem[1].bias, everything, reference.stem[1].bias
    yield supernet.classifier.weight, everything, reference.classifier.weight
    yield supernet.classifier.bias, everything, reference.classifier.bias
    for kind, alpha in supernet.alpha.items():
        yield alpha, everything, reference.alpha[kind]
    for kind, beta in supernet.beta.items():
        yield beta, everything, reference.beta[kind]
    if len(supernet.head):
        yield from _learned(supernet.head[0], reference.norm)
    for index, (ours, theirs) in enumerate(zip(supernet.cells, reference.cells, strict=True)):
        if str(index) in getattr(reference, "blocks", {}):
            yield from _block(ours.preprocess[0], reference.blocks[str(index)])
        elif supernet.space.projects:
            yield from _preprocess(ours.preprocess[0], theirs.preprocess0)
            yield from _preprocess(ours.preprocess[1], theirs.preprocess1)
        for source, split in ours.splits.items():
            yield split.convolution.weight, everything, theirs.attention[int(source)]
        for source, node in enumerate(ours.nodes):
            leaving = [e for e, edge in enumerate(reference.topology) if edge[0] == source]
            yield from _operations(node, [theirs.edges[e] for e in leaving])


def _learned(ours, theirs):
    yield ours.weight, ..., theirs.weight
    yield ours.bias, ..., theirs.bias


def _block(ours, theirs):
    for mine, other in ((ours.first, theirs.a), (ours.second, theirs.b)):
        yield mine[1].weight, ..., other.convolution.weight
        yield from _learned(mine[2], other.norm)
    yield ours.shortcut.weight, ..., theirs.shortcut.weight


def _preprocess(ours, theirs):
    if isinstance(ours, FactorizedReduction):
        yield ours.first.weight, ..., theirs.first.weight
        yield ours.second.weight, ..., theirs.second.weight
    else:
        yield ours.convolution.weight, ..., theirs.convolution.weight


def _operations(node, edges):
    for name, shared in node.shared.items():
        rows = [edge[name] for edge in edges if name in edge]
        for row, theirs in enumerate(rows):
            if isinstance(shared, SharedReduction):
                yield shared.first, row, theirs.first.weight
                if theirs.second is not None:
                    yield shared.second, row, theirs.second.weight
                continue
            if isinstance(shared, SharedDense):
                rows_of_edge = slice(row * node.channels, (row + 1) * node.channels)
                yield shared.weight, rows_of_edge, theirs.convolution.weight
                continue
            numbers = ("1", "2") if len(shared.depthwise) == 2 else ("",)
            for stage, number in enumerate(numbers):
                depthwise = getattr(theirs, f"depthwise{number}").weight
                pointwise = getattr(theirs, f"pointwise{number}").weight
                yield shared.depthwise[stage], row, depthwise
                yield shared.pointwise[stage], row, pointwise
