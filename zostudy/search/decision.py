"""Did the search decide? What a search's strengths say about its genotype, epoch by epoch.

Symbols:
    margin    on an edge, the strongest operation's strength less the second's
    lead      mean margin over the mean margin at the start of the search, which α's random start
              alone makes
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask

#: By cell type: for each edge and operation, how strong it is.
Strengths = Mapping[str, Sequence[Sequence[float]]]

#: A lead below this is what chance gives.
DECIDED = 3.0


def margin(strengths: Strengths, mask: OperationMask) -> float:
    """The mean margin over the edges that have a choice; 0 where none has."""
    margins = []
    for row in _edges(strengths, mask):
        if len(row) > 1:
            first, second = sorted(row, reverse=True)[:2]
            margins.append(first - second)
    return sum(margins) / len(margins) if margins else 0.0


def entropy(strengths: Strengths, mask: OperationMask) -> float:
    """The mean entropy of the edges that have a choice, as a share of the largest, in [0, 1]."""
    shares = []
    for row in _edges(strengths, mask):
        total = sum(row)
        if len(row) > 1 and total > 0:
            parts = [value / total for value in row if value > 0]
            shares.append(-sum(p * math.log(p) for p in parts) / math.log(len(row)))
    return sum(shares) / len(shares) if shares else 0.0


def zero_edges(strengths: Strengths, mask: OperationMask) -> int:
    """Edges on which the zero operation is the strongest."""
    zero = mask.space.zero_index
    return sum(
        row[zero] == max(row)
        for kind, rows in strengths.items()
        for row, kept in zip(rows, mask.rows[kind], strict=True)
        if kept[zero]
    )


def skip_share(genotype: Genotype) -> float:
    """The largest share of skip connections in the cells of one type, in [0, 1]."""
    shares = []
    for nodes in genotype.cells.values():
        names = [name for node in nodes for name, _ in node]
        shares.append(names.count(genotype.space.identity or "") / len(names))
    return max(shares)


def of_epoch(
    strengths: Strengths, start: float, mask: OperationMask, genotypes: Sequence[Genotype]
) -> dict[str, float]:
    """What is logged of an epoch.

    Args:
        strengths: How strong each operation is now.
        start: The margin at the start of the search.
        mask: What is searched.
        genotypes: The genotype of the start, then that of each epoch up to now.

    Returns:
        ``lead``; ``entropy``; ``skips``, skip connections in the genotype; ``zero_edges``;
        ``stable_epochs``, for how many epochs the genotype has been what it is; and
        ``start_genotype``, 1 where it is still the one that the start of α gives.
    """
    now = genotypes[-1]
    names = [name for nodes in now.cells.values() for node in nodes for name, _ in node]
    stable = 0
    for earlier in reversed(genotypes[:-1]):
        if earlier != now:
            break
        stable += 1
    return {
        "lead": margin(strengths, mask) / start if start > 0 else 0.0,
        "entropy": entropy(strengths, mask),
        "skips": float(names.count(mask.space.identity or "")),
        "zero_edges": float(zero_edges(strengths, mask)),
        "stable_epochs": float(stable),
        "start_genotype": float(now == genotypes[0]),
    }


def sentence(last: Mapping[str, float]) -> str:
    """Where a search did not decide, why not; empty where it did."""
    if not 0 < last.get("lead", 0) < DECIDED:
        return ""
    same = ", and the genotype is the one that α started with" if last["start_genotype"] else ""
    return (
        "the search did not decide: on an edge the best operation leads the second by "
        f"{last['lead']:.1f} times what α's random start alone gives{same}"
    )


def _edges(strengths: Strengths, mask: OperationMask) -> Iterable[list[float]]:
    """For each edge, the strengths of the operations that the mask leaves."""
    for kind, rows in strengths.items():
        for row, kept in zip(rows, mask.rows[kind], strict=True):
            yield [value for value, there in zip(row, kept, strict=True) if there]
