"""Terms on α that the architecture step adds to its loss.

A regularizer is ``(alpha, mask, epoch, epochs, *, options) -> scalar tensor``; ``alpha`` and
``mask`` hold all cell types' edges, one below the other.

Symbols:
    α      float[E, O], architecture parameters of all cell types
    1[o]   bool[E, O], the mask
    t      epoch, from 0, the warm-up counted in
    λ(t)   weight of the term at epoch t
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from zostudy.registry import regularizer

Alpha = Float[Tensor, "edges operations"]
KeptOperations = Bool[Tensor, "edges operations"]


@regularizer("none")
def none(alpha: Alpha, mask: KeptOperations, epoch: int, epochs: int) -> Float[Tensor, ""]:  # noqa: ARG001  # the interface
    """No term."""
    return alpha.new_zeros(())


@regularizer("beta_decay")
def beta_decay(  # the interface and two options
    alpha: Alpha,
    mask: KeptOperations,
    epoch: int,
    epochs: int,
    *,
    weight: Annotated[float, "[0, 1000000]"] = 25.0,
    schedule: Literal["linear", "constant"] = "linear",
) -> Float[Tensor, ""]:
    """λ(t) · mean over edges of logsumexp over the unmasked operations' α.

    Args:
        alpha: α.
        mask: The mask.
        epoch: t.
        epochs: Epochs of the search.
        weight: λ at the end of the search.
        schedule: ``linear`` for λ(t) = weight · t / epochs, ``constant`` for λ(t) = weight.

    References:
        docs/method.md, section 4; β-DARTS, section 3 (Ye et al. 2022). With 50 epochs and weight 25
        the linear schedule is the public code's 0.5 · t.
    """
    strength = weight * epoch / epochs if schedule == "linear" else weight
    return strength * torch.logsumexp(alpha.masked_fill(~mask, -torch.inf), dim=1).mean()
