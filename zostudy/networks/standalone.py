"""The stand-alone network of a genotype (docs/method.md, sections 1 and 6).

Symbols:
    C      channels of the first cells; they double where the picture is halved
    p      probability to drop a path

References:
    Liu et al. 2018, "DARTS", section 3.2 and appendix A.2; Larsson et al. 2017, "FractalNet"
    (drop path).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zostudy.networks import skeleton
from zostudy.networks.convolution import Conv2d
from zostudy.networks.operations import batch_norm, build
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import Node, SearchSpace

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
        space: The search space.
        kind: The cell's type.
        kept: The (operation, source) pairs.
        channels: Channels of every node.
    """

    def __init__(
        self,
        space: SearchSpace,
        kind: str,
        kept: Node,
        channels: int,
    ) -> None:
        super().__init__()
        self.sources = [source for _, source in kept]
        self.operations = nn.ModuleList(
            build(
                space.operation(name),
                channels,
                space.stride(kind, source),
                affine=True,
            )
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
        genotype: The architecture.
        kind: The cell's type.
        entrance: What brings each input to the cell's channels.
        channels: Channels of every node.
    """

    def __init__(
        self,
        genotype: Genotype,
        kind: str,
        entrance: nn.ModuleList,
        channels: int,
    ) -> None:
        super().__init__()
        self.preprocess = entrance
        self.nodes = nn.ModuleList(
            IntermediateNode(genotype.space, kind, kept, channels) for kept in genotype.cells[kind]
        )
        self.outputs = genotype.space.outputs

    def forward(
        self, previous: Sequence[Tensor], drop_path: DropPath | None = None
    ) -> Float[Tensor, "batch out height width"]:
        """The last intermediate nodes, as many as the cell gives, side by side.

        Args:
            previous: The outputs of the previous cells, float[batch, channels, height, width] each.
            drop_path: Drops paths, where it is given.
        """
        states = [part(images) for part, images in zip(self.preprocess, previous, strict=True)]
        for node in self.nodes:
            states.append(node(states, drop_path))
        return skeleton.concatenated(states[-self.outputs :])


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
            Conv2d(channels, narrow, 1, bias=False),
            batch_norm(narrow, affine=True),
            nn.ReLU(),
            Conv2d(narrow, wide, 2, bias=False),
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

    Pictures may have any size from 8×8 up. The auxiliary head reads the output of the cell at two
    thirds of the depth.

    Args:
        genotype: The architecture.
        cells: Number of cells, at least 1; see `SearchSpace.layout`.
        channels: C, at least 1.
        classes: Number of classes.
        in_channels: Channels of the pictures.
        auxiliary: Whether to build the auxiliary head, which only training uses.

    References:
        docs/method.md, sections 1 and 6; `NetworkCIFAR` of the public DARTS code; NAS-Bench-201,
        section 2.1 (Dong and Yang 2020).
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
    ) -> None:
        super().__init__()
        space, layout = genotype.space, genotype.space.layout(cells)
        self.stem = skeleton.stem(space, in_channels, channels, searched=False)
        self.inputs = space.inputs
        self.auxiliary_place = 2 * len(layout) // 3
        self.auxiliary: AuxiliaryHead | None = None
        self.cells = nn.ModuleList()
        widths, halved = (space.skeleton.stem * channels,) * space.inputs, False
        for index, position in enumerate(layout):
            width = position.width * channels
            entrance = skeleton.entrance(
                space, widths, width, halves=position.halves, halved=halved, searched=False
            )
            self.cells.append(Cell(genotype, position.kind, entrance, width))
            widths, halved = (*widths[1:], width * space.outputs), position.halves
            if auxiliary and index == self.auxiliary_place:
                self.auxiliary = AuxiliaryHead(widths[-1], classes)
        self.head = skeleton.head(space, widths[-1], searched=False)
        self.classifier = nn.Linear(widths[-1], classes)

    def _outputs(
        self, images: Float[Tensor, "batch channels height width"], drop_path: DropPath | None
    ) -> Iterator[Float[Tensor, "batch out out_height out_width"]]:
        """The output of each cell."""
        previous = (self.stem(images),) * self.inputs
        for cell in self.cells:
            previous = (*previous[1:], cell(previous, drop_path))
            yield previous[-1]

    def _classified(self, images: Float[Tensor, "batch channels height width"]) -> Logits:
        """Class scores from the last cell's output."""
        return self.classifier(self.head(images).mean((2, 3)))  # type: ignore[no-any-return]

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Logits:
        """Class scores, with every path in place and without the auxiliary head."""
        for output in self._outputs(images, None):
            last = output
        return self._classified(last)

    def forward_training(
        self, images: Float[Tensor, "batch channels height width"], drop_path: DropPath
    ) -> tuple[Logits, Logits | None]:
        """Class scores with dropped paths, and those of the auxiliary head if there is one."""
        auxiliary = None
        for index, last in enumerate(self._outputs(images, drop_path)):
            if self.auxiliary is not None and index == self.auxiliary_place:
                auxiliary = self.auxiliary(last)
        return self._classified(last), auxiliary
