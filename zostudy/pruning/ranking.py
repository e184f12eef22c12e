"""Ranking functions: one number for an untrained network (METHOD section 5).

A ranking function is ``(network, images, labels, *, options) -> scalar tensor``, where
``network(images)`` gives logits. Its declaration carries ``sign``: 1 where a better network has the
larger value, −1 where it has the smaller one. It raises NumericalError rather than returning a
number that means nothing.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.registry import ranking_function

Network = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch classes"]]


@ranking_function("nngp", sign=1)
def nngp(
    network: Network,
    images: Float[Tensor, "batch channels height width"],
    labels: Int64[Tensor, " batch"],  # noqa: ARG001  # the kernel sees no labels
    *,
    kernel: Literal["correlation", "plain"] = "correlation",
) -> Float[Tensor, ""]:
    """Frobenius norm of the NNGP kernel of the logits.

    Args:
        network: The network.
        images: A batch of pictures.
        labels: Not used.
        kernel: ``correlation`` centres and normalises each picture's logits, ``plain`` is their
            inner product divided by the number of classes.

    Raises:
        NumericalError: A picture's logits are all equal, or not finite.

    References:
        METHOD section 5; Rumiantsev and Coates 2023; Park et al. 2020.
    """
    return frobenius(nngp_kernel(network(images), correlation=kernel == "correlation"))


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
    rows = centred / norms
    return rows @ rows.T


def frobenius(kernel: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Frobenius norm of a kernel."""
    return kernel.square().sum().sqrt()
