"""How long the stand-alone network of a genotype takes: measured, of a table, or predicted.

Measured is a call on the CPU, from normalized pictures (float32) to class scores, of the network
with random weights, which take as long as trained ones. Whatever else the machine does meanwhile
counts.
"""

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from zostudy.config.latency import LatencySettings
from zostudy.errors import ConfigError, DataError
from zostudy.evaluation import programs
from zostudy.evaluation.table import check_complete
from zostudy.options import shown
from zostudy.predictors.latency import LEAST, LatencyModel
from zostudy.space import csv_file
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace
from zostudy.stage import Progress, silent

Pictures = Float32[Tensor, "batch channels height width"]


@dataclass(frozen=True, eq=False)
class KnownLatencies:
    """Latencies that are not measured here.

    Attributes:
        of: Milliseconds of an architecture.
        digest: SHA-256 of the file that they come from, in hexadecimal.
    """

    of: Callable[[Genotype], float] = field(repr=False)
    digest: str


def known(settings: LatencySettings, space: SearchSpace) -> KnownLatencies:
    """Read a whole table, or learn from one what it does not hold.

    Args:
        settings: Where it lies and which of its columns count; ``by`` is table or predictor.
        space: The search space.

    Raises:
        ConfigError: The file cannot be read, or has no such column.
        DataError: A row is wrong, or architectures are missing; the line and the value are named.
    """
    content = csv_file.content(settings.path, "latency.path")
    names = ("architecture_column", "column")
    columns = {f"latency.{name}": getattr(settings, name) for name in names}
    rows: dict[Genotype, float] = {}
    for line, fields in csv_file.records(settings.path, content, columns):
        genotype, latency = _row(f"{settings.path}:{line}", fields, settings, space)
        if rows.setdefault(genotype, latency) != latency:
            text = shown(fields[settings.architecture_column])
            raise DataError(f"{settings.path}:{line}: {text} has two latencies; needs one")
    digest = hashlib.sha256(content).hexdigest()
    if settings.by == "table":
        check_complete(settings.path, rows, space)
        return KnownLatencies(rows.__getitem__, digest)
    if len(rows) < LEAST:
        raise DataError(
            f"{settings.path}: {len(rows)} architectures are too few to learn a device from; "
            f"needs at least {LEAST}"
        )
    model = LatencyModel.fit(tuple(rows), np.array(list(rows.values())))

    def measured_or_predicted(genotype: Genotype) -> float:
        return rows[genotype] if genotype in rows else float(model([genotype])[0])

    return KnownLatencies(measured_or_predicted, digest)


def _row(
    place: str, fields: Mapping[str, str], settings: LatencySettings, space: SearchSpace
) -> tuple[Genotype, float]:
    column, latency = settings.architecture_column, fields[settings.column]
    genotype = csv_file.architecture(place, column, fields[column], space)
    value = csv_file.number(place, settings.column, latency, "milliseconds above 0")
    if not 0 < value < float("inf"):
        raise DataError(
            f"{place}: {settings.column} {latency!r} is not allowed; allowed: milliseconds above 0"
        )
    return genotype, value


def check_runtime(settings: LatencySettings) -> None:
    """Whether the runtime is installed.

    Raises:
        ConfigError: It is not.
    """
    if settings.runtime == "onnxruntime" and (what := programs.lacking(programs.ONNX)):
        raise ConfigError(f"latency.runtime: 'onnxruntime' {what}")


def measured(
    network: nn.Module,
    shape: tuple[int, int, int],
    settings: LatencySettings,
    report: Callable[[Progress], None] = silent,
    alone: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> dict[int, tuple[float, float]]:
    """Median and 95th percentile of a call in milliseconds, by batch size.

    Args:
        network: The network; it stays as it is.
        shape: Channels, height and width of a picture.
        settings: How.
        report: Called before the first batch size and after each.
        alone: Keeps other measurements away while calls are timed.
    """
    report(Progress("latency", 0, len(settings.batch_sizes)))
    module = copy.deepcopy(network).cpu().float().eval().requires_grad_(requires_grad=False)
    run = _opened(module, shape, settings)
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(settings.threads)
    times = {"warmup": settings.warmup, "runs": settings.runs}
    try:
        with alone():
            for batch in settings.batch_sizes:
                generator = torch.Generator().manual_seed(0)
                pictures = torch.randn((batch, *shape), generator=generator)
                median, high = programs.timed(run, pictures, **times)
                found[batch] = median, high
                done = {f"median_ms_batch_{batch}": median, f"p95_ms_batch_{batch}": high}
                report(Progress("latency", len(found), len(settings.batch_sizes), done))
    finally:
        torch.set_num_threads(threads)
    return found


def _opened(
    module: nn.Module, shape: tuple[int, int, int], settings: LatencySettings
) -> Callable[[Pictures], object]:
    """What computes a batch."""
    if settings.runtime == "torch":

        def run_torch(pictures: Pictures) -> object:
            with torch.inference_mode():
                return module(pictures)

        return run_torch
    import onnxruntime

    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, on its own code
        graph = torch.export.export(module, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
    content = programs.as_onnx(graph, "pictures").SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    return lambda pictures: session.run(None, {"pictures": pictures.numpy()})
