"""MeCo: how far the channels of a layer are from repeating each other.

Symbols:
    c   channels of a state
    R   float[c, pixels], the channels of a state for one picture of noise, centred and of length 1
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.proxies.inputs import Images, Network, noise
from zostudy.registry import ranking_function

#: The least length that a channel is divided by; a constant channel stays 0.
_LEAST = 1e-12


@ranking_function(
    "meco",
    sign=1,
    reads=("network", "images", "generator"),
    source="Jiang et al. 2023, MeCo: Zero-shot NAS with one data and single forward pass",
)
def meco(
    network: Network,
    images: Images,
    generator: torch.Generator,
    *,
    side: Annotated[int, "[8, 4096]"] = 64,
    channels: Annotated[int, "[0, 100000]"] = 0,
) -> Float[Tensor, ""]:
    """Σ over states of the smallest eigenvalue of R Rᵀ, the correlations of the channels.

    As in the public code, the one picture is noise of 64×64, so that a layer of many channels still
    has as many pixels; with fewer its smallest eigenvalue is 0. A constant channel correlates with
    none, not with itself either.

    Differs from: the public code, whose layers are all modules, those inside operations and those
    made of others included. Here they are the states that cells and nodes read, as of ``naswot``.

    Args:
        network: The network.
        images: The batch; only its channels are read.
        generator: Draws the noise, and the channels.
        side: Height and width of the picture.
        channels: How many channels of a state are looked at where it has more, drawn anew for each;
            the eigenvalue then counts c / channels times (MeCo_opt, with 8). 0 for all.
    """
    shape = (1, images.shape[1], side, side)
    found = []
    for state in network.read(noise(shape, generator, images))["states"]:
        rows, share = state[0].flatten(1).double(), 1.0
        if 0 < channels < len(rows):
            drawn = torch.randperm(len(rows), generator=generator)[:channels]
            rows, share = rows[drawn.to(rows.device)], len(rows) / channels
        rows = rows - rows.mean(dim=1, keepdim=True)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=_LEAST)
        found.append(share * torch.linalg.eigvalsh(rows @ rows.T)[0])
    return torch.stack(found).sum()
