"""Part ``evaluate``: a training step of the stand-alone network of DARTS' published genotype.

20 cells, C = 36, batch 128, drop path, auxiliary head, cutout: the median over the later epochs of
an epoch's time over its steps, with the making of its batches. The genotype is that of Liu et al.
2018 (second order).
"""

import itertools
import statistics
import time
from collections.abc import Iterator

from benchmarks.document import Row
from benchmarks.gpu.setting import (
    ARITHMETICS,
    MEGABYTE,
    Precision,
    Setting,
    free,
    random_dataset,
    wait,
)
from zostudy.config.settings import EvaluateSettings
from zostudy.data.dataset import Dataset
from zostudy.evaluation import training
from zostudy.space.genotype import Genotype, from_notation
from zostudy.stage import Progress, StageContext

#: Epochs of a case; the first two warm up.
_EPOCHS, _WARM_UP = 5, 2


def genotype() -> Genotype:
    """DARTS_V2."""
    return from_notation(
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=range(2, 6))"
    )


def sizes(setting: Setting) -> tuple[Dataset, EvaluateSettings]:
    """Data set and training of a scale."""
    scale = setting.scale
    dataset = random_dataset(
        scale.network_steps * scale.network_batch, scale.network_batch, scale.supernet.side
    )
    cells, channels = scale.network
    return dataset, EvaluateSettings(
        cells=cells, channels=channels, epochs=_EPOCHS, batch_size=scale.network_batch
    )


def trained(
    setting: Setting, precision: Precision, *, deterministic: bool = True
) -> tuple[float, float]:
    """Milliseconds of a step and the peak in 2²⁰ bytes."""
    runtime = setting.runtime(precision, deterministic=deterministic)
    dataset, settings = sizes(setting)
    ends: list[float] = []

    def report(progress: Progress) -> None:
        del progress
        wait(runtime.device)
        ends.append(time.perf_counter())

    free(runtime.device)
    context = StageContext(runtime, seed=0, report=report)
    found = training.evaluate(genotype(), dataset, settings, context)
    epochs = [end - start for start, end in itertools.pairwise(ends)]
    seconds = statistics.median(epochs[_WARM_UP - 1 :]) / setting.scale.network_steps
    return 1000 * seconds, found.peak_bytes / MEGABYTE


def rows(setting: Setting) -> Iterator[Row]:
    """The results, as they come."""
    for label, precision, deterministic in ARITHMETICS[: setting.scale.cases]:
        milliseconds, megabytes = trained(setting, precision, deterministic=deterministic)
        yield Row(f"evaluate {label}", "step_ms", milliseconds)
        yield Row(f"evaluate {label}", "peak_mb", megabytes)
