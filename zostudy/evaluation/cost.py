"""What a network costs: its parameters and its multiply-accumulates."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zostudy.data.dataset import Dataset
from zostudy.networks.standalone import AUXILIARY
from zostudy.space.genotype import Genotype


def of_genotype(
    genotype: Genotype,  # noqa: ARG001  # today's metrics are those of the network
    network: nn.Module,
    dataset: Dataset,
) -> dict[str, int]:
    """Every metric that follows from a genotype and its network alone, by its name.

    What is computed here is declared in `zostudy.metrics` with the source ``genotype``.

    Args:
        genotype: The architecture.
        network: Its stand-alone network; it stays as it is, and may be on the ``meta`` device.
        dataset: Gives the shape of the pictures.
    """
    return {
        "parameters": parameters(network),
        "macs": macs(network, dataset.channels, dataset.height, dataset.width),
    }


def parameters(network: nn.Module) -> int:
    """Learnable numbers of a network, without its auxiliary head.

    References:
        Liu et al. 2018, "DARTS", table 1, counts the same way.
    """
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith(AUXILIARY)
    )


def macs(network: nn.Module, channels: int, height: int, width: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one picture, in eval mode.

    Counted on shapes alone, so that nothing is computed. Batch normalization, pooling, activations
    and sums count nothing, as in the published figures.

    Args:
        network: The network; it stays as it is.
        channels: Channels of the picture.
        height: Its height in pixels.
        width: Its width in pixels.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, channels, height, width, device="meta"))
    return int(counter.get_total_flops()) // 2
