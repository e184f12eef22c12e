"""Ranking functions of the gradient for the weights.

Symbols:
    θ   weights of the network (not α and β)
    L   cross-entropy of a batch
    g   ∂L/∂θ
    a   a state that a cell or a node reads

A weight of an operation whose mixing weight is 0 has no gradient, and so counts for nothing.
"""

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Images, Network, PlainNorm, WithoutNorm, holds
from zostudy.registry import ranking_function

Labels = Int64[Tensor, " batch"]


def _gradients(network: Network, images: Images, labels: Labels, *, twice: bool) -> list[Tensor]:
    loss = functional.cross_entropy(network(images), labels)
    return network.gradients(loss, list(network.weights.values()), twice=twice)


def _total(parts: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([part.sum() for part in parts]).sum()


@ranking_function(
    "gradient_norm",
    sign=1,
    reads=("network", "images", "labels"),
    source="Abdelfattah et al. 2021, Zero-cost proxies for lightweight NAS",
)
def gradient_norm(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """Euclidean norm of the loss's whole gradient.

    Differs from: the public code, which adds up the norms of layers; a supernet's layers are a
    matter of how it is computed.
    """
    return _total([g.square() for g in _gradients(network, images, labels, twice=False)]).sqrt()


@ranking_function(
    "snip",
    sign=1,
    reads=("network", "images", "labels"),
    source="Lee et al. 2019, SNIP",
)
def snip(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """Σ |θ g|: how much the loss depends on the weights' presence."""
    gradients = _gradients(network, images, labels, twice=False)
    pairs = zip(network.weights.values(), gradients, strict=True)
    return _total([(weight * gradient).abs() for weight, gradient in pairs])


@ranking_function(
    "grasp",
    sign=1,
    reads=("network", "images", "labels"),
    source="Wang et al. 2020, GraSP",
)
def grasp(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """−Σ θ · H g: how much the weights preserve the flow of gradients; H g = ½ ∂‖g‖²/∂θ."""
    with PlainNorm():  # torch's own has two derivatives; the first-order scorer takes a third
        gradients = _gradients(network, images, labels, twice=True)
    norm = _total([gradient.square() for gradient in gradients])
    products = network.gradients(norm / 2, list(network.weights.values()))
    pairs = zip(network.weights.values(), products, strict=True)
    return -_total([weight * product for weight, product in pairs])


@ranking_function(
    "fisher",
    sign=1,
    reads=("network", "images", "labels"),
    source="Turner et al. 2020, BlockSwap; Theis et al. 2018",
)
def fisher(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """Σ over channels of states of mean over pictures of ½ (Σ over pixels of a ∂L/∂a)².

    Differs from: the public code, which reads the output of every convolution; here the states
    that cells and nodes read.
    """
    reading = network.read(images)
    states = [state for state in reading["states"] if state.requires_grad]
    loss = functional.cross_entropy(reading["logits"], labels)
    pairs = zip(states, network.gradients(loss, states), strict=True)
    saliency = [(state * gradient).sum(dim=(2, 3)) for state, gradient in pairs]
    return _total([part.square().mean(dim=0) / 2 for part in saliency])


@ranking_function(
    "synflow",
    sign=1,
    reads=("network", "images"),
    source="Tanaka et al. 2020, SynFlow",
)
def synflow(network: Network, images: Images) -> Float[Tensor, ""]:
    """Σ |θ| ∂R/∂|θ| with R the sum of the logits of one picture of ones, all weights made positive.

    BN only scales, as in the public code of Abdelfattah et al. 2021, and the arithmetic is float64:
    the value grows by a factor with every cell. Of the batch only the shape of a picture is read.
    """
    weights = {
        name: weight.detach().abs().double().requires_grad_()
        for name, weight in network.weights.items()
    }
    ones = torch.ones_like(images[:1], dtype=torch.float64)
    with WithoutNorm():
        flow = network.read(ones, weights)["logits"].sum()
    gradients = network.gradients(flow, list(weights.values()))
    return _total([w * g for w, g in zip(weights.values(), gradients, strict=True)])


@ranking_function(
    "zico",
    sign=1,
    reads=("network", "images", "labels"),
    differentiable=False,
    source="Li et al. 2023, ZiCo",
)
def zico(
    network: Network, images: Images, labels: Labels, *, parts: Annotated[int, "[2, 10000]"] = 2
) -> Float[Tensor, ""]:
    """Σ over cells of log Σ_θ mean |g| / σ(g), over parts of the batch.

    Not differentiable in a way that tells anything: with its mixing weight an operation's gradient
    shrinks, its mean and its σ alike, up to the moment when it vanishes.

    Differs from: the public code, whose sums are over layers; a cell counts as one here, so that
    what leaving an operation out takes away is its terms.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        parts: Parts that the batch is divided into, of two pictures at least.

    Raises:
        NumericalError: The batch is too small.
    """
    if len(images) < 2 * parts:
        raise NumericalError(
            f"zico: a batch of {len(images)} pictures has no {parts} parts of 2 pictures; "
            "raise prune.batch_size"
        )
    chunks = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    found = [_gradients(network, part, classes, twice=False) for part, classes in chunks]
    sums: dict[str, Tensor] = {}
    for name, gradients in zip(network.weights, zip(*found, strict=True), strict=True):
        stacked = torch.stack([gradient.double() for gradient in gradients])
        means, deviations = stacked.abs().mean(dim=0), stacked.std(dim=0, correction=0)
        ratios = torch.where(deviations > 0, means / deviations, 0.0)
        cell = ".".join(name.split(".")[:2]) if name.startswith("cells.") else name.split(".")[0]
        sums[cell] = sums.get(cell, 0) + ratios.sum()
    return torch.stack([total.log() for total in sums.values() if holds(total > 0)]).sum()
