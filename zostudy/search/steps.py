"""One architecture step and one weight step of the bilevel search.

Symbols:
    w      weights of the supernet
    α      architecture parameters, β of the edges among them
    L_t    loss on a batch that trains the weights
    L_a    loss on a batch that trains α, the regularizer included
    η      learning rate of the weights
    ε      step of the finite difference, 0.01 / ‖∇_w' L_a‖

First order:   ∇_α L_a(w, α)
Second order:  ∇_α L_a(w', α) − η (∇_α L_t(w⁺, α) − ∇_α L_t(w⁻, α)) / 2ε
               with w' = w less one SGD step on L_t, and w± = w ± ε ∇_w' L_a(w', α)

References:
    METHOD section 4; DARTS, Eqs. 6 to 8 (Liu et al. 2018).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]

#: Length of the finite difference's step along the gradient (public DARTS code).
_FINITE_STEP = 0.01


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The loss's gradient for each parameter, zeros where the loss does not depend on it."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def first_order(
    architecture_loss: Loss, architecture: Sequence[nn.Parameter]
) -> tuple[list[Tensor], Tensor]:
    """The first-order gradient of α, and L_a."""
    loss = architecture_loss()
    return gradients(loss, architecture), loss.detach()


def second_order(
    architecture_loss: Loss,
    training_loss: Loss,
    architecture: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    optimizer: torch.optim.SGD,
) -> tuple[list[Tensor], Tensor]:
    """The gradient of α through one unrolled SGD step, by finite differences, and L_a at w'.

    The unrolled step is the optimizer's next one, momentum and weight decay included, as in the
    public DARTS code. The weights are as before on return.

    Args:
        architecture_loss: Gives L_a at the current parameters.
        training_loss: Gives L_t at the current parameters.
        architecture: α.
        weights: w.
        optimizer: The weights' optimizer.
    """
    rate = optimizer.param_groups[0]["lr"]
    with _moved(weights, _sgd_step(training_loss, weights, optimizer), -rate):
        loss = architecture_loss()
        found = gradients(loss, [*architecture, *weights])
    direct, direction = found[: len(architecture)], found[len(architecture) :]
    norm = torch.stack([g.norm() for g in direction]).norm()
    epsilon = _FINITE_STEP / float(norm.clamp_min(1e-12))
    sides = []
    for sign in (1, -1):
        with _moved(weights, direction, sign * epsilon):
            sides.append(gradients(training_loss(), architecture))
    implicit = [(up - down) / (2 * epsilon) for up, down in zip(*sides, strict=True)]
    return [d - rate * i for d, i in zip(direct, implicit, strict=True)], loss.detach()


def _sgd_step(
    training_loss: Loss, weights: Sequence[nn.Parameter], optimizer: torch.optim.SGD
) -> list[Tensor]:
    """What the optimizer's next step subtracts, over the learning rate."""
    group = optimizer.param_groups[0]
    steps = []
    for weight, gradient in zip(weights, gradients(training_loss(), weights), strict=True):
        step = gradient + group["weight_decay"] * weight.detach()
        buffer = (
            optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        )
        steps.append(step if buffer is None else step + group["momentum"] * buffer)
    return steps


@contextlib.contextmanager
def _moved(
    weights: Sequence[nn.Parameter], direction: Sequence[Tensor], distance: float
) -> Iterator[None]:
    """The weights moved along a direction, and put back bit for bit afterwards."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, step in zip(weights, direction, strict=True):
            weight.add_(step, alpha=distance)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, before, strict=True):
                weight.copy_(kept)
