"""A trained network as a program: bytes of pictures in, probabilities out.

Preprocessing is inside it: a program takes uint8 pictures of the data set's size and normalizes
them itself, so that its user only has to bring a picture to size.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from zostudy.data.sources import Pictures
from zostudy.space.genotype import Genotype

Images = UInt8[Tensor, "batch channels height width"]
Probabilities = Float[Tensor, "batch classes"]

#: Pillow's modes by the channels of a picture.
PIL_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained network and what its use needs.

    Attributes:
        network: Normalized pictures (batch, channels, height, width) to class scores.
        genotype: Its architecture.
        mean: For each channel, the mean it was normalized with, on a scale of 0 to 1.
        std: For each channel, the standard deviation, likewise.
        train: Training pictures, which calibrate a quantized program.
        test: Test pictures, on all of which every program is compared with the network.
        classes: Names of the classes, in the order of the probabilities.
        provenance: Where it came from, by name; ``study`` and ``trial`` make the card's title.
        metrics: Figures of its trial, by name.
        spread: ``n``, the number of seeds of its point, and ``metrics``: for every name ``mean``
            and ``sd`` over them; empty where they are not known.
        bits: Bits in use where pixels of a file have more than 8.
    """

    network: nn.Module
    genotype: Genotype
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    provenance: Mapping[str, object]
    metrics: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, object] = field(default_factory=dict)
    bits: int = 16

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width


class Program(nn.Module):
    """A network with its normalization before it and a softmax after it."""

    mean: Tensor
    std: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        network = copy.deepcopy(bundle.network)
        self.network = network.cpu().eval().requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(bundle.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(bundle.std).reshape(-1, 1, 1))

    def forward(self, images: Images) -> Probabilities:
        """Probabilities of the classes."""
        scores = self.network((images.to(torch.float32) / 255 - self.mean) / self.std)
        return scores.softmax(1)  # type: ignore[no-any-return]

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """As :meth:`forward`, of arrays."""
        with torch.inference_mode():
            return self(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]


def exported(program: Program, bundle: Bundle) -> torch.export.ExportedProgram:
    """The program's graph, for batches of any size, with nothing of this machine in it."""
    batch = torch.export.Dim("batch", min=1)
    example = torch.zeros((2, *bundle.shape), dtype=torch.uint8)
    graph = torch.export.export(program, (example,), dynamic_shapes={"images": {0: batch}})
    for node in graph.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    graph.example_inputs = None  # would be stored pickled
    return graph
