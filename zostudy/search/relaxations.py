"""Relaxations: from architecture parameters to mixing weights, once a step.

A relaxation is ``(alpha, mask, progress, draw, *, options) -> weights``. It sees one cell type, and
its weights are exactly 0 where the mask is false. ``draw`` is a generator on the CPU, so that the
same seed draws the same on every device. The fact ``paths: True`` says that the weights of an edge
are one 1 and zeros: only the operation that has the 1 is computed. The fact ``strength`` names a
function beside it, ``(alpha, mask) -> float[E, O]``, that says how strong each operation is, which
is what a genotype is chosen by; without it that is the masked softmax. The fact ``trains: False``
says that α has no gradient.

Symbols:
    α        float[E, O], architecture parameters of a cell type
    w        float[E, O], mixing weights
    π        softmax of α over the unmasked operations of an edge
    τ        temperature
    G        Gumbel noise, −log(−log u) with u uniform in (0, 1)

References:
    docs/concepts/search-methods.md, which says what was decided where papers and code disagree.
"""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from zostudy.networks.mixing import masked_softmax
from zostudy.registry import relaxation
from zostudy.runtime import sent

Alpha = Float[Tensor, "edges operations"]
Kept = Bool[Tensor, "edges operations"]
Weights = Float[Tensor, "edges operations"]

#: Keeps logarithms of uniform numbers finite in float32.
_TINY = 1e-10

#: That of α = −14; further down, α has no gradient.
_LEAST_CONCENTRATION = 1e-6


@relaxation("softmax")
def softmax(alpha: Alpha, mask: Kept, progress: float, draw: torch.Generator) -> Weights:
    """W = π: every operation at once (DARTS, Eq. 2; Liu et al. 2019)."""
    del progress, draw
    return masked_softmax(alpha, mask)


@relaxation("sigmoid", strength="masked_sigmoid")
def sigmoid(alpha: Alpha, mask: Kept, progress: float, draw: torch.Generator) -> Weights:
    """W = σ(α): operations do not compete (FairDARTS, section 3.2; Chu et al. 2020)."""
    del progress, draw
    return masked_sigmoid(alpha, mask)


def masked_sigmoid(alpha: Alpha, mask: Kept) -> Weights:
    """σ(α) of the unmasked operations, 0 elsewhere."""
    return torch.where(mask, alpha.sigmoid(), 0)


@relaxation("gdas", paths=True)
def gdas(
    alpha: Alpha,
    mask: Kept,
    progress: float,
    draw: torch.Generator,
    *,
    first_temperature: Annotated[float, "(0, 1000]"] = 10.0,
    last_temperature: Annotated[float, "(0, 1000]"] = 0.1,
) -> Weights:
    """One path by Gumbel-max; its gradient is that of the softmax of (log π + G) / τ.

    The gradient of an operation that was not drawn is not computed, so that it counts as 0.

    Args:
        alpha: α.
        mask: The mask.
        progress: How far the search is, from 0 to 1.
        draw: Draws G.
        first_temperature: τ of the first epoch; it falls linearly.
        last_temperature: τ of the last epoch.

    References:
        GDAS, section 3.2, Eqs. 3 to 5 (Dong and Yang 2019).
    """
    temperature = first_temperature + (last_temperature - first_temperature) * progress
    soft = _noisy(alpha, mask, draw, temperature)
    return _straight_through(_one_hot(soft), soft)


@relaxation("snas")
def snas(
    alpha: Alpha,
    mask: Kept,
    progress: float,
    draw: torch.Generator,
    *,
    first_temperature: Annotated[float, "(0, 1000]"] = 1.0,
    last_temperature: Annotated[float, "(0, 1000]"] = 0.03,
) -> Weights:
    """W = softmax of (log π + G) / τ: every operation, near to one path as τ falls.

    Args:
        alpha: α.
        mask: The mask.
        progress: How far the search is, from 0 to 1.
        draw: Draws G.
        first_temperature: τ of the first epoch; it falls geometrically.
        last_temperature: τ of the last epoch.

    References:
        SNAS, section 2.2, Eq. 5 (Xie et al. 2019).
    """
    temperature = first_temperature * (last_temperature / first_temperature) ** progress
    return _noisy(alpha, mask, draw, temperature)


@relaxation("reinmax", paths=True)
def reinmax(
    alpha: Alpha,
    mask: Kept,
    progress: float,
    draw: torch.Generator,
    *,
    temperature: Annotated[float, "[1, 1000]"] = 1.0,
) -> Weights:
    """One path drawn from π, with a gradient of second-order accuracy.

    Args:
        alpha: α.
        mask: The mask.
        progress: How far the search is, from 0 to 1.
        draw: Draws the path.
        temperature: τ of the distribution that the gradient averages with the drawn path.

    References:
        "Bridging Discrete and Backpropagation", section 4, Algorithm 2 (Liu et al. 2023).
    """
    del progress
    hard = _one_hot(_noisy(alpha.detach(), mask, draw, 1.0))
    # π₁ is the mean of the path and of π at τ; it has the gradient of a softmax of its own.
    mean = (hard + masked_softmax(alpha / temperature, mask)) / 2
    shift = (mean.clamp_min(_TINY).log() - alpha).detach()
    first = masked_softmax(alpha + shift, mask)
    return _straight_through(hard, 2 * first - masked_softmax(alpha, mask) / 2)


@relaxation("dirichlet", strength="dirichlet_mean")
def dirichlet(alpha: Alpha, mask: Kept, progress: float, draw: torch.Generator) -> Weights:
    """W drawn from a Dirichlet distribution with concentration elu(α) + 1.

    The draw is a ratio of Gamma variates, so that its gradient is the implicit one.

    References:
        DrNAS, section 3.1 (Chen et al. 2021).
    """
    del progress
    given = concentration(alpha).to("cpu", torch.float64)
    gamma = torch._standard_gamma(given, generator=draw).clamp_min(_TINY).to(alpha)
    gamma = torch.where(mask, gamma, 0)
    return gamma / gamma.sum(dim=1, keepdim=True)


def dirichlet_mean(alpha: Alpha, mask: Kept) -> Weights:
    """The mean of the Dirichlet distribution over the unmasked operations of an edge."""
    kept = torch.where(mask, concentration(alpha), 0)
    return kept / kept.sum(dim=1, keepdim=True)


def concentration(alpha: Alpha) -> Weights:
    """elu(α) + 1, of which a very negative α makes no 0, where neither draw nor mean exists."""
    return (functional.elu(alpha) + 1).clamp_min(_LEAST_CONCENTRATION)


@relaxation("uniform_path", paths=True, trains=False)
def uniform_path(alpha: Alpha, mask: Kept, progress: float, draw: torch.Generator) -> Weights:
    """One path, every unmasked operation with the same probability; α has no gradient.

    References:
        "Single Path One-Shot", section 3.2 (Guo et al. 2020).
    """
    del progress
    return _one_hot(_noisy(torch.zeros_like(alpha), mask, draw, 1.0))


def _noisy(alpha: Alpha, mask: Kept, draw: torch.Generator, temperature: float) -> Weights:
    """The softmax of (log π + G) / τ over the unmasked operations."""
    uniform = torch.rand(alpha.shape, generator=draw, dtype=torch.float64).clamp(_TINY, 1 - 1e-12)
    noise = sent((-torch.log(-torch.log(uniform))).to(alpha.dtype), alpha.device)
    log_softmax = alpha.masked_fill(~mask, -torch.inf).log_softmax(dim=1)
    # Of a masked operation the logarithm is −∞, whose gradient would be no number.
    log_softmax = torch.where(mask, log_softmax, 0)
    return masked_softmax((log_softmax + noise) / temperature, mask)


def _one_hot(weights: Weights) -> Weights:
    """1 at the largest entry of each row, 0 elsewhere."""
    return functional.one_hot(weights.argmax(dim=1), weights.shape[1]).to(weights)


def _straight_through(hard: Weights, soft: Weights) -> Weights:
    """The value of one and the gradient of the other; the value is exact."""
    return hard + (soft - soft.detach())
