"""The per-edge supernet in the plainest torch: one module per cell, edge and remaining operation.

Written from the method alone, for comparison; nothing here is shared with zostudy's own networks.
"""

import torch
from torch import nn
from torch.nn import functional

from tests.reference.channels import in_place

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
EDGES = (
    (0, 2),
    (1, 2),
    (0, 3),
    (1, 3),
    (2, 3),
    (0, 4),
    (1, 4),
    (2, 4),
    (3, 4),
    (0, 5),
    (1, 5),
    (2, 5),
    (3, 5),
    (4, 5),
)
NODES = (2, 3, 4, 5)
CELL_TYPES = ("normal", "reduction")


def full_mask():
    return {kind: [[True] * len(OPERATIONS) for _ in EDGES] for kind in CELL_TYPES}


def norm(channels):
    return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


class Zero(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return 0.0 * x[:, :, :: self.stride, :: self.stride]


class MaxPool(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride=stride, padding=1)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.pool(x))


class AveragePool(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.pool(x))


class Separable(nn.Module):
    """(ReLU, depthwise, pointwise, BN) twice, the stride in the first."""

    def __init__(self, channels, kernel, stride):
        super().__init__()
        pad = kernel // 2
        self.depthwise1 = nn.Conv2d(
            channels, channels, kernel, stride, pad, groups=channels, bias=False
        )
        self.pointwise1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = norm(channels)
        self.depthwise2 = nn.Conv2d(channels, channels, kernel, 1, pad, groups=channels, bias=False)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = norm(channels)

    def forward(self, x):
        x = self.norm1(self.pointwise1(self.depthwise1(functional.relu(x))))
        return self.norm2(self.pointwise2(self.depthwise2(functional.relu(x))))


class Dilated(nn.Module):
    """ReLU, depthwise of dilation 2, pointwise, BN."""

    def __init__(self, channels, kernel, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, kernel - 1, dilation=2, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = norm(channels)

    def forward(self, x):
        return self.norm(self.pointwise(self.depthwise(functional.relu(x))))


class FactorizedReduction(nn.Module):
    """ReLU, two 1×1 convolutions of stride 2, the second shifted by one pixel, BN."""

    def __init__(self, channels, out):
        super().__init__()
        self.first = nn.Conv2d(channels, out - out // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(channels, out // 2, 1, stride=2, bias=False) if out > 1 else None
        self.norm = norm(out)

    def forward(self, x):
        x = functional.relu(x)
        parts = [self.first(x)]
        if self.second is not None:
            side = (parts[0].shape[2] * 2, parts[0].shape[3] * 2)
            even = x.new_zeros(*x.shape[:2], *side)
            even[:, :, : x.shape[2], : x.shape[3]] = x
            parts.append(self.second(even[:, :, 1:, 1:]))
        return self.norm(torch.cat(parts, dim=1))


class ReLUConvNorm(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 1, bias=False)
        self.norm = norm(out)

    def forward(self, x):
        return self.norm(self.convolution(functional.relu(x)))


def build(name, channels, stride):
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return MaxPool(channels, stride)
    if name == "avg_pool_3x3":
        return AveragePool(channels, stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels)
    family, _, size = name.partition("_conv_")
    kernel = int(size[0])
    return {"sep": Separable, "dil": Dilated}[family](channels, kernel, stride)


def shuffle(x, groups):
    """Channel g·(C/groups) + i becomes channel i·groups + g."""
    each = x.shape[1] // groups
    order = [g * each + i for i in range(each) for g in range(groups)]
    return x[:, order]


class Cell(nn.Module):
    def __init__(self, kind, rows, channels, inputs, *, halve_first, partial_channels, attention):
        super().__init__()
        self.attention = nn.ParameterList(
            torch.zeros(attention) for _ in range(5 * bool(attention))
        )
        self.kind = kind
        self.rows = rows
        self.partial_channels = partial_channels
        self.active = channels // partial_channels
        first = FactorizedReduction if halve_first else ReLUConvNorm
        self.preprocess0 = first(inputs[0], channels)
        self.preprocess1 = ReLUConvNorm(inputs[1], channels)
        self.strides = [2 if kind == "reduction" and source < 2 else 1 for source, _ in EDGES]
        self.edges = nn.ModuleList()
        for row, stride in zip(rows, self.strides, strict=True):
            kept = [name for name, keep in zip(OPERATIONS, row, strict=True) if keep]
            self.edges.append(
                nn.ModuleDict({name: build(name, self.active, stride) for name in kept})
            )

    def mix(self, edge, x, weights):
        """The masked mixture on some channels; the others pass by."""

        def mixture(active):
            total = 0.0
            for name, operation in self.edges[edge].items():
                total = total + weights[OPERATIONS.index(name)] * operation(active)
            return total

        if len(self.attention):
            kernel = self.attention[EDGES[edge][0]]
            return in_place(x, kernel, self.partial_channels, self.strides[edge], mixture)
        total = mixture(x[:, : self.active])
        if self.partial_channels == 1:
            return total
        others = x[:, self.active :]
        if self.strides[edge] == 2:
            others = functional.max_pool2d(others, 2, 2, ceil_mode=True)
        return shuffle(torch.cat([total, others], dim=1), self.partial_channels)

    def forward(self, before, last, mixing, edge_weights):
        states = {0: self.preprocess0(before), 1: self.preprocess1(last)}
        for node in NODES:
            total = 0.0
            for edge, (source, target) in enumerate(EDGES):
                if target == node:
                    mixed = self.mix(edge, states[source], mixing[edge])
                    total = total + edge_weights[edge] * mixed
            states[node] = total
        return torch.cat([states[node] for node in NODES], dim=1)


class ReferenceSupernet(nn.Module):
    """The supernet of docs/method.md, sections 1 to 3, every BN on the statistics of the batch.

    `alpha[kind]` [14, 8] and `beta[kind]` [14] start at zero. `mask[kind]` holds 14 rows of 8
    booleans. `partial_channels` is k; 1 leaves no channel out. `attention` is the size of the
    kernel that chooses channels, one for each node that edges leave; 0 takes the first.
    """

    topology = EDGES

    def __init__(
        self,
        mask=None,
        *,
        cells=8,
        channels=16,
        classes=10,
        in_channels=3,
        partial_channels=1,
        edge_normalization=False,
        attention=0,
    ):
        super().__init__()
        if channels % partial_channels:
            raise ValueError(f"{channels} channels are not divisible by {partial_channels}")
        mask = full_mask() if mask is None else mask
        self.mask = {kind: [list(map(bool, row)) for row in mask[kind]] for kind in CELL_TYPES}
        self.edge_normalization = edge_normalization
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 3 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(3 * channels, affine=True, track_running_stats=False),
        )
        reductions = {cells // 3, 2 * cells // 3} if cells > 1 else set()
        widths = (3 * channels, 3 * channels)
        halve_first = False
        self.cells = nn.ModuleList()
        for index in range(cells):
            kind = "reduction" if index in reductions else "normal"
            if kind == "reduction":
                channels *= 2
            self.cells.append(
                Cell(
                    kind,
                    self.mask[kind],
                    channels,
                    widths,
                    halve_first=halve_first,
                    partial_channels=partial_channels,
                    attention=attention,
                )
            )
            widths = (widths[1], 4 * channels)
            halve_first = kind == "reduction"
        self.classifier = nn.Linear(widths[1], classes)
        self.alpha = nn.ParameterDict(
            {kind: torch.zeros(len(EDGES), len(OPERATIONS)) for kind in CELL_TYPES}
        )
        self.beta = nn.ParameterDict({kind: torch.zeros(len(EDGES)) for kind in CELL_TYPES})

    def mixing(self, kind):
        """w_o of Eq. 1 for every edge: rows of 8 numbers, zero where masked, of sum 1."""
        rows = []
        for alpha, row in zip(self.alpha[kind], self.mask[kind], strict=True):
            kept = [o for o, keep in enumerate(row) if keep]
            shares = torch.exp(alpha[kept] - alpha[kept].max().detach())
            shares = shares / shares.sum()
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
            for node in NODES:
                entering = [e for e, (_, target) in enumerate(EDGES) if target == node]
                for e, share in zip(entering, torch.softmax(beta[entering], dim=0), strict=True):
                    weights[e] = share
        return torch.stack(weights)

    def forward(self, images, mixing=None, edge_weights=None):
        """Logits [batch, classes].

        `mixing[kind]` [14, 8] stands in for the softmax of α, `edge_weights[kind]` [14] for that
        of β.
        """
        if mixing is None:
            mixing = {kind: self.mixing(kind) for kind in CELL_TYPES}
        if edge_weights is None:
            edge_weights = {kind: self.edge_weights(kind) for kind in CELL_TYPES}
        before = last = self.stem(images)
        for cell in self.cells:
            weights = mixing[cell.kind], edge_weights[cell.kind]
            before, last = last, cell(before, last, *weights)
        return self.classifier(last.mean(dim=(2, 3)))
