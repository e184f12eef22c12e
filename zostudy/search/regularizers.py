"""Terms on α that the architecture step adds to its loss.

A regularizer is ``(alpha, mask, epoch, epochs, *, options) -> scalar tensor``; ``alpha`` and
``mask`` hold all cell types' edges, one below the other. The fact ``only_with`` names options that
have no effect unless another option has one of some values.

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
from zostudy.search.relaxations import concentration

Alpha = Float[Tensor, "edges operations"]
KeptOperations = Bool[Tensor, "edges operations"]


@regularizer("none")
def none(alpha: Alpha, mask: KeptOperations, epoch: int, epochs: int) -> Float[Tensor, ""]:  # noqa: ARG001  # the interface
    """No term."""
    return alpha.new_zeros(())


@regularizer("beta_decay", only_with={"weight": {"schedule": ["linear", "constant"]}})
def beta_decay(  # the interface and its options
    alpha: Alpha,
    mask: KeptOperations,
    epoch: int,
    epochs: int,
    *,
    schedule: Literal["published", "linear", "constant"] = "published",
    slope: Annotated[float, "[0, 1000000]"] = 0.5,
    weight: Annotated[float, "[0, 1000000]"] = 25.0,
) -> Float[Tensor, ""]:
    """λ(t) · mean over edges of logsumexp over the unmasked operations' α.

    Args:
        alpha: α.
        mask: The mask.
        epoch: t.
        epochs: Epochs of the search.
        schedule: ``published`` for λ(t) = slope · t, as the public code has it; ``linear`` for
            λ(t) = weight · t / epochs; ``constant`` for λ(t) = weight.
        slope: Rise of λ with each epoch, of the published schedule.
        weight: λ at the end of the search, of the other schedules.

    References:
        docs/method.md, section 4; β-DARTS, section 3 (Ye et al. 2022).
    """
    strengths = {"published": slope * epoch, "linear": weight * epoch / epochs, "constant": weight}
    spread = torch.logsumexp(alpha.masked_fill(~mask, -torch.inf), dim=1).mean()
    return strengths[schedule] * spread


@regularizer("entropy")
def entropy(
    alpha: Alpha,
    mask: KeptOperations,
    epoch: int,
    epochs: int,
    *,
    weight: Annotated[float, "[0, 1000000]"] = 0.1,
) -> Float[Tensor, ""]:
    """λ(t) · mean over edges of the entropy of softmax(α): it lets edges decide as it rises.

    Args:
        alpha: α.
        mask: The mask.
        epoch: t.
        epochs: Epochs of the search.
        weight: λ at the end of the search; it rises linearly from 0.

    References:
        ASAP and other annealed searches; discussed in docs/concepts/search-methods.md.
    """
    log = alpha.masked_fill(~mask, -torch.inf).log_softmax(dim=1)
    log = torch.where(mask, log, 0)  # −∞ has no gradient
    surprise = torch.where(mask, log.exp() * log, 0)
    return -weight * epoch / epochs * surprise.sum(dim=1).mean()


@regularizer("zero_one")
def zero_one(
    alpha: Alpha,
    mask: KeptOperations,
    epoch: int,
    epochs: int,
    *,
    weight: Annotated[float, "[0, 1000000]"] = 10.0,
) -> Float[Tensor, ""]:
    """−λ · mean over the unmasked operations of (σ(α) − ½)²: it drives σ(α) to 0 or 1.

    Args:
        alpha: α.
        mask: The mask.
        epoch: Not used.
        epochs: Not used.
        weight: λ.

    References:
        FairDARTS, section 3.3, Eq. 5 (Chu et al. 2020).
    """
    del epoch, epochs
    distance = torch.where(mask, (alpha.sigmoid() - 0.5) ** 2, 0)
    return -weight * distance.sum() / mask.sum()


@regularizer("dirichlet_anchor")
def dirichlet_anchor(
    alpha: Alpha,
    mask: KeptOperations,
    epoch: int,
    epochs: int,
    *,
    weight: Annotated[float, "[0, 1000000]"] = 1e-3,
) -> Float[Tensor, ""]:
    """λ · sum over edges of KL(Dirichlet(elu(α) + 1) ‖ Dirichlet(1)) over the unmasked operations.

    Args:
        alpha: α.
        mask: The mask.
        epoch: Not used.
        epochs: Not used.
        weight: λ.

    References:
        DrNAS, section 3.1, Eq. 6 (Chen et al. 2021).
    """
    del epoch, epochs
    given = torch.where(mask, concentration(alpha), 1)
    total = torch.where(mask, given, 0).sum(dim=1)
    count = mask.sum(dim=1).to(alpha)
    inner = (given - 1) * (torch.digamma(given) - torch.digamma(total)[:, None])
    terms = torch.where(mask, inner - torch.lgamma(given), 0).sum(dim=1)
    return weight * (torch.lgamma(total) - torch.lgamma(count) + terms).sum()
