"""The nodes of a cell while what enters them is being summed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
                    add(sums, target, term, None)
                else:
                    sums[target] = term

    def place(self, mixed: Mapping[int, Images], places: Int[Tensor, " part"]) -> None:
        """Add what operations made of some channels to the sums of all, which are there already."""
        for target, term in mixed.items():
            total = self.mixed[target]
            added = total.index_add_ if torch.is_grad_enabled() else total.index_add
            self.mixed[target] = added(1, places, term.to(total.dtype))


def add(sums: dict[int, Tensor], target: int, term: Tensor, weight: Tensor | None) -> None:
    """Add a weighted term to the sum of a node; without a weight, the term as it is."""
    total = sums.get(target)
    if total is None:
        sums[target] = term.clone() if weight is None else weight * term
    elif torch.is_grad_enabled():  # the sum before it is needed by no backward pass
        sums[target] = total.add_(term) if weight is None else total.addcmul_(weight, term)
    else:
        sums[target] = total + term if weight is None else torch.addcmul(total, weight, term)
