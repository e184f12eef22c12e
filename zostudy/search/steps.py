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
    docs/method.md, section 4; DARTS, Eqs. 6 to 8 (Liu et al. 2018).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

#: Gives a loss in parts to be summed, one at a time; the graph of one is gone before the next is.
Loss = Callable[[], Iterator[Tensor]]

#: Length of the finite difference's step along the gradient (public DARTS code).
_FINITE_STEP = 0.01


@contextlib.contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradient of these, so that nothing is kept for one."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def gradients(
    loss: Loss, parameters: Sequence[Tensor], others: Sequence[nn.Parameter] = ()
) -> tuple[list[Tensor], Tensor]:
    """The gradient for each parameter, zeros where the loss does not depend on it, and the loss.

    Args:
        loss: The loss.
        parameters: What to differentiate by.
        others: Parameters of the loss that are frozen meanwhile.
    """
    with frozen(others):
        return _gradients(loss, parameters)


def _gradients(loss: Loss, parameters: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    found: list[Tensor | None] = [None] * len(parameters)
    total: Tensor | None = None
    for part in loss():
        new: Sequence[Tensor | None] = [None] * len(parameters)
        if part.requires_grad:  # it does not where a mask lets nothing through to the output
            new = torch.autograd.grad(part, parameters, allow_unused=True)
        found = [_sum(old, gradient) for old, gradient in zip(found, new, strict=True)]
        total = _sum(total, part.detach())
        del part, new
    if total is None:
        raise ValueError("a loss needs at least one part")
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ], total


def _sum(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    if old is None or new is None:
        return new if old is None else old
    return old + new


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
    step = weights[0].new_full((), -rate)
    with _moved(weights, _sgd_step(training_loss, architecture, weights, optimizer), step):
        found, loss = gradients(architecture_loss, [*architecture, *weights])
    direct, direction = found[: len(architecture)], found[len(architecture) :]
    norm = torch.stack([g.norm() for g in direction]).norm()
    epsilon = _FINITE_STEP / norm.clamp_min(1e-12)
    sides = []
    for sign in (1, -1):
        with _moved(weights, direction, sign * epsilon):
            sides.append(gradients(training_loss, architecture, weights)[0])
    implicit = [(up - down) / (2 * epsilon) for up, down in zip(*sides, strict=True)]
    return [d - rate * i for d, i in zip(direct, implicit, strict=True)], loss


def _sgd_step(
    training_loss: Loss,
    architecture: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    optimizer: torch.optim.SGD,
) -> list[Tensor]:
    """What the optimizer's next step subtracts, over the learning rate."""
    group = optimizer.param_groups[0]
    steps = []
    found, _ = gradients(training_loss, weights, architecture)
    for weight, gradient in zip(weights, found, strict=True):
        step = gradient + group["weight_decay"] * weight.detach()
        buffer = (
            optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        )
        steps.append(step if buffer is None else step + group["momentum"] * buffer)
    return steps


@contextlib.contextmanager
def _moved(
    weights: Sequence[nn.Parameter], direction: Sequence[Tensor], distance: Tensor
) -> Iterator[None]:
    """The weights moved along a direction, and put back bit for bit afterwards.

    Args:
        weights: w.
        direction: One tensor a weight.
        distance: A number that stays on the device, so that the host need not wait for it.
    """
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, step in zip(weights, direction, strict=True):
            weight.addcmul_(step, distance)
        del direction, step  # not to outlive the move where nobody else holds them
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, before, strict=True):
                weight.copy_(kept)


def harmonized(
    architecture_loss: Callable[[Sequence[Tensor]], Iterator[Tensor]],
    architecture: Sequence[nn.Parameter],
    weights: Sequence[nn.Parameter],
    cells: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    strength: float,
) -> tuple[list[Tensor], Tensor]:
    """The gradient of L_a − λ S, where S says how well the gradients of the cells agree.

    S is the mean cosine between the gradients g_l of L_a for the mixing weights p_l of two cells of
    a type. Its gradient for α is the derivative of ∇_α L_a along δ, δ_l = ∂S/∂g_l, which a finite
    difference of two more passes gives.

    Args:
        architecture_loss: Gives L_a with an offset on the mixing weights of each cell.
        architecture: α.
        weights: w.
        cells: For each cell, a tensor of the shape of its mixing weights.
        groups: Numbers of the cells of each type.
        strength: λ.

    References:
        Λ-DARTS, section 4.2, Eqs. 8 to 12 (Movahedi et al. 2022).
    """
    offsets = [torch.zeros_like(cell, requires_grad=True) for cell in cells]
    found, loss = gradients(lambda: architecture_loss(offsets), [*architecture, *offsets], weights)
    direct, by_cell = found[: len(architecture)], found[len(architecture) :]
    direction = _agreement_gradient(by_cell, groups)
    norm = torch.stack([d.norm() for d in direction]).norm()
    if strength == 0:
        return direct, loss
    epsilon = _FINITE_STEP / norm.clamp_min(1e-12)
    sides = []
    for sign in (1, -1):
        moved = [sign * epsilon * d for d in direction]
        sides.append(gradients(lambda m=moved: architecture_loss(m), architecture, weights)[0])  # type: ignore[misc]  # a loss
    along = [(up - down) / (2 * epsilon) for up, down in zip(*sides, strict=True)]
    return [d - strength * a for d, a in zip(direct, along, strict=True)], loss


def _agreement_gradient(by_cell: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> list[Tensor]:
    """δ_l = ∂S/∂g_l for each cell; 0 for a cell that is the only one of its type."""
    found = [torch.zeros_like(gradient) for gradient in by_cell]
    for group in groups:
        if len(group) < 2:
            continue
        pairs = len(group) * (len(group) - 1) / 2
        norms = {cell: by_cell[cell].norm().clamp_min(1e-12) for cell in group}
        units = {cell: by_cell[cell] / norms[cell] for cell in group}
        total = torch.stack([units[cell] for cell in group]).sum(dim=0)
        for cell in group:
            others = total - units[cell]
            across = others - (others * units[cell]).sum() * units[cell]
            found[cell] = across / (norms[cell] * pairs)
    return found
