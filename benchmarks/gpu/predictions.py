"""Part ``memory``: the measured peak of each case beside the one that was predicted for it.

The ratio is measured over predicted. On CUDA the measured peak is the allocator's, rounding and
work space of libraries with it; elsewhere it is that of live tensors, as predicted.
"""

from collections.abc import Iterator
from functools import partial

from benchmarks.cases import Recompute, Search, peak_megabytes
from benchmarks.document import Row
from benchmarks.gpu.setting import MEGABYTE, Precision, Setting, taken
from benchmarks.gpu.steps import searches
from benchmarks.gpu.training import genotype, sizes, trained
from zostudy.evaluation import training
from zostudy.runtime import Runtime

#: Case of `searches`, recomputation and precision.
_CASES: tuple[tuple[str, Recompute, Precision], ...] = (
    ("zero-one-shot-rnd", "none", "fp32"),
    ("zero-one-shot-rnd", "partial", "fp32"),
    ("zero-one-shot-rnd", "full", "fp32"),
    ("zero-one-shot-rnd", "none", "bf16"),
    ("pc-darts", "none", "fp32"),
    ("darts", "none", "fp32"),
    ("darts", "partial", "fp32"),
    ("darts", "full", "fp32"),
)


def rows(setting: Setting) -> Iterator[Row]:
    """The results, as they come."""
    for name, recompute, precision in _CASES[: setting.scale.cases]:
        runtime = setting.runtime(precision)
        made = partial(_search, name, recompute, setting)
        predicted = peak_megabytes(made, precision)
        measured = taken(partial(made, runtime), runtime.device, repeats=1).megabytes
        yield Row(f"{name} recompute={recompute} {precision}", "peak_mb", measured, predicted)
    dataset, settings = sizes(setting)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions[: setting.scale.cases]:
        runtime = setting.runtime(precision)
        predicted = training.predict_peak(genotype(), dataset, settings, runtime) / MEGABYTE
        _, measured = trained(setting, precision)
        yield Row(f"evaluate {precision}", "peak_mb", measured, predicted)


def _search(name: str, recompute: Recompute, setting: Setting, runtime: Runtime) -> Search:
    mask, k, _ = searches()[name]
    scale = setting.scale
    return Search(mask, k, scale.batch, recompute, runtime, scale.supernet)
