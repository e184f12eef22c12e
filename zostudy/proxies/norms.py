"""Contexts in which BN is another function of its input, or what layers give is noted."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from zostudy.networks.shared_operations import SharedDense, SharedReduction, SharedSeparable

Shared = SharedDense | SharedSeparable | SharedReduction


class _BatchNorm(TorchFunctionMode, abc.ABC):
    """A context in which every BN of a network is another function of its input."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # any function returns anything
        kwargs = kwargs or {}
        if func is not functional.batch_norm:
            return func(*args, **kwargs)
        names = ("input", "mean", "var", "weight", "bias")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        result = self.normalized(given["input"])
        for name, apply in (("weight", torch.mul), ("bias", torch.add)):
            if given.get(name) is not None:
                result = apply(result, given[name][:, None, None])
        return result

    @abc.abstractmethod
    def normalized(self, images: Tensor) -> Tensor:
        """What stands in for BN, but for its scale and shift."""


class WithoutNorm(_BatchNorm):
    """A context in which BN only scales and shifts."""

    def normalized(self, images: Tensor) -> Tensor:
        """The pictures themselves, as another tensor: what follows may change it in place."""
        return images.clone()


class PlainNorm(_BatchNorm):
    """A context in which BN is made of plain operations, which have derivatives of any order.

    Attributes:
        found: Mean and variance of every BN that was passed, in the order of the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def normalized(self, images: Tensor) -> Tensor:
        """Pictures by the batch's own statistics."""
        variance, mean = torch.var_mean(images, dim=(0, 2, 3), correction=0, keepdim=True)
        self.found.append((mean, variance))
        return _standardized(images, mean, variance)


class Deviations(PlainNorm):
    """A context in which BN is made of plain operations, and the logs of deviations are noted.

    Attributes:
        logs: w log √(0.81 + 0.19 mean σ²), summed over the layers of each BN that was passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[Tensor] = []
        self._weights: Tensor | None = None

    def enter(self, module: Shared, inputs: tuple[Any, ...]) -> None:
        """A module begins that computes an operation of several edges, and is told their weights.

        Args:
            module: The module.
            inputs: What it is given; the second is the weight of each channel of each edge.
        """
        if isinstance(module, SharedDense | SharedSeparable):
            channels = module.channels
        else:
            channels = module.first.shape[1] + module.second.shape[1]
        self._weights = inputs[1].reshape(-1, channels).mean(dim=1)

    def leave(self, *_: object) -> None:
        """It ends."""
        self._weights = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # any function returns anything
        """Call the function, and note the deviations of a BN."""
        result = super().__torch_function__(func, types, args, kwargs)
        if func is functional.batch_norm:
            variances = self.found[-1][1].flatten()
            weights = variances.new_ones(1) if self._weights is None else self._weights
            by_layer = variances.reshape(len(weights), -1).mean(dim=1)
            self.logs.append((weights * (0.81 + 0.19 * by_layer).log()).sum() / 2)
        return result


class ConstantStatistics(_BatchNorm):
    """A context in which BN uses given statistics, so that no picture depends on another.

    Args:
        statistics: Mean and variance for each BN, in the order of the network.
    """

    def __init__(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._left = iter(statistics)

    def normalized(self, images: Tensor) -> Tensor:
        """Pictures by the next statistics."""
        return _standardized(images, *next(self._left))


class Convolved(TorchFunctionMode):
    """A context that notes what convolutions and linear layers give.

    Attributes:
        found: For each, its output, float[batch, channels, …], and how many weights a channel of it
            has (its fan-in).
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, int]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # any function returns anything
        """Call the function, and note its output if it is one of a layer."""
        output = func(*args, **(kwargs or {}))
        if func in (functional.conv2d, functional.linear):
            self.found.append((output, args[1][0].numel()))
        return output


def _standardized(images: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (images - mean) * torch.rsqrt(variance + 1e-5)
