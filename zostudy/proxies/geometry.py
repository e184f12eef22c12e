"""Ranking functions of how the network's output moves with its pictures and its weights.

Symbols:
    n   pictures of the batch
    f   the network
    J   float[n, pixels], gradient of the sum of a picture's logits for its pixels
    G   float[n, kernels], gradient of the sum of a picture's logits for the kernels

Where BN would tie the pictures of a batch together, its mean and variance are taken as constants of
the batch: the sum over a batch of anything that BN has centred is 0, and so would its gradient be.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Images, Network, holds
from zostudy.proxies.norms import ConstantStatistics, WithoutNorm
from zostudy.proxies.ranking import eigenvalue_score, eigenvalues, normal_rows
from zostudy.registry import ranking_function


@ranking_function(
    "jacobian_covariance",
    sign=1,
    reads=("network", "images"),
    source="Mellor et al. 2020, first version of Neural architecture search without training",
)
def jacobian_covariance(network: Network, images: Images) -> Float[Tensor, ""]:
    """Eigenvalue score of the correlation between the pictures' rows of J.

    Raises:
        NumericalError: A picture has no gradient.
    """
    statistics = network.statistics(images)
    pixels = images.detach().requires_grad_()
    with ConstantStatistics(statistics):
        total = network(pixels).sum()
    jacobian = network.gradients(total, [pixels])[0].flatten(1)
    rows = normal_rows("jacobian_covariance", jacobian, "gradients for the pixels")
    return eigenvalue_score(eigenvalues("jacobian_covariance", rows, centred=True))


@ranking_function(
    "ntk_condition",
    sign=-1,
    reads=("network", "images"),
    source="Chen et al. 2021, TE-NAS",
)
def ntk_condition(
    network: Network, images: Images, *, pictures: Annotated[int, "[2, 10000]"] = 16
) -> Float[Tensor, ""]:
    """Condition number of the neural tangent kernel G Gᵀ of some of the batch's pictures.

    G is for the kernels of convolutions and of the classifier alone, as in TE-NAS, which takes 72
    pictures.

    Differs from: TE-NAS, through whose batch statistics the gradient of a picture passes. Where
    every operation ends with BN, as in the DARTS space, such rows of G sum to 0, and the smallest
    eigenvalue is rounding; here statistics are constants.

    Args:
        network: The network.
        images: The batch, whose statistics BN uses.
        pictures: Pictures, from the first, that the kernel is of; a backward pass each.

    Raises:
        NumericalError: The kernel is degenerate.
    """
    statistics = network.statistics(images)
    weights = network.kernels
    with ConstantStatistics(statistics):
        totals = network(images[:pictures]).sum(dim=1)
    rows = [
        torch.cat([part.flatten() for part in network.gradients(total, weights)])
        for total in totals.unbind()
    ]
    values = eigenvalues("ntk_condition", torch.stack(rows), centred=False)
    if not holds(values[-1] > 0):
        raise NumericalError(
            f"ntk_condition: the kernel is degenerate: its smallest eigenvalue is {values[-1]}"
        )
    return values[0] / values[-1]


@ranking_function(
    "zen",
    sign=1,
    reads=("network", "images", "generator"),
    source="Lin et al. 2021, Zen-NAS",
)
def zen(
    network: Network,
    images: Images,
    generator: torch.Generator,
    *,
    step: Annotated[float, "(0, 1000]"] = 0.01,
    norm: Literal["kept", "removed"] = "kept",
) -> Float[Tensor, ""]:
    """Log of how far f(x + step · z) lies from f(x) for noise x and z, and logs of BN's deviations.

    The weights of convolutions are drawn from N(0, 1) for it: with those of the usual
    initialization, which keep lengths, it would know nothing of the width of the layers. As in the
    public code f is what global average pooling reads, the distance is the mean over the pictures
    of Σ |·|, and a deviation is that of the running variance (`Network.deviations`).

    For a chain of layers it makes no difference whether BN stands in f and its deviations are added
    or BN is ``removed``; in a cell with branches it does.

    Differs from: the public code where a network mixes operations: the deviation of a BN is weighed
    as its operation, so that both vanish together; that of a pool counts in full, once for all
    edges that leave a node.

    Args:
        network: The network.
        images: The batch; only its shape is read.
        generator: Draws the noise.
        step: Length of the step.
        norm: Whether BN is in f; where it is ``removed``, f is the last cell, in which BN only
            scales, and the distance Euclidean. In float64 either way.
    """
    weights = {name: weight.double() for name, weight in network.weights.items()}
    for name in network.rows:
        shape = weights[name].shape
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        weights[name] = drawn.to(images.device)
    here, way = (
        torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images.device)
        for _ in range(2)
    )
    places = here, here + step * way
    if norm == "kept":
        (before, logs), (after, _) = (network.deviations(place, weights) for place in places)
        apart: Tensor = (after - before).abs().flatten(1).sum(dim=1).mean()
        return apart.log() + logs
    with WithoutNorm():
        before, after = (network.read(place, weights)["maps"].flatten(1) for place in places)
    length: Tensor = (after - before).norm(dim=1).mean()
    return length.log()


@ranking_function(
    "linear_regions",
    sign=1,
    reads=("network", "images"),
    differentiable=False,
    source="after Chen et al. 2021, TE-NAS; Hanin and Rolnick 2019",
)
def linear_regions(
    network: Network, images: Images, *, steps: Annotated[int, "[1, 10000]"] = 4
) -> Float[Tensor, ""]:
    """Mean number of linear regions on the straight line from a picture to the next one.

    Every unit of a state that switches on the way is the border of a region; units are looked at in
    a number of steps.

    Differs from: TE-NAS, which counts the different patterns of a batch: n pictures have n patterns
    as soon as a network has a few hundred units, and then every network scores the same.

    Args:
        network: The network.
        images: The batch; the last picture's next is the first.
        steps: Steps on each line.
    """
    following = images.roll(-1, dims=0)
    borders = torch.zeros((), dtype=torch.float64, device=images.device)
    before: list[Tensor] = []
    with torch.no_grad():
        for index in range(steps + 1):
            states = network.read(torch.lerp(images, following, index / steps))["states"]
            patterns = [state > 0 for state in states]
            for earlier, later in zip(before, patterns, strict=bool(before)):
                borders += (earlier != later).sum()
            before = patterns
    return 1 + borders / len(images)
