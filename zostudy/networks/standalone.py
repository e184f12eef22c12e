"""The stand-alone network of a genotype (METHOD sections 1 and 6).

Symbols:
    C      channels of the first cells; each reduction doubles the channels of its cell
    s0, s1 inputs of a cell: the outputs of the cell before the last and of the last cell
    p      probability to drop a path

References:
    Liu et al. 2018, "DARTS", section 3.2 and appendix A.2; Larsson et al. 2017, "FractalNet"
    (drop path).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.networks.operations import FactorizedReduction, ReLUConvBN, batch_norm, build
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import Node

Logits = Float[Tensor, "batch classes"]

#: Names of the auxiliary head's parameters in a network start with this.
AUXILIARY = "auxiliary."

#: Hidden channels of the auxiliary head.
_AUXILIARY_CHANNELS = (128, 768)


@dataclass(frozen=True)
class DropPath:
    """Sets a whole path to zero for some of the pictures, and scales it up for the others.

    Attributes:
        probability: p, in [0, 1); nothing is drawn where it is 0.
        generator: Draws one number a picture of the whole batch, on the device of the pictures.
        batch: Pictures of the whole batch, where these are a share of it.
        first: The first picture of the share.
    """

    probability: float
    generator: torch.Generator
    batch: int = 0
    first: int = 0

    def __call__(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The pictures, each kept with probability 1 − p and then divided by it."""
        if not self.probability:
            return images
        count = self.batch or len(images)
        kept = torch.empty(count, 1, 1, 1, dtype=images.dtype, device=images.device)
        kept.bernoulli_(1 - self.probability, generator=self.generator)
        return images * kept[self.first : self.first + len(images)].div_(1 - self.probability)


class IntermediateNode(nn.Module):
    """An intermediate node of a cell: the sum of its kept operations, each on its source.

    Args:
        kept: The (operation, source) pairs.
        strides: The stride of the edge from each source.
        channels: Channels of every node.
        extensions: Modules that may declare further operations.
    """

    def __init__(
        self, kept: Node, strides: Sequence[int], channels: int, extensions: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.sources = [source for _, source in kept]
        self.operations = nn.ModuleList(
            build(name, channels, strides[source], affine=True, extensions=extensions)
            for name, source in kept
        )

    def forward(
        self, states: list[Tensor], drop_path: DropPath | None
    ) -> Float[Tensor, "batch channels height width"]:
        """The sum, each path that is no identity dropped for some pictures."""
        paths: list[Tensor] = []
        for operation, source in zip(self.operations, self.sources, strict=True):
            path = operation(states[source])
            if drop_path is not None and not isinstance(operation, nn.Identity):
                path = drop_path(path)
            paths.append(path)
        return functools.reduce(torch.add, paths)


class Cell(nn.Module):
    """One cell of a stand-alone network.

    Args:
        nodes: The (operation, source) pairs of each intermediate node.
        channels: Channels of every node.
        input_channels: Channels of s0 and of s1.
        reduces: Whether the cell halves the picture: its edges from s0 and s1 have stride 2.
        previous_reduces: Whether the last cell did, so that s0 is twice as large as s1.
        extensions: Modules that may declare further operations.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        channels: int,
        input_channels: tuple[int, int],
        *,
        reduces: bool,
        previous_reduces: bool,
        extensions: tuple[str, ...],
    ) -> None:
        super().__init__()
        to_channels = FactorizedReduction if previous_reduces else ReLUConvBN
        self.preprocess_0 = to_channels(input_channels[0], channels, affine=True)
        self.preprocess_1 = ReLUConvBN(input_channels[1], channels, affine=True)
        strides = [2 if reduces else 1] * 2 + [1] * len(nodes)
        self.nodes = nn.ModuleList(
            IntermediateNode(kept, strides, channels, extensions) for kept in nodes
        )
        self.out_channels = channels * len(nodes)

    def forward(
        self,
        s0: Float[Tensor, "batch channels_0 height_0 width_0"],
        s1: Float[Tensor, "batch channels_1 height_1 width_1"],
        drop_path: DropPath | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """The intermediate nodes, concatenated over the channels."""
        states = [self.preprocess_0(s0), self.preprocess_1(s1)]
        for node in self.nodes:
            states.append(node(states, drop_path))
        return torch.cat(states[2:], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier, on the pictures at two thirds of the depth.

    ReLU, average pooling, 1×1 convolution, 2×2 convolution, linear layer. Pooling is 5×5 with
    stride 3 and takes pictures of 8×8 to 2×2. Smaller sides are pooled to 2 as well; larger ones
    leave more than one position after the 2×2 convolution, which are averaged.

    Differs from: the reference code, which fits pictures of 8×8 to 10×10 only, and whose ReLU
    changes the next cell's input in place.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        narrow, wide = _AUXILIARY_CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            batch_norm(narrow, affine=True),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 2, bias=False),
            batch_norm(wide, affine=True),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(wide, classes)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Logits:
        """Class scores of pictures of at least 2×2."""
        height, width = (_auxiliary_pool(side) for side in images.shape[-2:])
        pooled = functional.avg_pool2d(
            functional.relu(images), (height[0], width[0]), (height[1], width[1])
        )
        return self.classifier(self.features(pooled).mean((2, 3)))  # type: ignore[no-any-return]


def _auxiliary_pool(side: int) -> tuple[int, int]:
    """Kernel and stride that take a side to 2 pixels, or more from 11 on."""
    return (5, 3) if side >= 8 else ((side + 1) // 2, side // 2)


class StandaloneNetwork(nn.Module):
    """The network that a genotype describes: stem, cells, global average pooling, linear layer.

    Pictures may have any size from 8×8 up. Reductions stand at one third and two thirds of the
    depth (see `SearchSpace.layout`); the auxiliary head reads the output of the cell at
    two thirds.

    Args:
        genotype: The architecture.
        cells: Number of cells, at least 1.
        channels: C, at least 1.
        classes: Number of classes.
        in_channels: Channels of the pictures.
        auxiliary: Whether to build the auxiliary head, which only training uses.
        extensions: Modules that may declare further operations.

    References:
        METHOD sections 1 and 6; `NetworkCIFAR` of the public DARTS code.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        cells: int,
        channels: int,
        classes: int,
        in_channels: int,
        auxiliary: bool,
        extensions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        width = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), batch_norm(width, affine=True)
        )
        self.auxiliary_place = 2 * cells // 3
        self.auxiliary: AuxiliaryHead | None = None
        self.cells = nn.ModuleList()
        widths, previous_reduces = (width, width), False
        for index, position in enumerate(genotype.space.layout(cells)):
            kind, reduces = position.kind, position.halves
            channels *= 2 if reduces else 1
            cell = Cell(
                genotype.cells[kind],
                channels,
                widths,
                reduces=reduces,
                previous_reduces=previous_reduces,
                extensions=extensions,
            )
            self.cells.append(cell)
            widths, previous_reduces = (widths[1], cell.out_channels), reduces
            if auxiliary and index == self.auxiliary_place:
                self.auxiliary = AuxiliaryHead(cell.out_channels, classes)
        self.classifier = nn.Linear(widths[1], classes)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Logits:
        """Class scores, with every path in place and without the auxiliary head."""
        s0 = s1 = self.stem(images)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(s1.mean((2, 3)))  # type: ignore[no-any-return]

    def forward_training(
        self, images: Float[Tensor, "batch channels height width"], drop_path: DropPath
    ) -> tuple[Logits, Logits | None]:
        """Class scores with dropped paths, and those of the auxiliary head if there is one."""
        auxiliary = None
        s0 = s1 = self.stem(images)
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, drop_path)
            if self.auxiliary is not None and index == self.auxiliary_place:
                auxiliary = self.auxiliary(s1)
        return self.classifier(s1.mean((2, 3))), auxiliary
