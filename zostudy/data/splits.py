"""Stratified, disjoint splits, fixed by a seed."""

import torch
from jaxtyping import Int64
from torch import Tensor

from zostudy.errors import DataError
from zostudy.runtime import seeded


def stratified(
    labels: Int64[Tensor, " n"],
    fraction: float,
    key: tuple[int | str, ...],
    *,
    part: str,
    classes: tuple[str, ...],
    leave: int = 1,
) -> tuple[Int64[Tensor, " rest"], Int64[Tensor, " part"]]:
    """Split a share of the pictures off, the same share of every class.

    Of a class of n pictures the part gets round(n · fraction), but at least one, and at most so
    many that the rest keeps ``leave``. The two are disjoint and together everything.

    Args:
        labels: Class of each picture.
        fraction: Share of the part, in (0, 1).
        key: What fixes the draw (:func:`zostudy.runtime.seeded`).
        part: What is split off, for messages.
        classes: Names of the classes.
        leave: Pictures of every class that the rest keeps at least.

    Returns:
        Positions in ``labels`` of the rest and of the part, each ascending.

    Raises:
        DataError: A class has too few pictures.
    """
    generator = seeded("cpu", *key)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, name in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        count = len(members)
        if count < leave + 1:
            raise DataError(
                f"dataset: class {name!r} has {count} picture{'s' * (count != 1)}; needs at least "
                f"{leave + 1} to split the {part} part off (1 for it, {leave} for the other parts)"
            )
        size = min(max(round(count * fraction), 1), count - leave)
        taken[members[torch.randperm(count, generator=generator)[:size]]] = True
    return torch.nonzero(~taken).flatten(), torch.nonzero(taken).flatten()
