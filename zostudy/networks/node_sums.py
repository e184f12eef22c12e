"""The nodes of a cell while what enters them is being summed."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True)
class NodeSums:
    """The nodes of a cell while they are being summed, by node.

    Attributes:
        mixed: Sums of mixed operations.
        bypassing: Sums of the channels that bypass them.
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


def add(sums: dict[int, Tensor], target: int, term: Tensor, weight: Tensor | None) -> None:
    """Add a weighted term to the sum of a node; without a weight, the term as it is."""
    total = sums.get(target)
    if total is None:
        sums[target] = term.clone() if weight is None else weight * term
    elif torch.is_grad_enabled():  # the sum before it is needed by no backward pass
        sums[target] = total.add_(term) if weight is None else total.addcmul_(weight, term)
    else:
        sums[target] = total + term if weight is None else torch.addcmul(total, weight, term)
