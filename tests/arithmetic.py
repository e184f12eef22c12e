"""How far a computation in float32 or bf16 may be from float64: the arithmetic of all tolerances.

The reference is given the very numbers of what is tested, weights and pictures, as float64. What is
left between the two is rounding. How much of it a network lets through depends on the network: BN
divides by a deviation that may be small, sums cancel. So it is not guessed but measured, on the
reference, by Monte Carlo arithmetic (Parker 1997): the reference runs again with noise of the size
of one rounding behind every convolution, BN and product, forward and backward. The root mean square
of what that changes is a result's *spread*. It is that of the reference alone, so a kernel that
lies does not widen its own tolerance. BN rounds the mean of a channel, of pictures and of
gradients, once for all pixels; that error does not average out where pixels are added up, so it
is noise of its own that all pixels of a channel share.

Symbols:
    ε     relative size of a rounding, of float32 2⁻²³
    σ     spread of a result: ‖result with noise − result‖ in the root mean square of the runs
    δ     spread of what a ReLU or max pool reads, by channel
    N     units of a ReLU, windows of a max pool
    m     of them, those that read a number, or a lead of the largest, below 8 δ, and not 0

Values are continuous, so ‖error‖ ≤ K (σ + ε ‖value‖). K = 8 covers that a kernel rounds in every
term of its sums and not only once behind them (the error grows like the root of their number where
signs are random, and kernels add in blocks), and that a spread of two runs is an estimate.

Gradients jump where a ReLU switches or a maximum moves elsewhere. Only units within rounding of the
switch can do so, and of a layer's squared gradient each carries 1/N in the mean. So a gradient may
further be off by 2 √(Σ m / N), the sum over layers, times its norm. An exact 0, which both
arithmetics give, is no switch. A gradient is compared as a whole tensor. One that is far smaller
than its share of all gradients, by cancellation, is measured by that share.

A tolerance that is wide says nothing. `Expected.assert_close` refuses one of more than `SLACK`,
so that a comparison that passes has compared something.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

RUNS = 2
SAFETY = 8.0
_NEAR = 8.0

#: The largest tolerance, relative, that float32 may have.
SLACK = 0.1

Results = Mapping[str, Tensor]

_ROUNDED = {torch.conv2d, functional.batch_norm, functional.linear, torch.einsum, Tensor.matmul}
_RELUS = {functional.relu, Tensor.clamp}
_POOLS = {functional.max_pool2d}


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Threads for what is tested; the references are computed on the one that tests run on."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def epsilon(dtype):
    return torch.finfo(dtype).eps


@dataclass(frozen=True)
class Expected:
    """What the reference says, and how far off it may be said.

    Attributes:
        values: Results that are continuous in all that is rounded.
        gradients: Results that jump where a unit switches.
        spread: σ of each result.
        switching: √(Σ m / N).
        rounding: ε.
    """

    values: Results
    gradients: Results
    spread: Mapping[str, float]
    switching: float
    rounding: float

    def allowed(self, name: str) -> float:
        """The largest norm of an error that rounding explains."""
        if name in self.values:
            own = float(self.values[name].norm())
            return SAFETY * (self.spread[name] + self.rounding * own)
        own = max(float(self.gradients[name].norm()), self._share(name))
        linear = SAFETY * (self.spread[name] + self.rounding * own)
        return linear + 2 * self.switching * own

    @property
    def slack(self) -> float:
        """The largest relative error that is allowed; where it is large, little is said."""
        norms = {name: float(value.norm()) for name, value in self.values.items()}
        norms |= {n: max(float(g.norm()), self._share(n)) for n, g in self.gradients.items()}
        return max((self.allowed(name) / norm for name, norm in norms.items() if norm), default=0)

    def _share(self, name: str) -> float:
        """What a tensor's gradient would be if it had a share of the whole by its numbers."""
        return (self._mean_square * self.gradients[name].numel()) ** 0.5

    @functools.cached_property
    def _mean_square(self) -> float:
        """Of all numbers of the gradients."""
        squares = sum(float(g.square().sum()) for g in self.gradients.values())
        return squares / sum(g.numel() for g in self.gradients.values())

    def assert_close(self, values: Results, gradients: Results) -> None:
        """Fail where a result is further off than rounding explains."""
        assert values.keys() == self.values.keys()
        assert gradients.keys() == self.gradients.keys()
        wrong = []
        for name, expected in (*self.values.items(), *self.gradients.items()):
            found = {**values, **gradients}[name]
            assert found.shape == expected.shape, name
            error = float((found.detach().double() - expected).norm())
            if not error <= self.allowed(name):
                wrong.append(f"{name}: off by {error:.2e}, {self.allowed(name):.2e} allowed")
        assert not wrong, "\n".join(wrong)
        if self.rounding == epsilon(torch.float32):
            assert self.slack < SLACK, f"a tolerance of {self.slack:.1e} says nothing"


def expected(run: Callable[[], tuple[Results, Results]], dtype: torch.dtype) -> Expected:
    """Run a reference in float64 by itself and with noise.

    Args:
        run: Gives values and gradients, by name, of the same numbers at each call.
        dtype: The arithmetic that is tested.
    """
    plain = _Watched(0.0, 0)
    with plain:
        values, gradients = run()
    squares = dict.fromkeys((*values, *gradients), 0.0)
    spreads = [torch.zeros(read.shape[1], dtype=torch.float64) for read in plain.reads]
    for number in range(1, RUNS + 1):
        noisy = _Watched(epsilon(dtype), number)
        with noisy:
            moved = run()
        for name, result in ({**moved[0], **moved[1]}).items():
            squares[name] += float((result - {**values, **gradients}[name]).square().sum()) / RUNS
        for spread, read, other in zip(spreads, plain.reads, noisy.reads, strict=True):
            spread += (other - read).square().mean(dim=(0, 2, 3)) / RUNS
    share = 0.0
    for lead, spread in zip(plain.leads, spreads, strict=True):
        reach = _NEAR * spread.sqrt()[:, None, None]
        share += float(((lead > 0) & (lead < reach)).double().mean())
    return Expected(
        {name: value.detach() for name, value in values.items()},
        {name: gradient.detach() for name, gradient in gradients.items()},
        {name: square**0.5 for name, square in squares.items()},
        share**0.5,
        epsilon(dtype),
    )


class _Watched(TorchFunctionMode):
    """Adds noise behind what rounds, and notes what ReLUs and max pools read.

    Attributes:
        reads: What each of them reads.
        leads: How far each of their units is from switching.
    """

    def __init__(self, size, seed):
        super().__init__()
        self.size = size
        self.generator = torch.Generator().manual_seed(seed)
        self.reads = []
        self.leads = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _RELUS or func in _POOLS:
            self._note(func, args, kwargs)
        if func not in _ROUNDED or not self.size:
            return func(*args, **kwargs)
        noise = _Noise(self.size, self.generator)
        if func is functional.batch_norm:
            args = (_BeforeNorm.apply(args[0], noise), *args[1:])
        return _Rounded.apply(func(*args, **kwargs) + noise.shared, noise)

    def _note(self, func, args, kwargs):
        with torch._C.DisableTorchFunction():
            read = args[0].detach()
            if read.dim() < 4:  # not a picture's
                return
            self.reads.append(read)
            if func in _RELUS:
                self.leads.append(read.abs())
                return
            names = ("kernel_size", "stride", "padding")
            given = dict(zip(names, args[1:], strict=False)) | kwargs
            windows = _windows(read, *(given.get(name, 0) for name in names))
            first, second = windows.topk(2, dim=-1).values.unbind(-1)
            self.leads.append(first - second)


def _windows(images, kernel, stride, padding):
    """float[batch, channels, down, right, kernel²]; outside the pictures −∞."""
    frame = []
    for side in reversed(images.shape[2:]):
        places = -(-side // stride)  # as many as the pools of networks have, rounded up
        frame += [padding, (places - 1) * stride + kernel - side - padding]
    framed = functional.pad(images, frame, value=-torch.inf)
    return framed.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4)


class _Noise:
    """Noise of one relative size.

    Attributes:
        down: Root mean square of the gradient that came down last, by channel.
        shared: What BN's mean is off by, in deviations, by channel.
    """

    def __init__(self, size, generator):
        self.size, self.generator = size, generator
        self.down, self.shared = None, 0.0

    def on(self, tensor, scale):
        """A tensor with noise."""
        drawn = torch.randn(tensor.shape, generator=self.generator, dtype=tensor.dtype)
        return tensor + self.size * scale * drawn

    def by_channel(self, scale):
        """Noise that all pixels share; scale: float64[1, channels, 1, 1]."""
        drawn = torch.randn(scale.shape, generator=self.generator, dtype=scale.dtype)
        return self.size * scale * drawn


def _scale(tensor):
    """Root mean square, by channel where there are some."""
    over = (0, 2, 3) if tensor.dim() == 4 else tuple(range(tensor.dim()))
    return tensor.square().mean(dim=over, keepdim=True).sqrt()


class _Rounded(torch.autograd.Function):
    """Noise on the way up and on the way down."""

    @staticmethod
    def forward(ctx, tensor, noise):
        ctx.noise = noise
        return noise.on(tensor, _scale(tensor))

    @staticmethod
    def backward(ctx, grad):
        ctx.noise.down = _scale(grad)
        return ctx.noise.on(grad, ctx.noise.down), None


class _BeforeNorm(torch.autograd.Function):
    """Noise in front of BN, which takes means away, of pictures and of gradients, as it rounds.

    Where a channel is constant, or nearly, what is left of it is rounding alone.
    """

    @staticmethod
    def forward(ctx, images, noise):
        over = {"dim": (0, 2, 3), "keepdim": True}
        ctx.noise = noise
        ctx.deviation = (images.var(correction=0, **over) + 1e-5).sqrt()
        noise.shared = noise.by_channel(images.mean(**over) / ctx.deviation)
        return noise.on(images, _scale(images))

    @staticmethod
    def backward(ctx, grad):
        scale = ctx.noise.down / ctx.deviation
        return ctx.noise.on(grad, scale) + ctx.noise.by_channel(scale), None
