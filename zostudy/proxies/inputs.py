"""What ranking functions are given of an untrained network, and how they are named in a study.

A ranking function is ``(what it reads, …, *, options) -> scalar``. Its decorator says in ``reads``
what it is given, in order; without it, the logits. The names are

    logits     float[batch, classes]
    features   float[batch, width], the mean over the picture of `maps`
    maps       float[batch, width, height, width], the last cell's output
    pooled     what global average pooling reads: `maps`, past BN and ReLU where these stand there
    states     what the network's ReLUs stand before, in its order: what cells read where they bring
               it to their channels (the stem's output, every cell's but the last one's), of each
               node the channels that its operations read, and what ReLUs in residual blocks and
               before global average pooling read
    images     float[batch, channels, height, width], the batch
    labels     int[batch], its classes
    network    a `Network`, for functions that take gradients or pictures of their own
    generator  seeded anew for every call, so that all variants of a network see the same draws

and the other facts: ``sign``, 1 where a better network has the larger value (the default) and −1
where it has the smaller one; ``source``, where it comes from; ``differentiable=False`` where
its gradient for the mixing weights does not exist or says nothing, so that only the exact scorer
can use it.

Symbols:
    w   mixing weights, one for each edge and operation
    r   the ranking function's value
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from zostudy.networks.macs import macs
from zostudy.networks.mixing import Mixing
from zostudy.networks.operations import build
from zostudy.networks.shared_operations import SharedDense, SharedReduction, SharedSeparable
from zostudy.networks.skeleton import ResidualBlock
from zostudy.networks.supernet import Supernet
from zostudy.proxies.norms import Deviations, PlainNorm
from zostudy.space.search_space import SearchSpace

Images = Float[Tensor, "batch channels height width"]
Features = Float[Tensor, "batch channels height width"]

#: What a forward pass gives; a ranking function that reads only these takes no gradient itself.
FORWARD = frozenset({"logits", "features", "maps", "pooled", "states", "images", "labels"})


@dataclass(frozen=True)
class ProxyInputs:
    """A batch as rankings see it.

    Attributes:
        images: Normalized pictures.
        labels: Their classes.
        seed: Seed of the draws that a ranking function makes for this batch.
    """

    images: Images
    labels: Int64[Tensor, " batch"]
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A CPU generator of the batch's seed."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Ranking:
    """A ranking function with its options bound.

    Attributes:
        name: Its registered name.
        function: Takes what it reads, in order, and gives a scalar.
        sign: 1 where larger is better, −1 where smaller is.
        reads: Names of what it is given.
        differentiable: Whether the first-order scorer can use it.
    """

    name: str
    function: Callable[..., Tensor]
    sign: int
    reads: tuple[str, ...] = ("logits",)
    differentiable: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any], space: SearchSpace) -> "Ranking":
        """The ranking function that ``{"name": …, option: value, …}`` names."""
        component = space.find("ranking_function", settings["name"], "prune.ranking")
        options = {key: value for key, value in settings.items() if key != "name"}
        facts = component.facts
        reads = facts.get("reads", ("logits",))
        return cls(
            settings["name"],
            functools.partial(component.load(), **options),
            -1 if facts.get("sign") == -1 else 1,
            tuple(str(name) for name in reads) if isinstance(reads, tuple) else (str(reads),),
            facts.get("differentiable") is not False,
        )

    @property
    def forward_only(self) -> bool:
        """Whether one forward pass gives all that it reads."""
        return FORWARD.issuperset(self.reads)

    def value(self, given: Mapping[str, Any]) -> Float[Tensor, ""]:
        """Its value for what is known by name.

        Raises:
            NumericalError: The ranking means nothing for this network.
        """
        return self.function(*(given[name] for name in self.reads))


def holds(condition: Bool[Tensor, "..."]) -> bool:
    """Whether a condition holds everywhere; on ``meta``, which has no values, it is taken to."""
    return condition.is_meta or bool(condition.all())


class Network:
    """A supernet under one mixing, whose weights a ranking function may differentiate by.

    Args:
        supernet: The supernet.
        mixing: Its mixing weights.
        twice: Whether what is computed from gradients is differentiated again.

    Attributes:
        weights: Every weight by name, without α and β.
        rows: For each weight that is a kernel of convolutions or of a linear layer, how many
            operations of edges it is the kernel of, one after the other along its first dimension.
    """

    def __init__(self, supernet: Supernet, mixing: Mixing, *, twice: bool) -> None:
        self._supernet = supernet
        self._mixing = mixing
        self._twice = twice
        architecture = {id(parameter) for parameter in supernet.architecture_parameters()}
        self.weights = {
            name: parameter.detach().requires_grad_()
            for name, parameter in supernet.named_parameters()
            if id(parameter) not in architecture
        }
        self.rows = {name: 1 for name, weight in self.weights.items() if weight.ndim > 1}
        for prefix, module in supernet.named_modules():
            if isinstance(module, SharedDense | SharedSeparable | SharedReduction):
                share = module.channels if isinstance(module, SharedDense) else 1
                for name, weight in module.named_parameters():
                    self.rows[f"{prefix}.{name}"] = len(weight) // share

    @property
    def kernels(self) -> list[Tensor]:
        """The weights of convolutions and linear layers, as they are kept."""
        return [self.weights[name] for name in self.rows]

    def layers(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors shaped as the kernels, such as gradients, split into those of single operations.

        A layer is one kernel of one edge's operation, so that no sum over layers depends on how a
        supernet is computed.
        """
        return [
            layer
            for tensor, rows in zip(tensors, self.rows.values(), strict=True)
            if tensor.numel()
            for layer in tensor.chunk(rows)
        ]

    def read(self, images: Images, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """Logits, features, maps and states for a batch.

        Args:
            images: The batch.
            weights: Weights in place of the network's own.
        """
        own = self.weights if weights is None else dict(weights)
        mixing = _as(self._mixing, images.dtype)
        with captured(self._supernet, FORWARD) as seen:
            logits = functional_call(self._supernet, own, (images, mixing))
        return seen | {"logits": logits}

    def __call__(self, images: Images) -> Float[Tensor, "batch classes"]:
        """Logits."""
        logits: Tensor = self.read(images)["logits"]
        return logits

    def gradients(
        self, value: Tensor, inputs: Sequence[Tensor], *, twice: bool = False
    ) -> list[Tensor]:
        """The gradient of a scalar for each input, zeros where it does not depend on it.

        Args:
            value: The scalar.
            inputs: What it is differentiated by.
            twice: Whether the ranking function itself differentiates the gradient again.
        """
        graph = self._twice or twice
        return list(
            torch.autograd.grad(
                value, inputs, create_graph=graph, retain_graph=True, materialize_grads=True
            )
        )

    def statistics(self, images: Images) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of every BN for a batch; they depend on the mixing, not on weights."""
        mode = PlainNorm()
        with mode:
            self.read(images, {name: weight.detach() for name, weight in self.weights.items()})
        return mode.found

    def deviations(self, images: Images, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What is pooled, and Σ over layers of w log √(0.81 + 0.19 mean σ²), for a batch.

        A layer is one BN of one edge's operation, σ² the variances of its channels, and w the
        operation's mixing weight, or 1 where BN stands elsewhere or behind a pool. 0.81 and 0.19
        are those of running variances, which begin with 1, after two batches.

        Args:
            images: The batch.
            weights: Weights in place of the network's own.
        """
        mode = Deviations()
        with contextlib.ExitStack() as hooks, mode:
            for module in self._supernet.modules():
                if isinstance(module, SharedDense | SharedSeparable | SharedReduction):
                    hooks.callback(module.register_forward_pre_hook(mode.enter).remove)
                    hooks.callback(module.register_forward_hook(mode.leave).remove)
            pooled: Tensor = self.read(images, weights)["pooled"]
        return pooled, torch.stack(mode.logs).sum()

    def outputs(self, images: Images) -> list[Features]:
        """What the stem, each residual block and each cell give, in the order of the network.

        Each can be differentiated by the one before.

        Args:
            images: A batch.
        """
        found: list[Tensor] = []

        def of_part(_: nn.Module, __: tuple[Any, ...], given: Tensor) -> Tensor:
            found.append(_with_gradient(given))
            return given.clone()  # the ReLU behind it may work in place

        def of_cell(
            _: nn.Module, __: tuple[Any, ...], nodes: tuple[Tensor, ...]
        ) -> tuple[Tensor, ...]:
            found.append(_with_gradient(torch.cat(nodes, dim=1)))
            return torch.split(found[-1], nodes[0].shape[1], dim=1)

        with contextlib.ExitStack() as hooks:
            hooks.callback(self._supernet.stem.register_forward_hook(of_part).remove)
            for cell in self._supernet.cells:
                for part in cell.get_submodule("preprocess").children():
                    if isinstance(part, ResidualBlock):
                        hooks.callback(part.register_forward_hook(of_part).remove)
                hooks.callback(cell.register_forward_hook(of_cell).remove)
            mixing = _as(self._mixing, images.dtype)
            functional_call(self._supernet, self.weights, (images, mixing))
        return found

    def operations(self, images: Images) -> Iterator[tuple[Float[Tensor, ""], int]]:
        """Of each operation on an edge of a cell its mixing weight, and its multiply-accumulates.

        Args:
            images: A picture.
        """
        shapes: list[list[tuple[int, ...]]] = []
        with contextlib.ExitStack() as hooks:
            for cell in self._supernet.cells:
                shapes.append([])
                for node in cell.get_submodule("nodes").children():
                    note = functools.partial(_note_shape, shapes[-1])
                    hooks.callback(node.register_forward_pre_hook(note).remove)
            with torch.no_grad():
                functional_call(self._supernet, self.weights, (images, self._mixing))
        space = self._supernet.space
        for number, kind in enumerate(self._supernet.sequence):
            mixing = self._mixing.of(number, kind)
            weights = mixing.operations * mixing.edges[:, None]
            for (source, _), edge in zip(space.edges, weights, strict=True):
                stride = space.stride(kind, source)
                for weight, name in zip(edge, space.operations, strict=True):
                    yield weight, _macs(space, name, stride, *shapes[number][source])


def _with_gradient(tensor: Tensor) -> Tensor:
    """The tensor, which can be differentiated by even where nothing led to it."""
    return tensor if tensor.requires_grad else tensor.requires_grad_()


def _note_shape(shapes: list[tuple[int, ...]], _: nn.Module, inputs: tuple[Any, ...]) -> None:
    shapes.append(tuple(inputs[0].shape[1:]))


@functools.lru_cache(maxsize=10_000)
def _macs(
    space: SearchSpace, name: str, stride: int, channels: int, height: int, width: int
) -> int:
    with torch.device("meta"):
        operation = build(space.operation(name), channels, stride, affine=False)
    return macs(operation, channels, height, width)


def noise(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Images:
    """Draws from N(0, 1), the same whatever the precision.

    Args:
        shape: Their shape.
        generator: Draws.
        like: Whose device and precision they have.
    """
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(like)


def _as(mixing: Mixing, dtype: torch.dtype) -> Mixing:
    return Mixing(
        {kind: weights.to(dtype) for kind, weights in mixing.operations.items()},
        {kind: weights.to(dtype) for kind, weights in mixing.edges.items()},
    )


@contextlib.contextmanager
def captured(supernet: Supernet, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Note what a forward pass in the body shows; what is computed again later is not noted.

    Args:
        supernet: The supernet.
        names: What is wanted of features, maps, pooled and states.

    Yields:
        A dictionary that is complete after one pass.
    """
    states: list[Tensor] = []
    seen: dict[str, Any] = {}

    def of_stem(_: nn.Module, __: tuple[Any, ...], stem: Tensor) -> Tensor:
        states.append(stem)
        return stem.clone()  # the ReLU behind it works in place

    def of_cell(_: nn.Module, __: tuple[Any, ...], nodes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states.append(torch.cat(nodes, dim=1))
        return torch.split(states[-1], nodes[0].shape[1], dim=1)

    def of_read(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        states.append(inputs[0].view_as(inputs[0]))  # what is read here, and nowhere else
        return states[-1], *inputs[1:]

    def of_last(_: nn.Module, __: tuple[Any, ...], nodes: tuple[Tensor, ...]) -> None:
        seen["maps"] = seen["pooled"] = torch.cat(nodes, dim=1)
        seen["features"] = seen["maps"].mean(dim=(2, 3))

    with contextlib.ExitStack() as hooks:
        if "states" in names:
            if supernet.space.projects:
                hooks.callback(supernet.stem.register_forward_hook(of_stem).remove)
                for cell in supernet.cells[:-1]:
                    hooks.callback(cell.register_forward_hook(of_cell).remove)
            for module in _reading(supernet):
                hooks.callback(module.register_forward_pre_hook(of_read).remove)
        if not {"features", "maps", "pooled"}.isdisjoint(names):
            of_head = functools.partial(_note_pooled, seen)
            hooks.callback(supernet.head.register_forward_hook(of_head).remove)
            hooks.callback(supernet.cells[-1].register_forward_hook(of_last).remove)
        yield seen
    seen["states"] = tuple(states)


def _note_pooled(seen: dict[str, Any], _: nn.Module, __: tuple[Any, ...], images: Tensor) -> None:
    seen["pooled"] = images


def _reading(supernet: Supernet) -> Iterator[nn.Module]:
    """Nodes, and ReLUs around them, which note what they read."""
    for cell in supernet.cells:
        yield from (m for m in cell.get_submodule("preprocess").modules() if isinstance(m, nn.ReLU))
        yield from cell.get_submodule("nodes").children()
    yield from (module for module in supernet.head if isinstance(module, nn.ReLU))
