"""The largest eigenvalue of the Hessian of a loss for a few parameters.

By power iteration, whose products with the Hessian are finite differences of two gradients, so that
no graph of a gradient is kept.

References:
    R-DARTS, section 4 (Zela et al. 2020): it rises before the generalization of a genotype falls.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: Iterations; the eigenvalue is known to a few percent by then.
_ITERATIONS = 10

#: Length of the step between the two gradients, in units of α.
_STEP = 1e-2


@torch.no_grad()
def largest_eigenvalue(
    gradient: Callable[[], Sequence[Tensor]], parameters: Sequence[nn.Parameter]
) -> float:
    """The eigenvalue of the largest size.

    Args:
        gradient: The gradient at the parameters as they are, one tensor a parameter.
        parameters: They are moved, and put back bit for bit.

    Returns:
        The eigenvalue, with its sign.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    draw = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=draw).to(p) for p in parameters]
    value = 0.0
    try:
        for _ in range(_ITERATIONS):
            length = torch.stack([d.norm() for d in direction]).norm()
            if float(length) == 0:
                return 0.0
            unit = [d / length for d in direction]
            sides = []
            for sign in (1, -1):
                for parameter, start, step in zip(parameters, before, unit, strict=True):
                    parameter.copy_(start + sign * _STEP * step)
                with torch.enable_grad():
                    sides.append(gradient())
            direction = [(up - down) / (2 * _STEP) for up, down in zip(*sides, strict=True)]
            products = [(u * d).sum() for u, d in zip(unit, direction, strict=True)]
            value = float(torch.stack(products).sum())
        return value
    finally:
        for parameter, start in zip(parameters, before, strict=True):
            parameter.copy_(start)
