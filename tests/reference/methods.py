"""Search methods by the formulas of their papers: loops over edges and operations, in float64.

Every function takes lists or tensors of numbers and gives plain lists. Noise is given, never drawn.
"""

import math

import torch


def rows_of(alpha, mask):
    """For each edge, α of the operations that are left, by column."""
    return [
        {o: float(value) for o, value in enumerate(row) if mask[e][o]}
        for e, row in enumerate(alpha)
    ]


def spread(rows, count):
    """Rows by column as lists, 0 elsewhere."""
    return [[row.get(o, 0.0) for o in range(count)] for row in rows]


def exponentials(row):
    """exp of each value, over their sum."""
    total = sum(math.exp(value) for value in row.values())
    return {o: math.exp(value) / total for o, value in row.items()}


def softmax(alpha, mask):
    """DARTS, Eq. 2."""
    return spread([exponentials(row) for row in rows_of(alpha, mask)], len(alpha[0]))


def sigmoid(alpha, mask):
    """FairDARTS, section 3.2."""
    rows = [{o: 1 / (1 + math.exp(-v)) for o, v in row.items()} for row in rows_of(alpha, mask)]
    return spread(rows, len(alpha[0]))


def concrete(alpha, mask, uniform, temperature):
    """SNAS, Eq. 5, and GDAS, Eq. 3: exp((log π + G) / τ), over the sum."""
    rows = []
    for e, row in enumerate(rows_of(alpha, mask)):
        shares = exponentials(row)
        noisy = {
            o: (math.log(share) - math.log(-math.log(float(uniform[e][o])))) / temperature
            for o, share in shares.items()
        }
        largest = max(noisy.values())
        rows.append(exponentials({o: value - largest for o, value in noisy.items()}))
    return spread(rows, len(alpha[0]))


def path(weights):
    """1 at the largest of each row."""
    return [[float(value == max(row)) for value in row] for row in weights]


def softmax_slope(row, temperature=1.0):
    """∂s_i/∂a_j of s = softmax(a / τ), given s."""
    return [
        [s * ((i == j) - row[j]) / temperature for j in range(len(row))] for i, s in enumerate(row)
    ]


def pulled_back(slopes, upstream):
    """For each edge Σ_i u_i ∂w_i/∂α_j."""
    return [
        [sum(u[i] * slope[i][j] for i in range(len(u))) for j in range(len(u))]
        for slope, u in zip(slopes, upstream, strict=True)
    ]


def gdas_gradient(alpha, mask, uniform, temperature, upstream):
    """GDAS, Eq. 4: backwards, the drawn path counts as the softmax that it was drawn from."""
    soft = concrete(alpha, mask, uniform, temperature)
    return pulled_back([softmax_slope(row, temperature) for row in soft], upstream)


def reinmax_gradient(alpha, mask, drawn, temperature, upstream):
    """ReinMax, Algorithm 2: 2 π₁ − π₀ / 2, where π₁ = (path + π_τ) / 2 is as a softmax of α."""
    flat = softmax(alpha, mask)
    warm = softmax([[value / temperature for value in row] for row in alpha], mask)
    slopes = []
    for hard, zeroth, tau in zip(drawn, flat, warm, strict=True):
        mean = [(d + p) / 2 for d, p in zip(hard, tau, strict=True)]
        first, second = softmax_slope(mean), softmax_slope(zeroth)
        slopes.append(
            [
                [2 * first[i][j] - second[i][j] / 2 for j in range(len(hard))]
                for i in range(len(hard))
            ]
        )
    return pulled_back(slopes, upstream)


def concentration(value):
    """DrNAS, section 3.1: elu + 1."""
    return value + 1 if value > 0 else math.exp(value)


def dirichlet(alpha, mask, gamma):
    """Gamma variates over their sum."""
    rows = []
    for e, row in enumerate(rows_of(alpha, mask)):
        total = sum(float(gamma[e][o]) for o in row)
        rows.append({o: float(gamma[e][o]) / total for o in row})
    return spread(rows, len(alpha[0]))


def gamma_slope(concentration, variate, step=1e-5):
    """dγ/dc at a fixed quantile, −(∂F/∂c) / (∂F/∂γ): the implicit derivative of the draw."""

    def quantile(c, x):
        as_double = (torch.tensor(v, dtype=torch.float64) for v in (c, x))
        return float(torch.special.gammainc(*as_double))

    by_concentration = quantile(concentration + step, variate)
    by_concentration -= quantile(concentration - step, variate)
    density = variate ** (concentration - 1) * math.exp(-variate) / math.gamma(concentration)
    return -by_concentration / (2 * step) / density


def dirichlet_gradient(alpha, mask, gamma, upstream):
    """Σ_i u_i ∂w_i/∂α_j through the ratio of Gamma variates."""
    found = []
    for e, row in enumerate(rows_of(alpha, mask)):
        total = sum(float(gamma[e][o]) for o in row)
        mean = sum(upstream[e][o] * float(gamma[e][o]) for o in row) / total
        gradient = [0.0] * len(alpha[0])
        for o, value in row.items():
            slope = gamma_slope(concentration(value), float(gamma[e][o]))
            elu_slope = 1.0 if value > 0 else math.exp(value)
            gradient[o] = (upstream[e][o] - mean) / total * slope * elu_slope
        found.append(gradient)
    return found


def zero_one(alpha, mask):
    """FairDARTS, Eq. 5, without its weight."""
    values = [value for row in rows_of(alpha, mask) for value in row.values()]
    return -sum((1 / (1 + math.exp(-v)) - 0.5) ** 2 for v in values) / len(values)


def entropy(alpha, mask):
    """Mean entropy of the edges."""
    rows = [exponentials(row).values() for row in rows_of(alpha, mask)]
    return sum(-sum(p * math.log(p) for p in row) for row in rows) / len(rows)


def dirichlet_anchor(alpha, mask):
    """Σ over edges of KL(Dirichlet(c) ‖ Dirichlet(1)), by torch's own formula."""
    total = 0.0
    for row in rows_of(alpha, mask):
        own = torch.tensor([concentration(v) for v in row.values()], dtype=torch.float64)
        if len(own) > 1:  # of a single operation both are a point
            one, other = (torch.distributions.Dirichlet(c) for c in (own, torch.ones_like(own)))
            total += float(torch.distributions.kl_divergence(one, other))
    return total


def harmonized_gradient(loss, weights_of_cells, alpha, groups, strength):
    """∇_α (L − λ S) exactly, S the mean cosine of ∇_{p_l} L over pairs of cells of a type.

    Args:
        loss: A function of (α, offsets of the cells' mixing weights), twice differentiable.
        weights_of_cells: For each cell, a tensor of zeros.
        alpha: α, one tensor.
        groups: Numbers of the cells of each type.
        strength: λ.
    """
    offsets = [zero.clone().requires_grad_() for zero in weights_of_cells]
    value = loss(alpha, offsets)
    by_cell = torch.autograd.grad(value, offsets, create_graph=True)
    agreement = torch.zeros((), dtype=torch.float64)
    for group in groups:
        cosines = [
            (by_cell[one] * by_cell[other]).sum() / (by_cell[one].norm() * by_cell[other].norm())
            for place, one in enumerate(group)
            for other in group[place + 1 :]
        ]
        if cosines:
            agreement = agreement + sum(cosines) / len(cosines)
    return torch.autograd.grad(value - strength * agreement, alpha)[0]


def agreement(training, architecture):
    """OLES, the GM score: the mean over steps of the cosine between an operation's gradients.

    Args:
        training: For each step, the operation's gradients as nested lists, one a parameter.
        architecture: The same on the other pictures.
    """
    cosines = []
    for own, other in zip(training, architecture, strict=True):
        one, two = list(numbers(own)), list(numbers(other))
        lengths = math.hypot(*one) * math.hypot(*two)
        dot = math.fsum(a * b for a, b in zip(one, two, strict=True))
        cosines.append(dot / lengths if lengths else 1.0)
    return sum(cosines) / len(cosines)


def numbers(nested):
    """The numbers in nested lists."""
    for item in nested:
        if isinstance(item, list):
            yield from numbers(item)
        else:
            yield item
