"""A small trained network with all that its bundle needs."""

import torch
from torch import nn

from zostudy.data.sources import Pictures
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space
from zostudy.study.bundle.program import Bundle


class Small(nn.Module):
    """Convolution, BN with statistics of its own, pooling and a linear layer."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 3)

    def forward(self, images):
        return self.classifier(torch.relu(self.norm(self.convolution(images))).mean((2, 3)))


def made_up():
    """A genotype."""
    space = search_space("darts")
    node = (("sep_conv_3x3", 0), ("skip_connect", 1))
    return Genotype(space, dict.fromkeys(space.cell_types, (node,) * space.nodes))


def bundle_of(channels=3, classes=("cat", "dog", "α|β\nγ")):
    torch.manual_seed(channels)
    network = Small(channels)
    network(torch.rand(8, channels, 9, 12))  # statistics of its own
    pixels = torch.randint(0, 256, (40, channels, 9, 12), dtype=torch.uint8)
    pictures = Pictures(pixels, torch.arange(40) % 3)
    return Bundle(
        network=network,
        genotype=made_up(),
        mean=(0.4, 0.5, 0.6, 0.7)[:channels],
        std=(0.2, 0.3, 0.25, 0.1)[:channels],
        train=pictures,
        test=pictures,
        classes=classes,
        provenance={"study": "ablation", "trial": 3, "who|": "a\nb"},
        metrics={"test_accuracy": 97.123456789},
        spread={"n": 2, "metrics": {"test_accuracy": {"mean": 96.5, "sd": 0.25}}},
    )


def probabilities(bundle, images):
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (bundle.mean, bundle.std))
    with torch.no_grad():
        return bundle.network.eval()((images / 255 - mean) / std).softmax(1)


def noise(count, channels=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 9, 12), dtype=torch.uint8, generator=draw)
