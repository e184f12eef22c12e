"""Part ``steps``: time and peak memory of search steps, beside two other formulations.

``step_ms`` has for its reference the per-edge formulation in the same arithmetic, with all
operations and the same partial channels. ``step_ms_beside_published`` is the same figure beside
the published DARTS step of the same run in the same arithmetic. ``fp32 fast`` is fp32 with
``runtime.deterministic: false``. The published step takes whichever kernels torch takes by
itself, and in ``fp32 fast`` those that cuDNN finds fastest.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.cases import SPACE, PerEdgeSearch, Recompute, Search, random_half
from benchmarks.document import Row
from benchmarks.gpu.peer import Published
from benchmarks.gpu.setting import ARITHMETICS, Precision, Setting, Stepper, taken
from zostudy.runtime import Runtime
from zostudy.space.mask import OperationMask

#: Of the random half of the operations.
SEED = 1

#: Timed steps of what is compared with, at most; they take longest.
_OF_OTHERS = 3


def searches() -> dict[str, tuple[OperationMask, int, Recompute]]:
    """Mask, k of partial channels and recomputation of each case."""
    everything, half = OperationMask.full(SPACE), random_half(SEED)
    return {
        "zero-one-shot-rnd": (half, 4, "none"),
        "pc-darts": (everything, 4, "none"),
        "darts": (everything, 1, "none"),
        "zero-one-shot-rnd-recompute-full": (half, 4, "full"),
    }


def made(name: str, setting: Setting, runtime: Runtime) -> Search:
    """The search of a case."""
    mask, k, recompute = searches()[name]
    scale = setting.scale
    return Search(mask, k, scale.batch, recompute, runtime, scale.supernet)


def rows(setting: Setting) -> Iterator[Row]:
    """The results, as they come."""
    for label, precision, deterministic in ARITHMETICS[: setting.scale.cases]:
        yield from _of_variant(label, precision, setting, deterministic=deterministic)


def _of_variant(
    label: str, precision: Precision, setting: Setting, *, deterministic: bool
) -> Iterator[Row]:
    scale, everything = setting.scale, OperationMask.full(SPACE)

    def measured(case: str, make: Callable[[], Stepper]) -> Iterator[Row]:
        ours = case in searches()
        repeats = scale.repeats if ours else min(scale.repeats, _OF_OTHERS)
        found = taken(make, runtime.device, repeats)
        times[case] = found.milliseconds
        reference = times.get(_reference(case))
        yield Row(f"{case} {label}", "step_ms", found.milliseconds, reference)
        yield Row(f"{case} {label}", "peak_mb", found.megabytes)
        if "published" in times and ours:
            yield Row(
                f"{case} {label}",
                "step_ms_beside_published",
                found.milliseconds,
                times["published"],
            )

    times: dict[str, float] = {}
    if setting.peer:
        runtime = setting.runtime(precision, deterministic=False)
        torch.backends.cudnn.benchmark = not deterministic
        make_peer = partial(Published, setting.peer, scale.batch, runtime, scale.supernet)
        yield from measured("published", make_peer)
    runtime = setting.runtime(precision, deterministic=deterministic)
    for k in (4, 1):
        make = partial(PerEdgeSearch, everything, k, scale.batch, runtime, scale.supernet)
        yield from measured(f"per-edge k={k}", make)
    for name in searches():
        yield from measured(name, partial(made, name, setting, runtime))


def _reference(case: str) -> str:
    return f"per-edge k={searches()[case][1]}" if case in searches() else ""
