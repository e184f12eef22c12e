"""The mixing weights of operations, taken out of a matrix of all of them in one call.

The places are a tensor beside the network: a list of them would be copied to the device at every
use, which the host waits for.

Symbols:
    P    operations on edges that the mask leaves, one an edge
    C    channels of the mixed operation
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Group(NamedTuple):
    """An operation on the edges that leave a node and keep it.

    Attributes:
        column: The operation.
        rows: The edges, among those that leave the node.
        scales: Whether its weights are the scale of a BN, and so one a channel.
    """

    column: int
    rows: list[int]
    scales: bool


class NodeWeights(NamedTuple):
    """The weights of what leaves a node.

    Attributes:
        groups: Of its operations; see `NodeOperations.groups`.
        bypass: Of the channels that bypass them, an edge each; none without partial channels.
    """

    groups: Sequence[Tensor]
    bypass: Sequence[Tensor]


class GroupWeights(nn.Module):
    """Takes the weights of groups out of a matrix of mixing weights.

    Args:
        groups: The groups.
        edges: The row of the matrix that each of a group's edges has, a list a group.
        columns: Columns of the matrix.
        channels: C.
    """

    places: Tensor

    def __init__(
        self,
        groups: Sequence[Group],
        edges: Sequence[Sequence[int]],
        columns: int,
        channels: int,
    ) -> None:
        super().__init__()
        self._channels = channels
        # Scales come first, so that they are repeated together.
        self._order = sorted(range(len(groups)), key=lambda number: not groups[number].scales)
        self._lengths = [len(groups[number].rows) for number in self._order]
        self._scales = sum(group.scales for group in groups)
        places = [
            edges[number][row] * columns + groups[number].column
            for number in self._order
            for row in groups[number].rows
        ]
        index = torch.tensor(places, dtype=torch.int64)
        self.register_buffer("places", index, persistent=False)

    def taken(self, weights: Float[Tensor, "edges operations"]) -> Float[Tensor, " places"]:
        """The weights of all groups in one row."""
        return weights.flatten().index_select(0, self.places)

    def parted(self, taken: Float[Tensor, " places"]) -> list[Tensor]:
        """For each group, its weights; those of a scale once for each channel."""
        lengths, scales = self._lengths, self._scales
        first = sum(lengths[:scales])
        scaling, plain = torch.split(taken, [first, len(taken) - first])
        # Each in a place of its own: of a scale that is expanded, torch's BN of channels-last
        # pictures reads what lies behind it, in its backward pass on the CPU (2.11 to 2.14.1).
        by_channel = scaling[:, None].expand(-1, self._channels).contiguous().view(-1)
        parts = [
            *torch.split(by_channel, [length * self._channels for length in lengths[:scales]]),
            *torch.split(plain, lengths[scales:]),
        ]
        return [part for _, part in sorted(zip(self._order, parts, strict=True), key=_number)]

    def forward(self, weights: Float[Tensor, "edges operations"]) -> list[Tensor]:
        """For each group, its weights; those of a scale once for each channel."""
        return self.parted(self.taken(weights))


def _number(pair: tuple[int, Tensor]) -> int:
    return pair[0]
