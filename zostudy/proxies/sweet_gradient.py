"""Sweet gradient: how many weights have a gradient that is neither small nor large."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Images, Network, holds
from zostudy.proxies.saliency import Labels, loss_gradients
from zostudy.registry import ranking_function


@ranking_function(
    "sweet_gradient",
    sign=1,
    reads=("network", "images", "labels"),
    differentiable=False,
    source="Yang et al. 2023, Sweet gradient matters (Sweetimator)",
)
def sweet_gradient(
    network: Network,
    images: Images,
    labels: Labels,
    *,
    least: Annotated[float, "(0, 1000000]"] = 0.001,
    times: Annotated[float, "(1, 1000000]"] = 10.0,
) -> Float[Tensor, ""]:
    """How many weights of kernels have a gradient of the loss of a size in an interval.

    Differs from: the paper, which finds an interval for each search space by networks of several
    depths. Neither that procedure nor its intervals were at hand: the default is a decade, and has
    no other authority. Gradients grow with the depth and shrink with the width of networks, and
    with the size of the batch, so that an interval holds for one size only.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        least: The lower end, which is in the interval.
        times: How many times that the upper end is, which is not.

    Raises:
        NumericalError: A gradient is not finite.
    """
    sizes = [g.abs() for g in loss_gradients(network, images, labels)]
    if not holds(torch.stack([torch.isfinite(size).all() for size in sizes]).all()):
        raise NumericalError("sweet_gradient: a gradient is not finite")
    sweet = [((size >= least) & (size < least * times)).sum() for size in sizes]
    return torch.stack(sweet).sum().double()
