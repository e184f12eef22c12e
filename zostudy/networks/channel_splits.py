"""Channel splits: which 1/k of a node's channels its mixed operations act on.

A split is ``(channels, *, options) -> module or nothing``. Without a module, operations act on the
first channels, and all channels of the node that they enter are shuffled. A module gives the
attention that each channel of each picture deserves, float[batch, channels]. Every channel is
multiplied by it; operations act on the channels that have most of it, and what they make of these
takes their places. All edges that leave a node share one module and its choice. The fact ``needs``
says what a split cannot do without (see `zostudy.config.combinations`).

Symbols:
    C    channels of a node
    k    operations act on C/k channels

References:
    docs/concepts/search-methods.md, which says what was decided where papers and code disagree.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from zostudy.config.settings import ChannelSplitSettings
from zostudy.networks.convolution import ChannelConvolution
from zostudy.registry import channel_split
from zostudy.space.search_space import SearchSpace

Images = Float[Tensor, "batch channels height width"]


@channel_split("first")
def first(channels: int) -> nn.Module | None:
    """The first C/k channels (PC-DARTS, section 3.1; Xu et al. 2020)."""
    del channels
    return None


@channel_split("attention", needs=("partial channels",))
def attention(channels: int, *, kernel: Literal[1, 3, 5, 7, 9] = 3) -> nn.Module | None:
    """The C/k channels of highest attention, which neighbouring channels decide (EPC-DARTS).

    Args:
        channels: C.
        kernel: Neighbouring channels that an attention is computed from, its own among them.

    References:
        EPC-DARTS (Cai et al. 2023); efficient channel attention: ECA-Net, section 3.2, Eq. 5 (Wang
        et al. 2020), whose rule gives a kernel of 3 for 8 to 127 channels.
    """
    del channels
    return EfficientAttention(kernel)


def splitter(
    space: SearchSpace, settings: ChannelSplitSettings
) -> Callable[[int], nn.Module | None]:
    """What gives, for a number of channels, the module that splits them, or nothing."""
    found = space.find("channel_split", settings.name, "supernet.channel_split.name")
    return functools.partial(found.load(), **settings.options)


class EfficientAttention(nn.Module):
    """σ(conv1d(global average pooling)), one kernel along the channels, without a bias."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolution = ChannelConvolution(kernel)

    def forward(self, images: Images) -> Float[Tensor, "batch channels"]:
        """The attention of each channel of each picture, between 0 and 1."""
        described = images.mean(dim=(2, 3))
        return self.convolution(described[:, None])[:, 0].sigmoid()  # type: ignore[no-any-return]


class Attended(NamedTuple):
    """A node whose channels have been split by attention.

    Attributes:
        active: The channels that operations act on, times their attention.
        rest: All channels; past max pooling where the operations halve the picture.
        passing: What each of these is multiplied by to bypass the operations: its attention, and 0
            where operations act.
        places: Where the active channels are among all, in order.
    """

    active: Float[Tensor, "batch part height width"]
    rest: Float[Tensor, "batch channels out_height out_width"]
    passing: Float[Tensor, "batch channels 1 1"]
    places: Int[Tensor, " part"]


def attended(images: Images, module: nn.Module, part: int, stride: int) -> Attended:
    """Split a node's channels by the attention that a module gives them.

    The channels that have most attention, in the mean over the batch, are the active ones; of equal
    channels, the earlier.

    Args:
        images: The node.
        module: Gives the attention.
        part: How many channels operations act on.
        stride: Of the operations.
    """
    weights = module(images)
    by_mean = weights.detach().mean(dim=0).sort(descending=True, stable=True).indices
    places = by_mean[:part].sort().values
    active = images.index_select(1, places) * weights.index_select(1, places)[..., None, None]
    rest = functional.max_pool2d(images, 2, 2, ceil_mode=True) if stride == 2 else images
    passing = weights.index_fill(1, places, 0)[..., None, None]
    return Attended(active, rest, passing, places)
