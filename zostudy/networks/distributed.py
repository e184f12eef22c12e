"""Batch normalization over a batch that several processes share.

Symbols:
    r, R    a process, and their number
    n_r     values of a channel in the share of process r: pictures × height × width
    m_r, S_r   their mean, and the sum of their squared distances from it
    n, m, v    the same of the whole batch: n = Σ n_r, m = Σ n_r m_r / n,
               v = Σ (S_r + n_r (m_r − m)²) / n
    x̂       (x − m) / √(v + ε)

Statistics of equal batches are the same as on one process but for the order of sums; those that are
kept for evaluation too.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist

Images = Float[Tensor, "batch channels height width"]


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """BN whose statistics are those of all processes' pictures; needs a process group.

    Differs from: `nn.SyncBatchNorm`, which exists on CUDA only.
    """

    def forward(self, images: Images) -> Images:
        """Normalized pictures; by the kept statistics in eval mode."""
        if not self.training and self.track_running_stats:
            return super().forward(images)
        normal, mean, variance, count = _Normalized.apply(images, self.eps)
        self._keep(mean, variance, count)
        if self.affine:
            shape = (1, -1, 1, 1)
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal  # type: ignore[no-any-return]  # of an autograd function

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Normalized(torch.autograd.Function):
    """x̂ over all processes; with weight and bias left to ordinary multiplication."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, epsilon: float) -> tuple[Tensor, ...]:  # noqa: ANN401  # torch's
        given = images.float() if images.dtype in (torch.bfloat16, torch.float16) else images
        variance, mean = torch.var_mean(given, dim=(0, 2, 3), correction=0)
        own = torch.full_like(mean[:1], given.numel() / len(mean))
        rows = _gathered(torch.cat([own, mean, variance * own]))
        counts, means, squares = rows[:, :1], *rows[:, 1:].chunk(2, dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        scale = (variance + epsilon).rsqrt()
        normal = (given - _spread(mean)) * _spread(scale)
        ctx.save_for_backward(normal, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normal.to(images.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401  # torch's
        normal, scale, count = ctx.saved_tensors
        given = gradient.to(normal.dtype)
        sums = torch.stack([given.sum((0, 2, 3)), (given * normal).sum((0, 2, 3))])
        dist.all_reduce(sums)
        mean, along = sums / count
        found = (given - _spread(mean) - normal * _spread(along)) * _spread(scale)
        return found.to(gradient.dtype), None


def _spread(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _gathered(row: Float[Tensor, " values"]) -> Float[Tensor, "processes values"]:
    """The rows of all processes, in their order."""
    rows = row.new_zeros(dist.get_world_size(), len(row))
    rows[dist.get_rank()] = row
    dist.all_reduce(rows)
    return rows


def synchronize(network: nn.Module) -> None:
    """Replace every BN of a network by one over all processes, with its parameters and buffers."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _like(child))
        else:
            synchronize(child)


def _like(norm: nn.BatchNorm2d) -> SynchronizedBatchNorm:
    found = SynchronizedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(found, name, tensor)  # the very ones: an optimizer may hold them
    return found


class TrainingForward(nn.Module):
    """A network whose forward pass is that of training, as torch's data parallelism calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arguments: Any) -> Any:  # noqa: ANN401  # those of the network
        """What the network gives in training."""
        return self.network.forward_training(*arguments)  # type: ignore[operator]  # a method


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """Make a network one of equals, each with a share of every batch.

    Args:
        network: Changed in place: its BN takes statistics from all shares.
        device: Where it is.

    Returns:
        Its forward pass in training, whose backward pass leaves in the parameters the mean of all
        processes' gradients.
    """
    synchronize(network)
    devices = [device] if device.type == "cuda" else None
    parallel = nn.parallel.DistributedDataParallel(
        TrainingForward(network), device_ids=devices, gradient_as_bucket_view=True
    )
    # BN keeps the same statistics everywhere. The argument has another name in torch 2.11 and 2.15.
    parallel.broadcast_buffers = False
    return parallel


def summed(values: Tensor) -> Tensor:
    """The sums over all processes, in place."""
    dist.all_reduce(values)
    return values
