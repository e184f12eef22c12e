"""Perturbations: the weight step sees mixing weights near those of α, so that it smooths them.

A perturbation is ``(weights, progress, draw, ascent, *, options) -> weights``; both hold all cell
types by name. ``ascent(weights)`` gives the gradient of the training loss for the mixing weights.

Symbols:
    w    float[E, O], mixing weights
    ε    radius: no mixing weight moves further, before its edge is scaled to the sum that it had

References:
    SDARTS, section 3, Eqs. 4 to 7 (Chen and Hsieh 2020).
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.registry import perturbation
from zostudy.runtime import sent

Weights = Mapping[str, Float[Tensor, "edges operations"]]
Ascent = Callable[[Weights], Weights]


@perturbation("none")
def none(weights: Weights, progress: float, draw: torch.Generator, ascent: Ascent) -> Weights:
    """The mixing weights as they are."""
    del progress, draw, ascent
    return weights


@perturbation("random", needs=("every operation",))
def random(
    weights: Weights,
    progress: float,
    draw: torch.Generator,
    ascent: Ascent,
    *,
    radius: Annotated[float, "(0, 1]"] = 0.03,
) -> Weights:
    """W + δ with δ uniform in [−ε, ε]: SDARTS-RS.

    Args:
        weights: w.
        progress: How far the search is, from 0 to 1; ε rises linearly with it.
        draw: Draws δ.
        ascent: Not used.
        radius: ε at the end of the search.
    """
    del ascent
    return {
        kind: _valid(own, own + (_uniform(own, draw) * radius * progress))
        for kind, own in weights.items()
    }


@perturbation("adversarial", needs=("every operation",))
def adversarial(
    weights: Weights,
    progress: float,
    draw: torch.Generator,
    ascent: Ascent,
    *,
    radius: Annotated[float, "(0, 1]"] = 0.03,
    steps: Annotated[int, "[1, 100]"] = 7,
) -> Weights:
    """W + δ with δ in [−ε, ε] found by projected gradient ascent on the training loss: SDARTS-ADV.

    Args:
        weights: w.
        progress: How far the search is, from 0 to 1; ε rises linearly with it.
        draw: Draws the start.
        ascent: Gives the gradient of the training loss.
        radius: ε at the end of the search.
        steps: Steps of the ascent, each of 2.5 ε / steps by the sign of the gradient.
    """
    limit = radius * progress
    found = {kind: own + _uniform(own, draw) * limit for kind, own in weights.items()}
    if limit == 0:
        return weights
    for _ in range(steps):
        gradients = ascent({kind: _valid(weights[kind], own) for kind, own in found.items()})
        for kind, own in weights.items():
            moved = found[kind] + 2.5 * limit / steps * gradients[kind].sign()
            found[kind] = torch.minimum(torch.maximum(moved, own - limit), own + limit)
    return {kind: _valid(weights[kind], own) for kind, own in found.items()}


def _uniform(like: Tensor, draw: torch.Generator) -> Tensor:
    """Uniform numbers in [−1, 1]."""
    drawn = 2 * torch.rand(like.shape, generator=draw) - 1
    return sent(drawn.to(like.dtype), like.device)


def _valid(weights: Tensor, perturbed: Tensor) -> Tensor:
    """No weight below 0, each edge's sum as it was, and 0 where the weight was exactly 0."""
    kept = torch.where(weights == 0, 0, perturbed.clamp_min(0))
    total = kept.sum(dim=1, keepdim=True)
    scaled = kept * (weights.sum(dim=1, keepdim=True) / torch.where(total == 0, 1, total))
    return torch.where(total == 0, weights, scaled)
