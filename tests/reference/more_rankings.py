"""Further ranking functions in plain loops on the per-edge networks, from their definitions.

Each takes a `rankings.Run`. What is drawn comes from a generator, in the order that is told.
"""

import itertools
import math

import torch
from torch import nn

from tests.reference import rankings


def normal(shape, generator, like):
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(like.dtype)


def gradients_of_parts(run, parts):
    """For each kernel the gradients of the parts, one after the other, a column for each part."""
    size = len(run.images) // parts
    found = []
    for index in range(parts):
        part = slice(index * size, (index + 1) * size)
        found.append(run.gradients(run.images[part], run.labels[part]))
    return [torch.stack([own[name].flatten() for own in found], dim=1) for name in run.kernels]


def gradient_snr(run, parts=4, xi=1e-8):
    total = 0.0
    for gradients in gradients_of_parts(run, parts):
        for weight in gradients.tolist():
            mean = sum(weight) / parts
            variance = sum((value - mean) ** 2 for value in weight) / parts
            total += mean**2 / (variance + xi)
    return total


def sweet_gradient(run, least=0.001, times=10.0):
    gradients = run.gradients(run.images, run.labels)
    sizes = [abs(v) for name in run.kernels for v in gradients[name].flatten().tolist()]
    return sum(least <= size < least * times for size in sizes)


def knas(run):
    """The mean of all entries of the Gram matrix, which is written out."""
    with rankings.constant_norm(run):
        rows = [rankings.picture_gradients(run, i)[1] for i in range(len(run.images))]
    gram = [[float(one @ other) for other in rows] for one in rows]
    return sum(map(sum, gram)) / len(rows) ** 2


def meco(run, generator, side=64, channels=0):
    with torch.no_grad():
        picture = normal((1, run.images.shape[1], side, side), generator, run.images)
        states = run.states(picture)[0]
        total = 0.0
        for state in states:
            rows, share = state[0].flatten(1), 1.0
            if channels and len(rows) > channels:
                chosen = torch.randperm(len(rows), generator=generator)[:channels]
                rows, share = rows[chosen], len(rows) / channels
            matrix = torch.nan_to_num(torch.corrcoef(rows).reshape(len(rows), len(rows)))
            total += share * float(torch.linalg.eigvals(matrix).real.min())
    return total


def outputs(run, images):
    """What the stem, each residual block and each cell give, with their graph."""
    found = []

    def note(_, __, given):
        given.retain_grad()
        found.append(given)
        return given.clone()

    network = run.network
    parts = [network.stem, *network.cells, *getattr(network, "blocks", nn.ModuleDict()).values()]
    handles = [part.register_forward_hook(note) for part in parts]
    run(images)
    for handle in handles:
        handle.remove()
    return found


def entropies(run, generator):
    found = []
    for maps in outputs(run, normal(run.images.shape, generator, run.images)):
        rows = maps.detach().permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        spread = torch.linalg.svdvals(rows - rows.mean(dim=0)) ** 2 / len(rows)
        shares = (spread / spread.sum()).tolist()
        found.append(-sum(share * math.log(share + 1e-8) for share in shares))
    return found


def az_expressivity(run, generator):
    return sum(entropies(run, generator))


def az_progressivity(run, generator):
    found = entropies(run, generator)
    return min(later - earlier for earlier, later in itertools.pairwise(found))


def az_trainability(run, generator):
    """Outer products position by position; where a picture is halved, of the pixels of a block."""
    maps = outputs(run, normal(run.images.shape, generator, run.images))
    scores = []
    for before, given in itertools.pairwise(maps):
        signs = 2.0 * torch.randint(2, given.shape, generator=generator).to(given.dtype) - 1
        before.grad = None
        given.backward(signs, retain_graph=True)
        step = -(-before.shape[2] // given.shape[2])
        total, count = 0.0, 0
        for picture in range(len(given)):
            for y in range(given.shape[2]):
                for x in range(given.shape[3]):
                    block = torch.zeros(before.shape[1], step, step, dtype=given.dtype)
                    part = before.grad[
                        picture, :, y * step : (y + 1) * step, x * step : (x + 1) * step
                    ]
                    block[:, : part.shape[1], : part.shape[2]] = part
                    total = total + torch.outer(block.flatten(), signs[picture, :, y, x])
                    count += 1
        largest = float(torch.linalg.svdvals(total / count)[0])
        scores.append(2 - largest - 1 / (largest + 1e-6))
    return sum(scores) / len(scores)


def az_complexity(run):
    """Multiply-accumulates counted from the layers of each edge's operation as it runs."""
    for cell in run.network.cells:
        kind = getattr(cell, "kind", "normal")
        edges = run.network.edge_weights(kind) if run.edges is None else run.edges[kind]
        for edge, operations in enumerate(cell.edges):
            for name, operation in operations.items():
                column = run.supernet.space.operations.index(name)
                weight = float(run.mixing[kind][edge, column] * edges[edge])
                for layer in operation.modules():
                    if isinstance(layer, nn.Conv2d):
                        layer.weight_of_edge = weight
    counts = []

    def count(layer, _, given):
        weight = getattr(layer, "weight_of_edge", 0.0)
        counts.append(weight * given[0].numel() * layer.weight[0].numel())

    layers = [layer for layer in run.network.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        run(run.images[:1])
    for handle in handles:
        handle.remove()
    return sum(counts)
