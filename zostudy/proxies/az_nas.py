"""The four ranking functions of AZ-NAS, all of noise in place of pictures.

Symbols:
    n    pictures of noise, as many and as large as those of the batch
    F_i  float[n, c, height, width], what the stem (i = 0), each residual block and each cell give,
         in the order of the network
    p    eigenvalues of the covariance of the channels of F_i over pictures and positions, as shares
         of their sum
    H_i  −Σ p log p, in nats: how evenly F_i uses its channels
    Z    float[n, c, height, width], 1 or −1, each with probability ½, in the shape of F_i
    A_i  float[channels before, channels], mean over pictures and positions of B Zᵀ, where B is what
         Z comes to where it is propagated back to F_{i−1}
    σ_i  the largest singular value of A_i

References:
    "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", section 3 (Lee and Ham
    2024), and its public code (NB201). It adds up the logs of the ranks that the four give
    (``combined: log_ranks`` of the score ``proxies``).

Differs from: the public code, which draws He's initialization; here the weights are the network's
own, whose scale BN takes away. Where cells have two inputs, Z goes back to the later one alone.
"""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Features, Images, Network, holds, noise
from zostudy.registry import ranking_function

#: Keeps logarithms and quotients finite, as in the public code.
_SHARE, _SINGULAR = 1e-8, 1e-6


def _entropies(
    name: str, network: Network, images: Images, generator: torch.Generator
) -> Float[Tensor, " outputs"]:
    """H_i of every F_i."""
    found = []
    for outputs in network.outputs(noise(images.shape, generator, images)):
        rows = outputs.transpose(0, 1).flatten(1).double()
        rows = rows - rows.mean(dim=1, keepdim=True)
        values = torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0)
        total = values.sum()
        if not holds((total > 0) & torch.isfinite(total)):
            raise NumericalError(f"{name}: what a cell gives is the same everywhere, or not finite")
        shares = values / total
        found.append(-(shares * (shares + _SHARE).log()).sum())
    return torch.stack(found)


@ranking_function(
    "az_expressivity",
    sign=1,
    reads=("network", "images", "generator"),
    source="Lee and Ham 2024, AZ-NAS",
)
def az_expressivity(
    network: Network, images: Images, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Σ H_i: how evenly what cells give uses its channels.

    Raises:
        NumericalError: A cell gives the same everywhere.
    """
    return _entropies("az_expressivity", network, images, generator).sum()


@ranking_function(
    "az_progressivity",
    sign=1,
    reads=("network", "images", "generator"),
    source="Lee and Ham 2024, AZ-NAS",
)
def az_progressivity(
    network: Network, images: Images, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Min over i of H_i − H_{i−1}: whether what cells give uses more and more channels.

    Raises:
        NumericalError: A cell gives the same everywhere.
    """
    return _entropies("az_progressivity", network, images, generator).diff().min()


@ranking_function(
    "az_trainability",
    sign=1,
    reads=("network", "images", "generator"),
    source="Lee and Ham 2024, AZ-NAS",
)
def az_trainability(
    network: Network, images: Images, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean over i of 2 − σ_i − 1 / (σ_i + 1e-6): 0 where cells keep the size of gradients.

    Where a picture is halved on the way, the positions that become one are channels of their own.
    A cell through which nothing leads has σ = 0, and the value is then about −1e6.

    Raises:
        NumericalError: A cell hands on what it reads, unchanged.
    """
    outputs = network.outputs(noise(images.shape, generator, images))
    found = []
    for before, given in itertools.pairwise(outputs):
        signs = (2.0 * torch.randint(2, given.shape, generator=generator) - 1).to(given)
        (back,) = network.gradients((given * signs).sum(), [before])
        if back.shape == signs.shape and not back.is_meta and torch.equal(back, signs):
            raise NumericalError("az_trainability: a cell hands on what it reads, unchanged")
        rows = _folded(back, signs).transpose(0, 1).flatten(1)
        columns = signs.transpose(0, 1).flatten(1)
        matrix = (rows @ columns.T / columns.shape[1]).double()
        largest = torch.linalg.matrix_norm(matrix, 2)
        found.append(2 - largest - 1 / (largest + _SINGULAR))
    return torch.stack(found).mean()


def _folded(larger: Features, smaller: Features) -> Features:
    """Maps with the height and width of smaller ones, blocks of pixels as channels."""
    (height, width), (low, narrow) = larger.shape[-2:], smaller.shape[-2:]
    step = -(-height // low)
    padded = functional.pad(larger, (0, step * narrow - width, 0, step * low - height))
    return functional.pixel_unshuffle(padded, step)


@ranking_function(
    "az_complexity",
    sign=1,
    reads=("network", "images"),
    source="Lee and Ham 2024, AZ-NAS",
)
def az_complexity(network: Network, images: Images) -> Float[Tensor, ""]:
    """Σ over the operations of cells of mixing weight × multiply-accumulates for one picture.

    What a network has beside them is the same for every architecture. It reads no numbers; of the
    batch only the size of the pictures counts.
    """
    costs = network.operations(images[:1])
    return torch.stack([weight.double() * count for weight, count in costs]).sum()
