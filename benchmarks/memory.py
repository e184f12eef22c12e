"""Predicted peak memory of a search step, beside the per-edge formulation's; half a minute.

Nothing is allocated: steps run on the ``meta`` device. ``zero-one-shot-rnd-b64`` is the mean over
five random masks of half the operations, with partial channels, k = 4; its reference is the mean of
the per-edge formulation under the same masks.
"""

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import get_args

from benchmarks.cases import (
    SPACE,
    TOPOLOGIES,
    PerEdgeSearch,
    Recompute,
    Search,
    peak_megabytes,
    random_half,
)
from benchmarks.document import Row, main
from zostudy.space.mask import OperationMask

_BATCH = 64


def rows() -> Iterator[Row]:
    """The results, as they come."""
    everything = [OperationMask.full(SPACE)]
    yield from _case("darts-b64", everything, 1)
    yield from _case("pc-b64", everything, 4)
    yield from _case("nasbench201-b64", [OperationMask.full(TOPOLOGIES)], 1)
    yield from _case("zero-one-shot-rnd-b64", [random_half(seed) for seed in range(1, 6)], 4)


def _case(case: str, masks: Sequence[OperationMask], k: int) -> Iterator[Row]:
    reference = mean(
        peak_megabytes(lambda runtime, mask=mask: PerEdgeSearch(mask, k, _BATCH, runtime))  # type: ignore[misc]
        for mask in masks
    )
    for recompute in get_args(Recompute):
        peak = mean(
            peak_megabytes(
                lambda runtime, mask=mask, option=recompute: Search(
                    mask, k, _BATCH, option, runtime
                )  # type: ignore[misc]
            )
            for mask in masks
        )
        yield Row(case, f"peak_mb_{recompute}", peak, reference)


if __name__ == "__main__":
    main(__doc__ or "", rows)
