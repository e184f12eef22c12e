"""Ranking functions in plain loops on the per-edge supernet, written from their definitions.

Each takes the network and how it is mixed as a function of pictures, `run(images)`, and walks over
pictures one by one where it can. Gradients are those of `backward`, never of `autograd.grad`.
"""

import contextlib
import itertools
import math

import torch
from torch import nn
from torch.nn import functional

from tests.reference.pruning import uniform_edge_weights, uniform_mixing
from tests.reference.supernet import EDGES, NODES

KAPPA = 1e-5


class Run:
    """The reference network with uniform weights, less one operation perhaps."""

    def __init__(self, network, images, labels, removed=None):
        self.network, self.images, self.labels = network, images, labels
        self.mixing = uniform_mixing(network.mask, images, removed)
        self.edges = uniform_edge_weights(network, images)
        self.weights = {
            name: weight
            for name, weight in network.named_parameters()
            if not name.startswith(("alpha", "beta"))
        }
        self.kernels = {name: weight for name, weight in self.weights.items() if weight.ndim > 1}

    def __call__(self, images):
        return self.network(images, self.mixing, self.edges)

    def states(self, images):
        """What is read by the input processing and by the edges; the last cell's output; logits."""
        if hasattr(self.network, "walk"):
            return self.network.walk(images, self.mixing, self.edges)
        found = []
        network = self.network
        before = last = network.stem(images)
        for cell in network.cells:
            edge_weights = network.edge_weights(cell.kind) if self.edges is None else None
            edge_weights = self.edges[cell.kind] if edge_weights is None else edge_weights
            states = {0: cell.preprocess0(before), 1: cell.preprocess1(last)}
            for images in (before, last):
                if all(images is not earlier for earlier in found):
                    found.append(images)
            read = {}
            for node in NODES:
                total = 0.0
                for edge, (source, target) in enumerate(EDGES):
                    if target == node:
                        whole = states[source]
                        read.setdefault(source, whole[:, : cell.active])
                        parts = [read[source], whole[:, cell.active :]]
                        mixed = cell.mix(
                            edge, torch.cat(parts, dim=1), self.mixing[cell.kind][edge]
                        )
                        total = total + edge_weights[edge] * mixed
                states[node] = total
            found += [read[source] for source in sorted(read)]
            before, last = last, torch.cat([states[node] for node in NODES], dim=1)
        return found, last, network.classifier(last.mean(dim=(2, 3)))

    def gradients(self, images, labels):
        self.network.zero_grad()
        functional.cross_entropy(self(images), labels).backward()
        return {
            name: torch.zeros_like(w) if w.grad is None else w.grad.clone()
            for name, w in self.weights.items()
        }

    def norms(self):
        return [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]


@contextlib.contextmanager
def other_norm(run, normalized):
    """Every BN gives `normalized(module, input)`, scaled and shifted as it would."""

    def hook(module, inputs, _):
        result = normalized(module, inputs[0])
        if module.affine:
            result = result * module.weight[:, None, None] + module.bias[:, None, None]
        return result

    handles = [module.register_forward_hook(hook) for module in run.norms()]
    yield
    for handle in handles:
        handle.remove()


def constant_norm(run):
    """A context: BN by the mean and variance that the whole batch has."""
    known = {}

    def keep(module, inputs, _):
        values = inputs[0].detach().transpose(0, 1).flatten(1)
        known[module] = (values.mean(dim=1), values.var(dim=1, correction=0))

    handles = [module.register_forward_hook(keep) for module in run.norms()]
    with torch.no_grad():
        run(run.images)
    for handle in handles:
        handle.remove()

    def normalized(module, images):
        mean, variance = known[module]
        return (images - mean[:, None, None]) / torch.sqrt(variance + 1e-5)[:, None, None]

    return other_norm(run, normalized)


def score(values):
    return -sum(math.log(v + KAPPA) + 1 / (v + KAPPA) for v in values)


def nngp(run, outputs="logits", kernel="correlation", statistic="frobenius"):
    with torch.no_grad():
        _, maps, logits = run.states(run.images)
    rows = logits if outputs == "logits" else maps.flatten(2).mean(dim=2)
    if kernel == "correlation":
        matrix, rank = torch.corrcoef(rows), rows.shape[1] - 1
    else:
        matrix, rank = rows @ rows.T / rows.shape[1], rows.shape[1]
    if statistic == "frobenius":
        return math.sqrt(sum(float(value) ** 2 for value in matrix.flatten()))
    if statistic == "mean":
        return float(matrix.sum()) / matrix.numel()
    values = torch.linalg.eigvalsh(matrix).flip(0)[: min(len(rows), rank)].tolist()
    return values[-1] / values[0] if statistic == "condition" else score(values)


def naswot(run):
    with torch.no_grad():
        states, _, _ = run.states(run.images)
    codes = torch.cat([(state > 0).flatten(1) for state in states], dim=1)
    count = len(codes)
    kernel = torch.zeros(count, count)
    for i in range(count):
        for j in range(count):
            kernel[i, j] = codes.shape[1] - int((codes[i] ^ codes[j]).sum())
    return float(torch.log(torch.linalg.det(kernel / codes.shape[1]))) + count * math.log(
        codes.shape[1]
    )


def entropic_score(run):
    with torch.no_grad():
        states, _, _ = run.states(run.images)
    total = 0.0
    for state in states:
        p = 1 / (1 + torch.exp(-state))
        total += float((-p * torch.log(p) - (1 - p) * torch.log(1 - p)).mean())
    return total


def gradient_norm(run, norms="layers"):
    gradients = run.gradients(run.images, run.labels)
    squares = [float((gradients[name] ** 2).sum()) for name in run.kernels]
    return sum(map(math.sqrt, squares)) if norms == "layers" else math.sqrt(sum(squares))


def snip(run):
    gradients = run.gradients(run.images, run.labels)
    return sum(float((w * gradients[name]).abs().sum().detach()) for name, w in run.kernels.items())


def grasp(run, step=1e-9, classifier=True):
    """−θ · H g, H g by a central difference along g."""
    start = {name: weight.detach().clone() for name, weight in run.weights.items()}
    along = run.gradients(run.images, run.labels)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, weight in run.kernels.items():
                weight.copy_(start[name] + sign * step * along[name])
        ends.append(run.gradients(run.images, run.labels))
    with torch.no_grad():
        for name, weight in run.weights.items():
            weight.copy_(start[name])
    return -sum(
        float((start[name] * (ends[0][name] - ends[1][name]) / (2 * step)).sum())
        for name in run.kernels
        if classifier or not name.startswith("classifier")
    )


def fisher(run):
    """By hooks on the layers; a depthwise convolution is a part of the pointwise one behind it."""
    outputs = []

    def note(layer, _, output):
        output.retain_grad()
        outputs.append((layer, output))

    layers = [m for m in run.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    functional.cross_entropy(run(run.images), run.labels).backward()
    for handle in handles:
        handle.remove()
    total, area = 0.0, 1
    for layer, output in outputs:
        if getattr(layer, "groups", 1) > 1:
            area = layer.weight[0].numel()
            continue
        fan, area = layer.weight[0].numel() * area, 1
        if output.grad is None:
            continue
        each = (output * output.grad).detach()
        each = each if each.ndim == 2 else each.sum(dim=(2, 3))
        total += fan * float((each**2).mean(dim=0).sum()) / 2
    return total


def synflow(run, gradients="plain"):
    start = {name: weight.detach().clone() for name, weight in run.weights.items()}
    run.network.zero_grad()
    with torch.no_grad():
        for weight in run.weights.values():
            weight.abs_()
    with other_norm(run, lambda _, images: images):
        run(torch.ones_like(run.images[:1])).sum().backward()
    taken = {"plain": lambda grad: grad, "log": lambda grad: torch.log(1 + grad)}[gradients]
    total = sum(
        float((w * taken(w.grad)).detach().sum())
        for w in run.weights.values()
        if w.grad is not None
    )
    with torch.no_grad():
        for name, weight in run.weights.items():
            weight.copy_(start[name])
    return total


def zico(run, parts=2):
    size = len(run.images) // parts
    found = [
        run.gradients(run.images[i * size : (i + 1) * size], run.labels[i * size : (i + 1) * size])
        for i in range(parts)
    ]
    sums = {}
    for name in run.kernels:
        values = torch.stack([gradients[name].flatten() for gradients in found], dim=1)
        for weight in values:
            mean = float(weight.abs().sum()) / parts
            centre = float(weight.sum()) / parts
            deviation = math.sqrt(sum((float(v) - centre) ** 2 for v in weight) / parts)
            if deviation > 0:
                sums[name] = sums.get(name, 0.0) + mean / deviation
    return sum(math.log(value) for value in sums.values())


def picture_gradients(run, index):
    """Gradient of the sum of one picture's logits: for its pixels, and for every weight."""
    run.network.zero_grad()
    picture = run.images[index : index + 1].clone().requires_grad_()
    run(picture).sum().backward()
    weights = [
        (torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in run.kernels.values()
    ]
    return picture.grad.flatten(), torch.cat(weights)


def jacobian_covariance(run):
    with constant_norm(run):
        rows = torch.stack([picture_gradients(run, i)[0] for i in range(len(run.images))])
    values = torch.linalg.eigvalsh(torch.corrcoef(rows)).flip(0)
    return score(values[: min(len(rows), rows.shape[1] - 1)].tolist())


def ntk_condition(run, pictures=16):
    with constant_norm(run):
        count = min(pictures, len(run.images))
        rows = torch.stack([picture_gradients(run, i)[1] for i in range(count)])
    values = torch.linalg.eigvalsh(rows @ rows.T)
    return float(values[-1] / values[0])


def zen(run, noise, step=0.01, norm="kept"):
    here, way = noise
    if norm == "kept":
        with torch.no_grad():
            before, logs = pooled_and_deviations(run, here)
            after, _ = pooled_and_deviations(run, here + step * way)
        apart = [float((a - b).abs().sum()) for a, b in zip(after, before, strict=True)]
        return math.log(sum(apart) / len(apart)) + logs
    with torch.no_grad(), other_norm(run, lambda _, images: images):
        moved = run.states(here + step * way)[1] - run.states(here)[1]
    lengths = [math.sqrt(float((one**2).sum())) for one in moved]
    return math.log(sum(lengths) / len(lengths))


def pooled_and_deviations(run, images):
    """What is pooled, and Σ w log √(0.81 + 0.19 mean variance) over the BNs that are passed."""
    variances = {}

    def keep(module, inputs, _):
        values = inputs[0].transpose(0, 1).flatten(1)
        variances[module] = float(values.var(dim=1, correction=0).mean())

    handles = [module.register_forward_hook(keep) for module in run.norms()]
    last = run.states(images)[1]
    if hasattr(run.network, "norm"):
        last = functional.relu(run.network.norm(last))
    for handle in handles:
        handle.remove()
    weights = norm_weights(run)
    terms = [weights.get(m, 1.0) * math.log(0.81 + 0.19 * v) / 2 for m, v in variances.items()]
    return last, sum(terms)


def norm_weights(run):
    """For each BN of an operation its mixing weight; a pool counts once for the edges of a node."""
    found, pools = {}, set()
    for cell in run.network.cells:
        kind = getattr(cell, "kind", "normal")
        edges = run.network.edge_weights(kind) if run.edges is None else run.edges[kind]
        for edge, operations in enumerate(cell.edges):
            source, _ = run.network.topology[edge]
            for name, operation in operations.items():
                column = run.supernet.space.operations.index(name)
                weight = float(run.mixing[kind][edge, column] * edges[edge])
                if "pool" in name:
                    weight = float((cell, source, name) not in pools)
                    pools.add((cell, source, name))
                for module in operation.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        found[module] = weight
    return found


def linear_regions(run, steps=4):
    count = len(run.images)
    batches = []
    for index in range(steps + 1):
        share = index / steps
        batches.append(
            torch.stack(
                [
                    (1 - share) * run.images[i] + share * run.images[(i + 1) % count]
                    for i in range(count)
                ]
            )
        )
    with torch.no_grad():
        codes = [[s > 0 for s in run.states(images)[0]] for images in batches]
    switched = sum(
        int((a != b).sum())
        for before, after in itertools.pairwise(codes)
        for a, b in zip(before, after, strict=True)
    )
    return 1 + switched / count
