"""One step of the bilevel search in plain formulas (docs/method.md, section 4)."""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy


def split(network):
    """The names of the weights, and those of α and β."""
    names = [name for name, _ in network.named_parameters()]
    architecture = [name for name in names if name.split(".")[0] in {"alpha", "beta"}]
    return [name for name in names if name not in architecture], architecture


def beta_decay(alpha, mask, epoch, scale=0.5):
    """λ(t) · mean over all edges of logsumexp_o(α_o) over the remaining operations; λ = scale·t."""
    terms = []
    for kind in mask:
        for values, row in zip(alpha[kind], mask[kind], strict=True):
            kept = [o for o, keep in enumerate(row) if keep]
            terms.append(torch.log(torch.exp(values[kept]).sum()))
    return scale * epoch * sum(terms) / len(terms)


def gradients(loss, parameters):
    """∂loss/∂p, zero where the loss does not depend on p."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def clipped(gradient, norm):
    """The gradient, scaled down to a total norm where it is longer."""
    total = torch.sqrt(sum((g**2).sum() for g in gradient))
    factor = min(1.0, norm / (float(total) + 1e-6))
    return [factor * g for g in gradient]


def sgd(parameters, gradient, velocity, *, lr, momentum, weight_decay):
    """v ← momentum·v + g + decay·w,  w ← w − lr·v, in place; the velocity starts at zero."""
    with torch.no_grad():
        for p, g, v in zip(parameters, gradient, velocity, strict=True):
            v.mul_(momentum).add_(g + weight_decay * p)
            p.sub_(lr * v)


def adam(parameters, gradient, state, *, lr, betas, weight_decay, eps=1e-8):
    """Adam with L2 decay in the gradient, in place; `state` is a dictionary, empty at first."""
    state.setdefault("first", [torch.zeros_like(p) for p in parameters])
    state.setdefault("second", [torch.zeros_like(p) for p in parameters])
    state["step"] = t = state.get("step", 0) + 1
    with torch.no_grad():
        for p, g, m, v in zip(parameters, gradient, state["first"], state["second"], strict=True):
            g = g + weight_decay * p
            m.mul_(betas[0]).add_((1 - betas[0]) * g)
            v.mul_(betas[1]).add_((1 - betas[1]) * g**2)
            unbiased = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
            p.sub_(lr * unbiased[0] / (torch.sqrt(unbiased[1]) + eps))


def architecture_step(
    network,
    validation,
    state,
    *,
    epoch=0,
    decay_scale=0.0,
    lr=6e-4,
    betas=(0.5, 0.999),
    weight_decay=1e-3,
):
    """First-order step on α and β with a batch (images, labels) of the validation half."""
    images, labels = validation
    named = dict(network.named_parameters())
    parameters = [named[name] for name in split(network)[1]]
    loss = cross_entropy(network(images), labels)
    loss = loss + beta_decay(network.alpha, network.mask, epoch, decay_scale)
    gradient = gradients(loss, parameters)
    adam(parameters, gradient, state, lr=lr, betas=betas, weight_decay=weight_decay)
    return float(loss.detach())


def weight_step(network, training, velocity, *, lr=0.1, momentum=0.9, weight_decay=3e-4, clip=5.0):
    """Step on the weights with a batch of the training half; `velocity` is a list, empty first."""
    images, labels = training
    named = dict(network.named_parameters())
    parameters = [named[name] for name in split(network)[0]]
    if not velocity:
        velocity.extend(torch.zeros_like(p) for p in parameters)
    loss = cross_entropy(network(images), labels)
    gradient = clipped(gradients(loss, parameters), clip)
    sgd(parameters, gradient, velocity, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return float(loss.detach())


def first_order_step(network, training, validation, velocity, state, **architecture):
    """α and β on the validation batch, then w on the training batch with the new α and β."""
    validation_loss = architecture_step(network, validation, state, **architecture)
    return weight_step(network, training, velocity), validation_loss


def unrolled_gradient(
    train_loss, validation_loss, weights, architecture, xi, *, velocity=None, weight_decay=0.0
):
    """d/dα L_val(w', α), exact by differentiating through w' = w − ξ(∇_w L_train(w, α) + …).

    The losses are functions of (weights, architecture), both lists of tensors that need gradients.
    With `velocity` (momentum · its buffer, one tensor a weight) and `weight_decay`, w' is the step
    that SGD would make.
    """
    gradient = torch.autograd.grad(
        train_loss(weights, architecture), weights, create_graph=True, allow_unused=True
    )
    ahead = []
    for index, (w, g) in enumerate(zip(weights, gradient, strict=True)):
        step = weight_decay * w if g is None else g + weight_decay * w
        if velocity is not None:
            step = step + velocity[index]
        ahead.append(w - xi * step)
    return gradients(validation_loss(ahead, architecture), architecture)


def second_order_gradient(network, training, validation, xi, **step):
    """`unrolled_gradient` of a network with cross entropy: {name of α or β: gradient}."""
    weight_names, architecture_names = split(network)
    values = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}

    def loss_on(batch):
        def loss(weights, architecture):
            named = dict(zip(weight_names, weights, strict=True))
            named |= dict(zip(architecture_names, architecture, strict=True))
            return cross_entropy(functional_call(network, named, (batch[0],)), batch[1])

        return loss

    weights = [values[name] for name in weight_names]
    architecture = [values[name] for name in architecture_names]
    found = unrolled_gradient(
        loss_on(training), loss_on(validation), weights, architecture, xi, **step
    )
    return dict(zip(architecture_names, found, strict=True))
