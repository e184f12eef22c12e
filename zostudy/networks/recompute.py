"""What a backward pass computes again instead of keeping it: the same gradients in less memory.

A function of plain torch is computed again by `recomputed`. The two operations that make up most of
the supernet have backward passes of their own, which is cheaper: they keep the statistics of every
BN, so that no statistic is taken twice and the output of the BN that closes an operation is never
needed again.

Symbols:
    x      input of an operation
    y      output of a convolution or a pool, input of a BN
    μ, σ   mean and standard deviation of y over batch and positions, by channel
    w      mixing weights, here the scale of the BN that closes an operation

References:
    Training with less memory by recomputing: Chen et al. 2016, "Training Deep Nets with Sublinear
    Memory Cost", section 4.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zostudy.networks.convolution import Convolution
from zostudy.networks.operations import pool
from zostudy.networks.rederived import derived

T = TypeVar("T")
Images = Float[Tensor, "batch channels height width"]

_EPSILON = 1e-5
_AXES = 2
_CACHE_LINE = 16  # in numbers of four bytes


class Statistics(NamedTuple):
    """Mean and inverse standard deviation by channel, of a BN's input."""

    mean: Float[Tensor, " channels"]
    inverse: Float[Tensor, " channels"]

    def apply(self, images: Images) -> Images:
        """The pictures normalized by them."""
        variance = self.inverse.pow(-2) - _EPSILON
        return torch.batch_norm(
            images, None, None, self.mean, variance, False, 0.0, _EPSILON, False
        )

    def backward(
        self, grad: Images, images: Images, scale: Tensor | None, needed: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of a BN's input and of its scale, each where it is needed."""
        grad, images = _laid_out(grad), _laid_out(images)
        found = torch.ops.aten.native_batch_norm_backward(
            grad, images, scale, None, None, *self, True, _EPSILON, [*needed, False]
        )
        down: Tensor | None = found[0]
        if down is not None:
            down = down.contiguous(memory_format=torch.channels_last)
        return down, found[1]


def normalized(images: Images, scale: Float[Tensor, " channels"] | None = None) -> Images:
    """BN by the batch's own statistics, with a scale for each channel and no shift."""
    # Not where no gradient is asked for, which may be under `vmap`: it cannot lay pictures out.
    given = derived(_laid_out, images) if torch.is_grad_enabled() else images
    output = functional.batch_norm(given, None, None, scale, None, training=True, eps=_EPSILON)
    return output if given is images else output.contiguous(memory_format=torch.channels_last)


def _laid_out(images: Images) -> Images:
    """Pictures as BN takes them fastest.

    On the CPU, torch's BN of channels-last pictures gives each thread a row of sums by channel.
    Rows of less than a cache line are torn between the threads, which costs several times the
    work; channels-first, with both copies, is faster by half.
    """
    narrow = not images.is_cuda and images.shape[1] < _CACHE_LINE
    return images.contiguous() if narrow else images


def recomputed(function: Callable[..., T], *inputs: object, when: bool = True) -> T:
    """The function's value; what its backward pass needs is computed again then, not kept.

    Args:
        function: Without randomness, so that computing it again gives the same bits.
        inputs: Its arguments.
        when: Whether to do so; otherwise, and where no gradient is wanted, a plain call.
    """
    if not (when and torch.is_grad_enabled()):
        return function(*inputs)
    value: T = checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
    )
    return value


def separable(
    stages: Sequence[Convolution],
    images: Images,
    scale: Float[Tensor, " rows_times_channels"],
    kernels: Sequence[Float[Tensor, "rows_times_channels in side side"]],
    *,
    active: bool,
) -> Images:
    """A ReLU, then convolutions with BN and ReLU between them, then a BN with a scale.

    Only the input and the statistics are kept.

    Args:
        stages: The convolutions.
        images: The input; it may be a view.
        scale: The scale of the closing BN.
        kernels: A kernel for each convolution.
        active: Whether the input has passed ReLU already.
    """
    device = "cpu" if images.is_meta else images.device.type  # as `Runtime.autocast`
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        images, kernels = images.to(dtype), [kernel.to(dtype) for kernel in kernels]
    value: Tensor = _Separable.apply(tuple(stages), active, images, scale, *kernels)
    return value


def pooled_rows(
    pooling: "Pooling", images: Images, weights: Float[Tensor, " rows"], *, keep: bool
) -> tuple[Images, ...]:
    """A pool and its BN, times each weight.

    Args:
        pooling: The pool.
        images: The input; it may be a view.
        weights: The weights.
        keep: Whether the pool's output is kept rather than computed again.
    """
    rows: tuple[Tensor, ...] = _PooledRows.apply(pooling, keep, images, weights)
    return rows


class Pooling(NamedTuple):
    """A 3×3 pool with padding 1: ``max``, or ``avg`` without counting the padding."""

    kind: str
    stride: int

    def __call__(self, images: Images) -> tuple[Tensor, ...]:
        """The pooled pictures and, of a maximum, its places."""
        if self.kind == "max":
            return functional.max_pool2d(images, 3, self.stride, 1, return_indices=True)
        return (pool(self.kind, images, self.stride),)

    def backward(self, grad: Images, images: Images, places: Sequence[Tensor]) -> Images:
        """The gradient of the pictures."""
        geometry = [3, 3], [self.stride] * _AXES, [1, 1]
        aten = torch.ops.aten
        if self.kind == "max":
            return aten.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
                grad, images, *geometry, [1, 1], False, *places
            )
        return aten.avg_pool2d_backward(grad, images, *geometry, False, False, None)  # type: ignore[no-any-return]


def _normalize(images: Images, scale: Tensor | None) -> tuple[Images, Statistics]:
    output, *found = torch.native_batch_norm(
        _laid_out(images), scale, None, None, None, True, 0.0, _EPSILON
    )
    return output.contiguous(memory_format=torch.channels_last), Statistics(*found)


def _active(images: Images) -> Images:
    """Past ReLU, channels-last."""
    return functional.relu(images.contiguous(memory_format=torch.channels_last))


class _Separable(torch.autograd.Function):
    """See `separable`."""

    @staticmethod
    def forward(  # what a separable convolution is made of
        ctx: Any,  # noqa: ANN401  # torch gives no type
        stages: tuple[Convolution, ...],
        active: bool,
        images: Images,
        scale: Tensor,
        *kernels: Tensor,
    ) -> Images:
        hidden = images if active else _active(images)
        kept: list[Tensor] = []
        for convolution, kernel in zip(stages[:-1], kernels[:-1], strict=True):
            hidden, statistics = _normalize(convolution(hidden, kernel), None)
            hidden.relu_()
            kept += statistics
        output, statistics = _normalize(stages[-1](hidden, kernels[-1]), scale)
        ctx.stages, ctx.active = stages, active
        ctx.save_for_backward(images, scale, *kernels, *kept, *statistics)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Images) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        images, scale, *rest = ctx.saved_tensors
        stages, count = ctx.stages, len(ctx.stages)
        kernels, flat = rest[:count], rest[count:]
        statistics = [Statistics(*flat[i : i + 2]) for i in range(0, len(flat), 2)]
        need_images, need_scale, need_kernels = ctx.needs_input_grad[2:5]
        inputs = [images if ctx.active else _active(images)]
        outputs = [stages[0](inputs[0], kernels[0])]
        for stage in range(1, count):
            inputs.append(statistics[stage - 1].apply(outputs[-1]).relu_())
            outputs.append(stages[stage](inputs[-1], kernels[stage]))

        below = need_images or need_kernels
        down, of_scale = statistics[-1].backward(grad, outputs.pop(), scale, (below, need_scale))
        of_kernels: list[Tensor | None] = [None] * count
        for stage in reversed(range(count if below else 0)):
            needed = (need_images or stage > 0, need_kernels)
            image = inputs.pop()
            down, of_kernels[stage] = stages[stage].backward(down, image, kernels[stage], needed)
            if down is not None and (stage or not ctx.active):
                down = torch.ops.aten.threshold_backward(down, image, 0)
            if stage:
                below_it = statistics[stage - 1]
                down, _ = below_it.backward(down, outputs.pop(), None, (True, False))
        return None, None, down, of_scale, *of_kernels


class _PooledRows(torch.autograd.Function):
    """See `pooled_rows`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # torch gives no type
        pooling: Pooling,
        keep: bool,
        images: Images,
        weights: Tensor,
    ) -> tuple[Images, ...]:
        pooled = pooling(images)
        output, statistics = _normalize(pooled[0], None)
        ctx.pooling = pooling
        ctx.save_for_backward(images, weights, *statistics, *(pooled if keep else ()))
        return tuple(weight * output for weight in weights.unbind())

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  # torch gives no type
        *gradients: Images,
    ) -> tuple[Tensor | None, ...]:
        images, weights, mean, inverse, *pooled = ctx.saved_tensors
        statistics = Statistics(mean, inverse)
        need_images, need_weights = ctx.needs_input_grad[2:]
        pooled = pooled or ctx.pooling(images)
        of_weights = None
        if need_weights:
            output = statistics.apply(pooled[0])
            of_weights = torch.stack([(output * grad).sum() for grad in gradients])
        if not need_images:
            return None, None, None, of_weights
        down = weights[0] * gradients[0]
        for weight, grad in zip(weights[1:], gradients[1:], strict=True):
            down.addcmul_(weight, grad)
        down, _ = statistics.backward(down, pooled[0], None, (True, False))
        return None, None, ctx.pooling.backward(down, images, pooled[1:]), of_weights
