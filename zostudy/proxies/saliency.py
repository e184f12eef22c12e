"""Ranking functions of the gradient for the weights.

Symbols:
    θ   weights of the network (not α and β)
    L   cross-entropy of a batch
    g   ∂L/∂θ
    a   a channel of what a layer gives for a picture

A layer is one kernel of one edge's operation (`Network.layers`), as the sources have it, whatever
the supernet computes in one call. Only kernels count: scales and biases of BN, and the classifier's
bias, do not, as in the public code (github.com/SamsungLabs/zero-cost-nas, which automl/NASLib
follows). A weight of an operation whose mixing weight is 0 has no gradient, and so counts for
nothing.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from zostudy.errors import NumericalError
from zostudy.proxies.inputs import Images, Network, holds
from zostudy.proxies.norms import Convolved, PlainNorm, WithoutNorm
from zostudy.registry import ranking_function

Labels = Int64[Tensor, " batch"]


def loss_gradients(
    network: Network, images: Images, labels: Labels, *, twice: bool = False
) -> list[Tensor]:
    """The gradients of the kernels.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        twice: Whether they are differentiated again.
    """
    loss = functional.cross_entropy(network(images), labels)
    return network.gradients(loss, network.kernels, twice=twice)


def _total(parts: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([part.sum() for part in parts]).sum()


@ranking_function(
    "gradient_norm",
    sign=1,
    reads=("network", "images", "labels"),
    source="Abdelfattah et al. 2021, Zero-cost proxies for lightweight NAS",
)
def gradient_norm(
    network: Network,
    images: Images,
    labels: Labels,
    *,
    norms: Literal["layers", "whole"] = "layers",
) -> Float[Tensor, ""]:
    """Σ over layers of the Euclidean norm of the loss's gradient.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        norms: ``layers`` adds up their norms, as Abdelfattah et al. do; ``whole`` is one norm of
            all gradients, as Zen-NAS compares with.
    """
    gradients = loss_gradients(network, images, labels)
    if norms == "whole":
        return _total([g.square() for g in gradients]).sqrt()
    return torch.stack([torch.linalg.vector_norm(g) for g in network.layers(gradients)]).sum()


@ranking_function(
    "snip",
    sign=1,
    reads=("network", "images", "labels"),
    source="Lee et al. 2019, SNIP",
)
def snip(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """Σ |θ g|: how much the loss depends on the weights' presence."""
    gradients = loss_gradients(network, images, labels)
    pairs = zip(network.kernels, gradients, strict=True)
    return _total([(weight * gradient).abs() for weight, gradient in pairs])


@ranking_function(
    "grasp",
    sign=1,
    reads=("network", "images", "labels"),
    source="Wang et al. 2020, GraSP",
)
def grasp(
    network: Network, images: Images, labels: Labels, *, classifier: bool = True
) -> Float[Tensor, ""]:
    """−Σ θ · H g: how much the weights preserve the flow of gradients; H g = ½ ∂‖g‖²/∂θ.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        classifier: Whether the terms of the classifier's weights are in the sum, as in the source.
            They are large, the same in every cell, and follow the draw of weights more than the
            architecture.
    """
    with PlainNorm():  # torch's own has two derivatives; the first-order scorer takes a third
        gradients = loss_gradients(network, images, labels, twice=True)
    norm = _total([gradient.square() for gradient in gradients])
    products = network.gradients(norm / 2, network.kernels)
    terms = zip(network.rows, network.kernels, products, strict=True)
    return -_total(
        [
            weight * product
            for name, weight, product in terms
            if classifier or not name.startswith("classifier.")
        ]
    )


@ranking_function(
    "fisher",
    sign=1,
    reads=("network", "images", "labels"),
    source="Turner et al. 2020, BlockSwap; Theis et al. 2018",
)
def fisher(network: Network, images: Images, labels: Labels) -> Float[Tensor, ""]:
    """Σ over channels of layers of fan-in × mean over pictures of ½ (Σ over pixels of a ∂L/∂a)².

    Without a bias, the sum over pixels is that of θ ∂L/∂θ over the channel's weights, for each
    picture. As in the public code, every weight of a channel is given the channel's value.

    Differs from: the public code for depthwise and pointwise convolutions, which are one layer
    here, the linear map that they make together.
    """
    with Convolved() as convolved:
        loss = functional.cross_entropy(network(images), labels)
    outputs = [(output, fan) for output, fan in convolved.found if output.requires_grad]
    gradients = network.gradients(loss, [output for output, _ in outputs])
    found = []
    for (output, fan), gradient in zip(outputs, gradients, strict=True):
        saliency = (
            (output * gradient).flatten(2).sum(dim=2) if output.ndim > 2 else output * gradient
        )
        found.append(fan * saliency.square().mean(dim=0) / 2)
    return _total(found)


@ranking_function(
    "synflow",
    sign=1,
    reads=("network", "images"),
    source="Tanaka et al. 2020, SynFlow",
)
def synflow(
    network: Network, images: Images, *, gradients: Literal["plain", "log"] = "plain"
) -> Float[Tensor, ""]:
    """Σ |θ| ∂R/∂|θ| with R the sum of the logits of one picture of ones, all weights made positive.

    BN only scales, as in the public code of Abdelfattah et al. 2021, and the arithmetic is float64:
    the value grows by a factor with every cell. Of the batch only the shape of a picture is read.

    Args:
        network: The network.
        images: The batch.
        gradients: ``log`` takes log(1 + ∂R/∂|θ|) in place of the derivative (LogSynFlow of FreeREA,
            Cavagnero et al. 2023).
    """
    weights = {
        name: weight.detach().abs().double().requires_grad_()
        for name, weight in network.weights.items()
    }
    ones = torch.ones_like(images[:1], dtype=torch.float64)
    with WithoutNorm():
        flow = network.read(ones, weights)["logits"].sum()
    found = network.gradients(flow, list(weights.values()))
    if gradients == "log":
        found = [gradient.log1p() for gradient in found]
    return _total([w * g for w, g in zip(weights.values(), found, strict=True)])


def gradients_of_parts(
    name: str, network: Network, images: Images, labels: Labels, parts: int
) -> list[Float[Tensor, "parts ..."]]:
    """For each layer, its gradients by the parts of a batch, in float64.

    Args:
        name: The ranking function that asks.
        network: The network.
        images: The batch.
        labels: Its classes.
        parts: Parts that it is divided into, one after the other.

    Raises:
        NumericalError: A part has less than two pictures.
    """
    if len(images) < 2 * parts:
        raise NumericalError(
            f"{name}: a batch of {len(images)} pictures has no {parts} parts of 2 pictures; "
            "raise prune.batch_size"
        )
    chunks = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    layers = [network.layers(loss_gradients(network, *chunk)) for chunk in chunks]
    return [
        torch.stack([gradient.double() for gradient in gradients])
        for gradients in zip(*layers, strict=True)
    ]


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
    """Σ over layers of log Σ_θ mean |g| / σ(g), over parts of the batch.

    Not differentiable in a way that tells anything: with its mixing weight an operation's gradient
    shrinks, its mean and its σ alike, up to the moment when it vanishes.

    Layers whose gradients are all 0, or do not vary, are left out, as in the public code.

    Args:
        network: The network.
        images: The batch.
        labels: Its classes.
        parts: Parts that the batch is divided into, of two pictures at least.

    Raises:
        NumericalError: The batch is too small, or no layer has a gradient that varies.
    """
    totals: list[Tensor] = []
    for stacked in gradients_of_parts("zico", network, images, labels, parts):
        means, deviations = stacked.abs().mean(dim=0), stacked.std(dim=0, correction=0)
        ratios = torch.where(deviations > 0, means / deviations, 0.0)
        totals.append(ratios.sum())
    logs = [total.log() for total in totals if holds(total > 0)]
    if not logs:
        raise NumericalError("zico: no layer has a gradient that varies")
    return torch.stack(logs).sum()
