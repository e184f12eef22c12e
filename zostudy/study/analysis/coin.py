"""Whether masks keep more than a coin would: than masks that keep as many operations of each edge.

Which operations of an edge a coin keeps is drawn; how many, it takes over, so that what is compared
is the choice and not the size. The mean over the masks is compared with means over as many coins.
Equal masks are one choice, and have the same coins; masks that differ count as independent choices,
which scores that agree with themselves do not make: their p is then too small where it is small.

Symbols:
    n   masks
    K   coins of each mask
    p   (1 + how many of the K means over n coins are at least as good) / (1 + K)
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zostudy.space.mask import OperationMask

#: What is better where it is larger; where it is smaller.
_MORE, _LESS = ("top_kept", "top_among_kept", "best", "mean", "median"), ("regret",)


def coin(mask: OperationMask, seed: int) -> OperationMask:
    """A mask that keeps as many operations of each edge, and leaves an architecture."""
    draw = random.Random(seed)
    while True:
        rows = {
            kind: tuple(tuple(draw.sample(row, len(row))) for row in rows)
            for kind, rows in mask.rows.items()
        }
        drawn = OperationMask(mask.space, rows)
        if not drawn.missing_edges():
            return drawn


def against_coin(
    statistics: Callable[[OperationMask], Mapping[str, float]],
    masks: Sequence[OperationMask],
    seeds: Sequence[int],
    coins: int,
) -> dict[str, Any]:
    """What coins keep on average, and how often they keep at least as much.

    Args:
        statistics: What a mask keeps.
        masks: One for each seed.
        seeds: By which coins are drawn.
        coins: K.

    Returns:
        ``coins``, and for each figure ``mean`` and ``sd`` of coins and ``by_chance``, p.
    """
    own = [statistics(mask) for mask in masks]
    first: dict[str, int] = {}
    for mask, seed in zip(masks, seeds, strict=True):
        first.setdefault(mask.digest(), seed)
    drawn = [
        [statistics(coin(mask, first[mask.digest()] * coins + index)) for index in range(coins)]
        for mask in masks
    ]
    found: dict[str, Any] = {"coins": coins}
    for names, sign in ((_MORE, 1), (_LESS, -1)):
        for name in names:
            values = np.array([[one[name] for one in each] for each in drawn])
            mean = np.mean([figures[name] for figures in own])
            as_good = sign * values.mean(axis=0) >= sign * mean - 1e-12
            found[name] = {
                "mean": float(values.mean()),
                "sd": float(values.std()),
                "by_chance": float((1 + as_good.sum()) / (1 + coins)),
            }
    return found
