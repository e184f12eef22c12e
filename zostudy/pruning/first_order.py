r"""Scores of all operations, or all edges, from one backward pass a batch.

Leaving an operation out moves the mixing weights of its edge from 1/n to 1/(n − 1), and its own to
0. To first order the ranking moves by its gradient times that move:

    r(N \ e_j) ≈ r(N) + ∇_w r · Δw

With g the gradient for the weights of an edge, S its sum over the n operations there,
∇_w r · Δw = (S − g_j) / (n − 1) − S / n. With edge normalization the edges of a node are the same
case; without it, an edge's own weight goes from 1 to 0 and the others stay, so ∇_w r · Δw = −g_e.

Symbols:
    w   mixing weights
    n   operations of the edge (edges of the node)
    g   ∂r/∂w, averaged over the batches

References:
    docs/method.md, section 9.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import values
from zostudy.pruning.scoring import Edge, losses, removable, uniform_mixing
from zostudy.space.mask import Place

#: By cell type, float[rankings, edges, operations] or float[rankings, edges].
Gradients = Mapping[str, Tensor]


def operation_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    memory: PeakMemory | None = None,
) -> dict[Place, float]:
    """The score of every operation that is not its edge's last, to first order.

    Args:
        supernet: An initialized supernet of the mask to be scored.
        rankings: Differentiable ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        memory: Measures the first batch, where it is given.

    Raises:
        NumericalError: A ranking or its gradient is not finite, or a ranking is 0.
    """
    whole, gradients = _gradients(supernet, rankings, batches, "operations", memory)
    moves = {}
    for kind, gradient in gradients.items():
        kept = supernet.mask_of(kind).to(gradient)
        moves[kind] = _left_out(gradient * kept, kept)
    places = removable(supernet.mask)
    lost = -torch.stack([moves[kind][:, edge, column] for kind, edge, column in places])
    return losses(supernet.space, rankings, whole, lost, places)


def edge_scores(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    edges: Sequence[Edge],
) -> dict[Edge, float]:
    """The score of edges, to first order: the ranking of ETENAS's last step.

    Args:
        supernet: An initialized supernet.
        rankings: Differentiable ranking functions, summed.
        batches: Batches that each ranking is averaged over.
        edges: The edges to score.

    Raises:
        NumericalError: A ranking or its gradient is not finite, or a ranking is 0.
    """
    space = supernet.space
    whole, gradients = _gradients(supernet, rankings, batches, "edges")
    moves = {}
    for kind, gradient in gradients.items():
        moves[kind] = -gradient
        if kind in supernet.beta:
            parts = [gradient[:, list(space.incoming(target))] for target in space.targets]
            moves[kind] = torch.cat([_left_out(part, torch.ones_like(part)) for part in parts], 1)
    lost = -torch.stack([moves[kind][:, edge] for kind, edge in edges])
    return losses(space, rankings, whole, lost, edges)


def _left_out(
    gradient: Float[Tensor, "*rows columns"], kept: Float[Tensor, "*rows columns"]
) -> Float[Tensor, "*rows columns"]:
    """∇_w r · Δw for each column of a row of uniform weights; nothing is finite in a row of one."""
    count, total = kept.sum(dim=-1, keepdim=True), gradient.sum(dim=-1, keepdim=True)
    return (total - gradient) / (count - 1) - total / count


def _gradients(
    supernet: Supernet,
    rankings: Sequence[Ranking],
    batches: Sequence[ProxyInputs],
    by: Literal["operations", "edges"],
    memory: PeakMemory | None = None,
) -> tuple[Float[Tensor, " rankings"], Gradients]:
    """Every ranking's value and its gradient for the mixing weights, averaged over the batches.

    Raises:
        NumericalError: A ranking does not depend on the mixing weights, or means nothing.
    """
    base = uniform_mixing(supernet)
    leaves = {kind: weights.requires_grad_() for kind, weights in getattr(base, by).items()}
    # Summed on the device, so that the host waits for it once.
    device = supernet.classifier.weight.device
    whole = torch.zeros(len(rankings), dtype=torch.float64, device=device)
    gradients = {
        kind: torch.zeros(len(rankings), *weights.shape, dtype=torch.float64, device=device)
        for kind, weights in leaves.items()
    }
    for batch in batches:
        with memory.sample(supernet, batch.images) if memory else contextlib.nullcontext():
            found = values(supernet, base, rankings, batch, twice=True)
            parts = []
            shared = [index for index, ranking in enumerate(rankings) if ranking.forward_only]
            for index, (ranking, value) in enumerate(zip(rankings, found, strict=True)):
                if not value.requires_grad:
                    raise NumericalError(f"{ranking.name}: does not depend on the mixing weights")
                again = index in shared[:-1]  # others go on from the same forward pass
                parts.append(
                    torch.autograd.grad(
                        value, list(leaves.values()), retain_graph=again, materialize_grads=True
                    )
                )
        memory = None
        whole += torch.stack([value.detach().double() for value in found]) / len(batches)
        for index, part in enumerate(parts):
            for kind, gradient in zip(leaves, part, strict=True):
                gradients[kind][index] += gradient / len(batches)
    return whole.cpu(), {kind: gradient.cpu() for kind, gradient in gradients.items()}
