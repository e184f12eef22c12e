"""NAS-Bench-201 in the plainest torch: a supernet of one module per edge and operation.

Written from the paper and its public code's description, for comparison; nothing here is shared
with zostudy's own networks.
"""

import torch
from torch import nn
from torch.nn import functional

from tests.reference.channels import in_place
from tests.reference.supernet import shuffle

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def norm(channels, learned):
    return nn.BatchNorm2d(channels, affine=learned, track_running_stats=False)


class Conv(nn.Module):
    """ReLU, convolution, BN."""

    def __init__(self, channels, out, kernel, stride=1, learned=False):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.norm = norm(out, learned)

    def forward(self, x):
        self.read = x.view_as(x)
        return self.norm(self.convolution(functional.relu(self.read)))


class Block(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.a = Conv(channels, out, 3, 2, learned=True)
        self.b = Conv(out, out, 3, learned=True)
        self.shortcut = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x):
        return self.b(self.a(x)) + self.shortcut(mean_of_four(x))


def mean_of_four(x):
    """Means of 2×2 pixels, of what there is of them at an odd border."""
    height, width = x.shape[2:]
    rows = []
    for y in range(0, height, 2):
        row = [x[:, :, y : y + 2, z : z + 2].mean(dim=(2, 3)) for z in range(0, width, 2)]
        rows.append(torch.stack(row, dim=2))
    return torch.stack(rows, dim=2)


class Pool(nn.Module):
    def forward(self, x):
        """Means of 3×3 pixels, of what there is of them at a border."""
        ones = torch.ones_like(x[:1, :1])
        kernel = torch.ones(x.shape[1], 1, 3, 3, dtype=x.dtype)
        sums = functional.conv2d(x, kernel, padding=1, groups=x.shape[1])
        return sums / functional.conv2d(ones, kernel[:1], padding=1)


class Zero(nn.Module):
    def forward(self, x):
        return 0.0 * x


def build(name, channels):
    if name.startswith("nor_conv"):
        return Conv(channels, channels, int(name[-1]))
    return {"none": Zero, "skip_connect": nn.Identity, "avg_pool_3x3": Pool}[name]()


class Cell(nn.Module):
    def __init__(self, rows, channels, partial_channels, attention):
        super().__init__()
        self.attention = nn.ParameterList(
            torch.zeros(attention) for _ in range(3 * bool(attention))
        )
        self.partial_channels = partial_channels
        self.active = channels // partial_channels
        self.edges = nn.ModuleList()
        for row in rows:
            kept = [name for name, keep in zip(OPERATIONS, row, strict=True) if keep]
            self.edges.append(nn.ModuleDict({name: build(name, self.active) for name in kept}))

    def forward(self, x, mixing, edge_weights):
        nodes, self.read = [x], [x[:, : self.active]]
        for node in (1, 2, 3):
            total = 0.0
            for edge, (source, target) in enumerate(EDGES):
                if target != node:
                    continue

                def mixture(active, edge=edge):
                    mixed = 0.0
                    for name, operation in self.edges[edge].items():
                        weight = mixing[edge, OPERATIONS.index(name)]
                        mixed = mixed + weight * operation(active)
                    return mixed

                if len(self.attention):
                    kernel, x = self.attention[source], nodes[source]
                    mixed = in_place(x, kernel, self.partial_channels, 1, mixture)
                else:
                    mixed = mixture(self.read[source])
                if self.partial_channels > 1 and not len(self.attention):
                    mixed = torch.cat([mixed, nodes[source][:, self.active :]], dim=1)
                    mixed = shuffle(mixed, self.partial_channels)
                total = total + edge_weights[edge] * mixed
            nodes.append(total)
            self.read.append(total[:, : self.active])
        return nodes[3]


class ReferenceSupernet(nn.Module):
    """Stem, stages of as many cells, a residual block between them, BN, ReLU, pooling, linear."""

    topology = EDGES

    def __init__(
        self,
        mask,
        *,
        cells,
        channels,
        classes,
        in_channels,
        partial_channels=1,
        edge_normalization=False,
        attention=0,
    ):
        super().__init__()
        self.mask = {"normal": [list(map(bool, row)) for row in mask["normal"]]}
        self.edge_normalization = edge_normalization
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), norm(channels, learned=True)
        )
        self.cells = nn.ModuleList()
        self.blocks = nn.ModuleDict()
        for stage in range(3):
            if stage:
                self.blocks[str(len(self.cells))] = Block(channels, 2 * channels)
                channels *= 2
            for _ in range(cells):
                self.cells.append(Cell(self.mask["normal"], channels, partial_channels, attention))
        self.norm = norm(channels, learned=True)
        self.classifier = nn.Linear(channels, classes)
        self.alpha = nn.ParameterDict({"normal": torch.zeros(len(EDGES), len(OPERATIONS))})
        self.beta = nn.ParameterDict({"normal": torch.zeros(len(EDGES))})

    def mixing(self, kind):
        """Softmax of α over what remains of each edge."""
        rows = []
        for alpha, row in zip(self.alpha[kind], self.mask[kind], strict=True):
            kept = [o for o, keep in enumerate(row) if keep]
            shares = torch.exp(alpha[kept]) / torch.exp(alpha[kept]).sum()
            weights = [torch.zeros_like(alpha[0]) for _ in OPERATIONS]
            for o, share in zip(kept, shares, strict=True):
                weights[o] = share
            rows.append(torch.stack(weights))
        return torch.stack(rows)

    def edge_weights(self, kind):
        """Softmax of β over the edges that enter each node, or ones."""
        beta = self.beta[kind]
        weights = [torch.ones_like(beta[0]) for _ in EDGES]
        if self.edge_normalization:
            for node in (1, 2, 3):
                entering = [e for e, (_, target) in enumerate(EDGES) if target == node]
                for e, share in zip(entering, torch.softmax(beta[entering], dim=0), strict=True):
                    weights[e] = share
        return torch.stack(weights)

    def walk(self, images, mixing=None, edge_weights=None):
        """What ReLUs read, in order; the last cell's output; logits."""
        mixing = self.mixing("normal") if mixing is None else mixing["normal"]
        edges = self.edge_weights("normal") if edge_weights is None else edge_weights["normal"]
        x = self.stem(images)
        read = []
        for index, cell in enumerate(self.cells):
            if str(index) in self.blocks:
                block = self.blocks[str(index)]
                x = block(x)
                read += [block.a.read, block.b.read]
            x = cell(x, mixing, edges)
            read += cell.read[:3]
        last = self.norm(x)
        return [*read, last], x, self.classifier(functional.relu(last).mean(dim=(2, 3)))

    def forward(self, images, mixing=None, edge_weights=None):
        """Logits [batch, classes]."""
        return self.walk(images, mixing, edge_weights)[2]
