"""What stands around the cells of a network, in the supernet and in the stand-alone network alike.

Every part here is the same in both but for its batch normalization: what a search space's
description leaves open is ``searched``, whether the network is a supernet. There, BN keeps no
running statistics, and that of what brings inputs to a cell learns no parameters either.

References:
    DARTS, section 3.1 (Liu et al. 2018); NAS-Bench-201, section 2.1 and figure 1 (Dong and Yang
    2020), `TinyNetwork` and `ResNetBasicblock` of its public code.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.errors import ArchitectureError
from zostudy.networks.convolution import Conv2d
from zostudy.networks.operations import FactorizedReduction, ReLUConvBN
from zostudy.space.search_space import SearchSpace

Images = Float[Tensor, "batch channels height width"]


def _norm(channels: int, *, searched: bool) -> nn.BatchNorm2d:
    """BN that learns its parameters in the supernet too."""
    return nn.BatchNorm2d(channels, track_running_stats=not searched)


def _convolution(channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)


class ResidualBlock(nn.Module):
    """Halves the picture: (ReLU, 3×3 convolution, BN) twice, beside 2×2 average pooling and a 1×1.

    Pictures of odd side keep the rounded-up half; pooling does not count what lies outside.
    """

    def __init__(self, channels: int, out_channels: int, *, searched: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.ReLU(),
            _convolution(channels, out_channels, stride=2),
            _norm(out_channels, searched=searched),
        )
        self.second = nn.Sequential(
            nn.ReLU(),
            _convolution(out_channels, out_channels),
            _norm(out_channels, searched=searched),
        )
        self.shortcut = Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, images: Images) -> Float[Tensor, "batch out half_height half_width"]:
        """Pictures of half the side."""
        halved = functional.avg_pool2d(images, 2, 2, ceil_mode=True, count_include_pad=False)
        return self.shortcut(halved) + self.second(self.first(images))  # type: ignore[no-any-return]


def stem(space: SearchSpace, in_channels: int, channels: int, *, searched: bool) -> nn.Sequential:
    """A 3×3 convolution and BN.

    Args:
        space: The search space.
        in_channels: Channels of the pictures.
        channels: Channels of the first cells.
        searched: Whether the network is a supernet.
    """
    width = space.skeleton.stem * channels
    return nn.Sequential(_convolution(in_channels, width), _norm(width, searched=searched))


def entrance(
    space: SearchSpace,
    widths: Sequence[int],
    channels: int,
    *,
    halves: bool,
    halved: bool,
    searched: bool,
) -> nn.ModuleList:
    """What brings each input of a cell to its channels.

    Args:
        space: The search space.
        widths: Channels of the inputs, those of the previous cell last.
        channels: Channels of the cell.
        halves: Whether the picture is half the size of the previous cell's.
        halved: Whether the previous cell's was half the size of that before.
        searched: Whether the network is a supernet.

    Raises:
        ArchitectureError: Cells have more than two inputs.
    """
    if space.inputs > 2:
        raise ArchitectureError(
            f"search space {space.name!r}: cells have {space.inputs} inputs; networks can have 1, 2"
        )
    if space.skeleton.halving == "blocks":
        block = ResidualBlock(widths[-1], channels, searched=searched) if halves else nn.Identity()
        return nn.ModuleList([block])
    parts: list[nn.Module] = []
    for age, width in reversed(list(enumerate(reversed(widths)))):
        part = FactorizedReduction if halved and age == 1 else ReLUConvBN
        parts.append(part(width, channels, affine=not searched))
    return nn.ModuleList(parts)


def head(space: SearchSpace, channels: int, *, searched: bool) -> nn.Sequential:
    """What the last cell's output passes before global average pooling; it may be nothing.

    Args:
        space: The search space.
        channels: Channels of that output.
        searched: Whether the network is a supernet.
    """
    if space.skeleton.head == "pool":
        return nn.Sequential()
    return nn.Sequential(_norm(channels, searched=searched), nn.ReLU())


def concatenated(outputs: Sequence[Images]) -> Images:
    """What a cell hands on: its nodes side by side, or the only one as it is."""
    return outputs[0] if len(outputs) == 1 else torch.cat(list(outputs), dim=1)
