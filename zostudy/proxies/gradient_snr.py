"""Gradient SNR: how steady the gradient of each weight is over the parts of a batch.

Symbols:
    g   gradient of the loss of a part for a weight
    ξ   keeps a steady gradient finite, and one that is next to 0 from counting
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.proxies.inputs import Images, Network
from zostudy.proxies.saliency import Labels, gradients_of_parts
from zostudy.registry import ranking_function


@ranking_function(
    "gradient_snr",
    sign=1,
    reads=("network", "images", "labels"),
    differentiable=False,
    source="Sun et al. 2023, Unleashing the power of gradient signal-to-noise ratio (ξ-GSNR)",
)
def gradient_snr(
    network: Network,
    images: Images,
    labels: Labels,
    *,
    parts: Annotated[int, "[2, 10000]"] = 4,
    xi: Annotated[float, "(0, 1]"] = 1e-8,
) -> Float[Tensor, ""]:
    """Σ over the weights of kernels of (mean g)² / (σ²(g) + ξ), over parts of the batch.

    The paper takes 8 batches of 64 pictures, and its public code (run.txt) ξ = 1e-8; it leaves out
    scales and biases of BN, as here. Not differentiable in a way that tells anything: with its
    mixing weight an operation's gradient shrinks, its mean and its σ alike, until ξ outweighs them.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        parts: Parts that the batch is divided into, of two pictures at least.
        xi: ξ.

    Raises:
        NumericalError: The batch is too small.
    """
    totals = []
    for gradients in gradients_of_parts("gradient_snr", network, images, labels, parts):
        variances, means = torch.var_mean(gradients, dim=0, correction=0)
        totals.append((means.square() / (variances + xi)).sum())
    return torch.stack(totals).sum()
