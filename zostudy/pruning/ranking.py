"""Ranking functions: one number for an untrained network (METHOD section 5).

A ranking function is ``(logits, *, options) -> scalar tensor`` for the logits of a batch. Its
declaration carries ``sign``: 1 where a better network has the larger value, −1 where it has the
smaller one. It raises NumericalError rather than returning a number that means nothing.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.registry import ranking_function


@ranking_function("nngp", sign=1)
def nngp(
    logits: Float[Tensor, "batch classes"],
    *,
    kernel: Literal["correlation", "plain"] = "correlation",
) -> Float[Tensor, ""]:
    """Frobenius norm of the NNGP kernel of the logits.

    Args:
        logits: Logits of a batch.
        kernel: ``correlation`` centres and normalises each picture's logits, ``plain`` is their
            inner product divided by the number of classes.

    Raises:
        NumericalError: A picture's logits are all equal or not finite; or there are two classes,
            for which every correlation is 1 or −1 and every network ranks the same.

    References:
        METHOD section 5; Rumiantsev and Coates 2023; Park et al. 2020.
    """
    if kernel == "correlation" and logits.shape[1] < 3:
        raise NumericalError(
            f"nngp: the correlation kernel tells nothing of {logits.shape[1]} classes; "
            "set kernel to 'plain'"
        )
    return frobenius(nngp_kernel(logits, correlation=kernel == "correlation"))


def nngp_kernel(
    logits: Float[Tensor, "batch classes"], *, correlation: bool = True
) -> Float[Tensor, "batch batch"]:
    """The NNGP kernel of a batch, symmetric and positive semidefinite.

    Raises:
        NumericalError: A correlation is not defined.
    """
    if not correlation:
        return logits @ logits.T / logits.shape[1]
    centred = logits - logits.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()) or not bool(torch.isfinite(norms).all()):
        raise NumericalError(
            "nngp: the logits of a picture are all equal or not finite; no correlation is defined"
        )
    rows: Tensor = centred / norms
    return rows @ rows.T


def frobenius(kernel: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Frobenius norm of a kernel."""
    return kernel.square().sum().sqrt()
