"""Multiply-accumulates of modules, counted on shapes alone."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
