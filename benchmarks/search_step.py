"""Time of a search step, beside the per-edge formulation's; about five minutes on two cores.

``pc-b32-half`` is half the operations (mask seed 1) against the per-edge form with all of them.
``step_ratio_partial`` and ``step_ratio_full`` are times of recomputation over those of none.
"""

from collections.abc import Iterator

import torch

from benchmarks.cases import SPACE, TOPOLOGIES, PerEdgeSearch, Search, random_half
from benchmarks.document import Row, main, median_seconds
from zostudy.space.mask import OperationMask

_REPEATS = 7


def rows() -> Iterator[Row]:
    """The results, as they come."""
    torch.set_num_threads(2)
    everything, half = OperationMask.full(SPACE), random_half(1)
    times = median_seconds(
        {
            "all": Search(everything, 4, 32).step,
            "half": Search(half, 4, 32).step,
            "per edge": PerEdgeSearch(everything, 4, 32).step,
        },
        _REPEATS,
    )
    for share in ("all", "half"):
        yield Row(f"pc-b32-{share}", "step_seconds", times[share], times["per edge"])
    times = median_seconds(
        {
            "all": Search(everything, 1, 16).step,
            "per edge": PerEdgeSearch(everything, 1, 16).step,
        },
        _REPEATS,
    )
    yield Row("darts-b16-all", "step_seconds", times["all"], times["per edge"])
    topologies = OperationMask.full(TOPOLOGIES)
    times = median_seconds(
        {
            "all": Search(topologies, 1, 16).step,
            "per edge": PerEdgeSearch(topologies, 1, 16).step,
        },
        _REPEATS,
    )
    yield Row("nasbench201-b16-all", "step_seconds", times["all"], times["per edge"])
    times = median_seconds(
        {
            "none": Search(half, 4, 64, "none").step,
            "partial": Search(half, 4, 64, "partial").step,
            "full": Search(half, 4, 64, "full").step,
        },
        _REPEATS,
    )
    for option in ("partial", "full"):
        ratio = times[option] / times["none"]
        yield Row("zero-one-shot-rnd-b64", f"step_ratio_{option}", ratio)


if __name__ == "__main__":
    main(__doc__ or "", rows)
