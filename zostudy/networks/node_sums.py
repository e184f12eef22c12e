"""The nodes of a cell while what enters them is being summed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zostudy.networks.mixing import PathDrop
from zostudy.networks.node_operations import Term

Images = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True)
class NodeSums:
    """The nodes of a cell while they are being summed, by node.

    Attributes:
        mixed: Sums of mixed operations; of all channels, where these act on some in place.
        bypassing: Sums of the channels that bypass them, where these are others in every term.
    """

    mixed: dict[int, Images]
    bypassing: dict[int, Images]

    def add(self, others: "NodeSums") -> None:
        """Add other sums."""
        for sums, terms in ((self.mixed, others.mixed), (self.bypassing, others.bypassing)):
            for target, term in terms.items():
                if target in sums:
                    add(sums, target, term)
                else:
                    sums[target] = term

    def place(self, mixed: Mapping[int, Images], places: Int[Tensor, " part"]) -> None:
        """Add what operations made of some channels to the sums of all, which are there already."""
        for target, term in mixed.items():
            total = self.mixed[target]
            added = total.index_add_ if torch.is_grad_enabled() else total.index_add
            self.mixed[target] = added(1, places, term.to(total.dtype))


def add(sums: dict[int, Tensor], target: int, term: Tensor) -> None:
    """Add a term to the sum of a node as it is."""
    total = sums.get(target)
    if total is None:
        sums[target] = term.clone()
    elif torch.is_grad_enabled():  # the sum before it is needed by no backward pass
        sums[target] = total.add_(term)
    else:
        sums[target] = total + term


def spread(
    sums: dict[int, Tensor], targets: Sequence[int], term: Tensor, weights: Sequence[Tensor]
) -> None:
    """Add a term to the sums of several nodes, with a weight for each."""
    totals = [sums.get(target) for target in targets]
    if torch.is_grad_enabled():
        sums.update(zip(targets, _Spread.apply(term, *weights, *totals), strict=True))
        return
    for target, total, weight in zip(targets, totals, weights, strict=True):
        sums[target] = weight * term if total is None else torch.addcmul(total, weight, term)


def dropped(
    terms: Iterable[Term], drop: PathDrop, cell: int, edges: Sequence[int]
) -> Iterator[Term]:
    """Terms without the pictures that leave them out."""
    for term in terms:
        kept = drop(term.images, (cell, edges[term.row]), term.column)
        yield term._replace(images=kept)


def add_terms(
    sums: dict[int, Tensor], terms: Iterable[Term], node: Tensor, targets: Sequence[int]
) -> None:
    """Add what operations made of a node to the sums of others.

    Args:
        sums: The sums, by node.
        terms: What operations made.
        node: What they made it of.
        targets: The node that each edge enters, by the rows of terms.
    """
    for rows, images, weights in together(terms, node):
        entered = [targets[row] for row in rows]
        if weights:
            spread(sums, entered, images, weights)
        else:
            add(sums, entered[0], images)


def together(
    terms: Iterable[Term], node: Tensor
) -> Iterator[tuple[list[int], Images, list[Tensor]]]:
    """Rows, pictures and weights of terms; several rows where the same pictures come in a row.

    Args:
        terms: The terms. One without a weight comes alone, with no weights.
        node: What they are made of; it comes one row at a time. Others read it too, and torch adds
            their gradients one by one: that of a sum would be added in another order.
    """
    rows: list[int] = []
    weights: list[Tensor] = []
    images = node
    for row, own, weight, _ in terms:
        if rows and (weight is None or own is node or own is not images):
            yield rows, images, weights
            rows, weights = [], []
        if weight is None:
            yield [row], own, []
        else:
            images = own
            rows.append(row)
            weights.append(weight)
    if rows:
        yield rows, images, weights


class _Spread(torch.autograd.Function):
    """See `spread`. The sums are changed in place, as no backward pass needs them.

    Its backward pass is torch's own for `addcmul`, bit for bit, without a product by one for each
    term.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  # torch gives no type
        term: Images,
        *weights_and_totals: Tensor | None,
    ) -> tuple[Images, ...]:
        count = len(weights_and_totals) // 2
        weights, totals = weights_and_totals[:count], weights_and_totals[count:]
        of_weights = any(ctx.needs_input_grad[1 : count + 1])  # else torch keeps no term either
        ctx.save_for_backward(term if of_weights else None, *weights)
        ctx.mark_dirty(*(total for total in totals if total is not None))
        return tuple(
            weight * term if total is None else total.addcmul_(weight, term)  # type: ignore[operator, arg-type]
            for weight, total in zip(weights, totals, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Images) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # as above
        term, *weights = ctx.saved_tensors
        need_term, *needed = ctx.needs_input_grad
        count = len(weights)
        of_term = None
        if need_term:
            pairs = list(zip(gradients, weights, strict=True))
            gradient, weight = pairs.pop()
            of_term = gradient * weight
            for gradient, weight in reversed(pairs):  # as torch meets them
                of_term = of_term.add_(gradient * weight)
        of_weights = (
            (gradient * term).sum_to_size(weight.shape) if need else None
            for gradient, weight, need in zip(gradients, weights, needed[:count], strict=True)
        )
        of_totals = (g if need else None for g, need in zip(gradients, needed[count:], strict=True))
        return of_term, *of_weights, *of_totals
