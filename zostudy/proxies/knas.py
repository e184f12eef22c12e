"""KNAS: the mean of the Gram matrix of gradients.

Symbols:
    n   pictures of the batch
    G   float[n, kernels], gradient of the sum of a picture's logits for the kernels
"""

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.proxies.inputs import Images, Network
from zostudy.proxies.norms import ConstantStatistics
from zostudy.registry import ranking_function


@ranking_function(
    "knas",
    sign=1,
    reads=("network", "images"),
    source="Xu et al. 2021, KNAS: Green neural architecture search",
)
def knas(network: Network, images: Images) -> Float[Tensor, ""]:
    """Mean entry of G Gᵀ, Σ_ij ⟨G_i, G_j⟩ / n²: MGM, of the gradients of the outputs.

    It is the squared length of the pictures' mean gradient, so that one backward pass gives it.
    The statistics of BN are constants of the batch, as with the neural tangent kernel, which is the
    same matrix.

    Differs from: the public code, which takes gradients of the loss of 50 batches, of the first 50
    weights of the first layers, centred over half of the batches. With gradients of the loss for
    all weights the mean would be the square of ``gradient_norm`` with ``norms: whole``.
    """
    statistics = network.statistics(images)
    with ConstantStatistics(statistics):
        mean = network(images).sum(dim=1).mean()
    gradients = network.gradients(mean, network.kernels)
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum()
