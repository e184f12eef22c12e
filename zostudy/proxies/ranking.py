"""Ranking functions that read one forward pass: kernels and codes of a batch.

What a ranking function is given, and what its decorator says of it: `zostudy.proxies.inputs`. It
raises NumericalError rather than returning a number that means nothing.

Symbols:
    n   pictures of the batch
    X   float[n, d], a row for each picture: its logits or features
    K   float[n, n], the kernel X Xᵀ; positive semidefinite, of rank at most m
    m   min(n, d), or min(n, d − 1) where rows are centred: the eigenvalues of K that can differ
        from 0
    κ   1e-5, keeps logarithms finite
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import holds
from zostudy.registry import ranking_function

_KAPPA = 1e-5


@ranking_function(
    "nngp",
    sign=1,
    reads=("logits", "features"),
    source="Rumiantsev and Coates 2023; Park et al. 2020; docs/method.md, section 5",
)
def nngp(
    logits: Float[Tensor, "batch classes"],
    features: Float[Tensor, "batch width"],
    *,
    outputs: Literal["logits", "features"] = "logits",
    kernel: Literal["correlation", "plain"] = "correlation",
    statistic: Literal["frobenius", "mean", "condition", "eigenvalues"] = "frobenius",
) -> Float[Tensor, ""]:
    """A statistic of the NNGP kernel of a batch's logits or features.

    Args:
        logits: Logits.
        features: Mean over the picture of the last cell's output.
        outputs: Which of them the kernel is of.
        kernel: ``correlation`` centres and normalizes each picture's row, ``plain`` is the inner
            product divided by the row's length.
        statistic: ``frobenius`` norm, ``mean`` of the entries, ``condition`` for the reciprocal
            condition number λ_m / λ_1 (1 at best), ``eigenvalues`` for the eigenvalue score.

    Raises:
        NumericalError: A picture's row is constant or not finite; or there are two classes, for
            which every correlation is 1 or −1 and every network ranks the same.
    """
    correlation = kernel == "correlation"
    rows = logits if outputs == "logits" else features
    if correlation and rows.shape[1] < 3:
        raise NumericalError(
            f"nngp: the correlation kernel tells nothing of {rows.shape[1]} classes; "
            "set kernel to 'plain'"
        )
    rows = normal_rows("nngp", rows, outputs) if correlation else rows / rows.shape[1] ** 0.5
    if statistic == "frobenius":
        return frobenius(rows @ rows.T)
    if statistic == "mean":
        return (rows @ rows.T).mean()
    values = eigenvalues("nngp", rows, centred=correlation)
    return values[-1] / values[0] if statistic == "condition" else eigenvalue_score(values)


def normal_rows(name: str, rows: Float[Tensor, "n d"], what: str) -> Float[Tensor, "n d"]:
    """Rows centred and of length 1, whose inner products are correlations.

    Args:
        name: The ranking function that asks.
        rows: A row for each picture.
        what: What the rows are, in words.

    Raises:
        NumericalError: A row is constant or not finite.
    """
    centred = rows - rows.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not holds((norms > 0) & torch.isfinite(norms)):
        raise NumericalError(
            f"{name}: the kernel is degenerate: the {what} of a picture are all equal or not "
            "finite; no correlation is defined"
        )
    normal: Tensor = centred / norms
    return normal


def frobenius(kernel: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Frobenius norm of a kernel."""
    return kernel.square().sum().sqrt()


def eigenvalues(name: str, rows: Float[Tensor, "n d"], *, centred: bool) -> Float[Tensor, " m"]:
    """The m largest eigenvalues of the rows' kernel, the largest first, in float64.

    Raises:
        NumericalError: They cannot be found.
    """
    count = min(rows.shape[0], rows.shape[1] - centred)
    try:
        singular: Tensor = torch.linalg.svdvals(rows.double())[:count]
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # documented
        raise NumericalError(f"{name}: the kernel has no eigenvalues ({error})") from error
    return singular.square()


def eigenvalue_score(values: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """−Σ log(λ + κ) + 1 / (λ + κ), largest where all eigenvalues are 1 (Mellor et al. 2020)."""
    shifted = values + _KAPPA
    return -(shifted.log() + 1 / shifted).sum()


@ranking_function(
    "naswot",
    sign=1,
    reads=("states",),
    differentiable=False,
    source="Mellor et al. 2021, Neural architecture search without training",
)
def naswot(
    states: Sequence[Float[Tensor, "batch channels height width"]],
) -> Float[Tensor, ""]:
    """Log-determinant of the kernel of the pictures' activation patterns.

    K_ij counts the units that are on, or off, for both pictures. Units are those of the states that
    cells and nodes read.

    Differs from: the public code, which also counts the units inside operations. Their number
    depends on the mask alone, and a mixing weight of 0 would not take them away.

    Raises:
        NumericalError: Two pictures have the same pattern.
    """
    count = len(states[0])
    kernel = torch.zeros(count, count, dtype=torch.float64, device=states[0].device)
    for state in states:
        on = (state > 0).flatten(1).float()
        kernel += (on @ on.T + (1 - on) @ (1 - on).T).double()
    sign: Tensor
    value: Tensor
    sign, value = torch.linalg.slogdet(kernel)
    if not holds((sign > 0) & torch.isfinite(value)):
        raise NumericalError(
            "naswot: the kernel is degenerate: two pictures switch the same units on and off"
        )
    return value


@ranking_function(
    "entropic_score",
    sign=1,
    reads=("states",),
    source="after Cavagnero et al. 2023, Entropic score metric",
)
def entropic_score(
    states: Sequence[Float[Tensor, "batch channels height width"]],
) -> Float[Tensor, ""]:
    """Mean entropy of the units of each state, summed over the states.

    A unit of value a is on with probability p = sigmoid(a); its entropy is
    −p log p − (1 − p) log(1 − p) = softplus(a) − a p, in nats. A state that is 0 everywhere, as of
    a node that nothing reaches, would have the largest entropy, and is left out.

    Differs from: the paper, whose layers are those of one network; here each state that a cell or a
    node reads counts as one.

    Raises:
        NumericalError: Every state is 0.
    """
    alive = [state for state in states if state.is_meta or bool(state.any())]
    if not alive:
        raise NumericalError("entropic_score: every state is 0 everywhere; none has an entropy")
    entropies = [(functional.softplus(s) - s * s.sigmoid()).mean() for s in alive]
    return torch.stack(entropies).sum()
