"""The stand-alone network by its definition: one loop for every kernel position, no modules.

Written from docs/method.md, section 1, and Liu et al. 2018, sections 2.1, 3.2 and A.2. Weights are
looked up by the names under which `StandaloneNetwork` saves them; all is computed in their
precision.
"""

import math

import torch

EPSILON = 1e-5


class Reference:
    """Class scores from a genotype's cells and a state dictionary.

    Args:
        normal: For each intermediate node, its (operation, source) pairs; likewise `reduction`.
        weights: The state dictionary of a network.
        training: Whether BN normalizes by the batch instead of the running statistics.
    """

    def __init__(self, normal, reduction, weights, *, training):
        self.nodes = {False: normal, True: reduction}
        self.weights = weights
        self.training = training

    def logits(self, images, cells):
        """Scores of the classifier and, if the weights have one, of the auxiliary head."""
        scores, auxiliary = None, None
        stem = self.norm(convolution(images, self.weights["stem.0.weight"], padding=1), "stem.1")
        outputs = [stem, stem]
        places = {cells // 3, cells * 2 // 3} if cells > 1 else set()
        for index in range(cells):
            outputs.append(self.cell(index, outputs[-2], outputs[-1], places))
            if index == cells * 2 // 3 and "auxiliary.classifier.weight" in self.weights:
                auxiliary = self.auxiliary(outputs[-1])
        scores = self.linear(
            outputs[-1].flatten(2).sum(2) / outputs[-1][0, 0].numel(), "classifier"
        )
        return scores, auxiliary

    def cell(self, index, before_last, last, places):
        name = f"cells.{index}"
        if index - 1 in places:
            first = self.halved(before_last, f"{name}.preprocess.0")
        else:
            first = self.widened(before_last, f"{name}.preprocess.0")
        states = [first, self.widened(last, f"{name}.preprocess.1")]
        for node, pairs in enumerate(self.nodes[index in places]):
            total = 0
            for path, (operation, source) in enumerate(pairs):
                stride = 2 if index in places and source < 2 else 1
                place = f"{name}.nodes.{node}.operations.{path}"
                total = total + self.operation(operation, states[source], stride, place)
            states.append(total)
        return torch.cat(states[2:], dim=1)

    def operation(self, operation, images, stride, place):
        if operation == "skip_connect":
            return images if stride == 1 else self.halved(images, place)
        kind, size = operation.split("_")[0], int(operation[-1])
        if operation.endswith("pool_3x3"):
            return pooling(images, kind, stride)
        dilation = 2 if kind == "dil" else 1
        for repeat in range(1 if kind == "dil" else 2):
            depthwise, pointwise, norm = (
                f"{place}.stages.{4 * repeat + offset}" for offset in (1, 2, 3)
            )
            images = convolution(
                images.clamp(min=0),
                self.weights[f"{depthwise}.weight"],
                stride=stride if repeat == 0 else 1,
                padding=dilation * (size - 1) // 2,
                dilation=dilation,
                depthwise=True,
            )
            images = self.norm(convolution(images, self.weights[f"{pointwise}.weight"]), norm)
        return images

    def widened(self, images, place):
        weight = self.weights[f"{place}.convolution.weight"]
        return self.norm(convolution(images.clamp(min=0), weight), f"{place}.norm")

    def halved(self, images, place):
        """Every second pixel from (0, 0) and from (1, 1), each by its own 1×1 convolution."""
        active = images.clamp(min=0)
        height, width = active.shape[-2:]
        later = active.new_zeros(*active.shape[:2], height + 2, width + 2)
        later[:, :, :height, :width] = active
        rows, columns = math.ceil(height / 2), math.ceil(width / 2)
        parts = [convolution(active, self.weights[f"{place}.first.weight"], stride=2)]
        if f"{place}.second.weight" in self.weights:
            later = later[:, :, 1 : 2 * rows : 2, 1 : 2 * columns : 2]
            parts.append(convolution(later, self.weights[f"{place}.second.weight"]))
        return self.norm(torch.cat(parts, dim=1), f"{place}.norm")

    def auxiliary(self, images):
        """The published head, for pictures of 8×8 only."""
        assert images.shape[-2:] == (8, 8)
        active = images.clamp(min=0)
        pooled = active.new_zeros(*active.shape[:2], 2, 2)
        for row in range(2):
            for column in range(2):
                window = active[:, :, 3 * row : 3 * row + 5, 3 * column : 3 * column + 5]
                pooled[:, :, row, column] = window.flatten(2).sum(2) / 25
        name = "auxiliary.features"
        hidden = convolution(pooled, self.weights[f"{name}.0.weight"])
        hidden = self.norm(hidden, f"{name}.1").clamp(min=0)
        hidden = convolution(hidden, self.weights[f"{name}.3.weight"])
        hidden = self.norm(hidden, f"{name}.4").clamp(min=0)
        return self.linear(hidden.flatten(1), "auxiliary.classifier")

    def linear(self, features, place):
        return features @ self.weights[f"{place}.weight"].T + self.weights[f"{place}.bias"]

    def norm(self, images, place):
        if self.training:
            rows = images.transpose(0, 1).flatten(1)
            mean = rows.mean(1)
            variance = ((rows - mean[:, None]) ** 2).mean(1)
        else:
            mean = self.weights[f"{place}.running_mean"]
            variance = self.weights[f"{place}.running_var"]
        scale = self.weights[f"{place}.weight"] / (variance + EPSILON) ** 0.5
        shift = self.weights[f"{place}.bias"] - mean * scale
        return images * scale[:, None, None] + shift[:, None, None]


def convolution(images, weight, *, stride=1, padding=0, dilation=1, depthwise=False):
    """A sum over the positions of the kernel."""
    height, width = images.shape[-2:]
    size = weight.shape[-1]
    framed = images.new_zeros(*images.shape[:2], height + 2 * padding, width + 2 * padding)
    framed[:, :, padding : padding + height, padding : padding + width] = images
    reach = dilation * (size - 1)
    total = 0
    for row in range(size):
        for column in range(size):
            top, left = row * dilation, column * dilation
            seen = framed[
                :,
                :,
                top : framed.shape[2] - reach + top : stride,
                left : framed.shape[3] - reach + left : stride,
            ]
            kernel = weight[:, :, row, column]
            if depthwise:
                total = total + seen * kernel[:, 0, None, None]
            else:
                total = total + torch.einsum("oc,bchw->bohw", kernel, seen)
    return total


def pooling(images, kind, stride):
    """The largest or the mean of those of nine neighbours that lie in the picture."""
    height, width = images.shape[-2:]
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    pooled = images.new_zeros(*images.shape[:2], rows, columns)
    for row in range(rows):
        for column in range(columns):
            y, x = row * stride, column * stride
            window = images[:, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(2)
            pooled[:, :, row, column] = window.amax(2) if kind == "max" else window.mean(2)
    return pooled


class TopologyReference(Reference):
    """Class scores of NAS-Bench-201's network (Dong and Yang 2020, section 2.1)."""

    def __init__(self, cell, weights, *, training):
        super().__init__(cell, None, weights, training=training)

    def logits(self, images, cells):
        """Scores of the classifier; `cells` a stage."""
        x = self.norm(convolution(images, self.weights["stem.0.weight"], padding=1), "stem.1")
        for index in range(3 * cells):
            name = f"cells.{index}"
            if index in (cells, 2 * cells):
                x = self.block(x, f"{name}.preprocess.0")
            states = [x]
            for node, pairs in enumerate(self.nodes[False]):
                total = torch.zeros_like(x)
                for path, (operation, source) in enumerate(pairs):
                    place = f"{name}.nodes.{node}.operations.{path}"
                    total = total + self.chosen(operation, states[source], place)
                states.append(total)
            x = states[3]
        x = self.norm(x, "head.0").clamp(min=0)
        return self.linear(x.flatten(2).sum(2) / x[0, 0].numel(), "classifier")

    def chosen(self, operation, images, place):
        if operation == "none":
            return 0 * images
        if operation == "skip_connect":
            return images
        if operation == "avg_pool_3x3":
            return pooling(images, "avg", 1)
        padding = int(operation[-1]) // 2
        weight = self.weights[f"{place}.convolution.weight"]
        return self.norm(convolution(images.clamp(min=0), weight, padding=padding), f"{place}.norm")

    def block(self, images, place):
        height, width = images.shape[-2:]
        means = images.new_zeros(*images.shape[:2], math.ceil(height / 2), math.ceil(width / 2))
        for y in range(0, height, 2):
            for x in range(0, width, 2):
                means[:, :, y // 2, x // 2] = images[:, :, y : y + 2, x : x + 2].mean(dim=(2, 3))
        path = images
        for part, stride in (("first", 2), ("second", 1)):
            weight = self.weights[f"{place}.{part}.1.weight"]
            path = convolution(path.clamp(min=0), weight, stride=stride, padding=1)
            path = self.norm(path, f"{place}.{part}.2")
        return path + convolution(means, self.weights[f"{place}.shortcut.weight"])
