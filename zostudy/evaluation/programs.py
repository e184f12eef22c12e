"""Networks as ONNX programs, and how long a call of a program takes."""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    import onnx

#: What writes and runs ONNX programs beside torch.
ONNX = ("onnx", "onnxscript", "onnxruntime")

#: What a program is called with.
P = TypeVar("P")


def lacking(modules: Sequence[str]) -> str:
    """What is to be said of modules that cannot be imported; empty where all can be."""
    missing = [module for module in modules if find_spec(module) is None]
    if not missing:
        return ""
    return (
        f"needs {' and '.join(missing)}, which cannot be imported; pip install 'zostudy[onnx]' "
        "installs what it needs"
    )


def as_onnx(
    graph: torch.export.ExportedProgram, takes: str, gives: Sequence[str] | None = None
) -> "onnx.ModelProto":
    """A graph as an ONNX program.

    Args:
        graph: The graph.
        takes: Name of its input.
        gives: Names of its outputs; any where none are given.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, on its own code
        written = torch.onnx.export(
            graph, dynamo=True, input_names=[takes], output_names=gives, verbose=False
        )
    assert written is not None
    return written.model_proto


def timed(
    run: Callable[[P], object], pictures: P, *, warmup: int, runs: int
) -> tuple[float, float]:
    """Median and 95th percentile of a call, in milliseconds.

    Args:
        run: What is called.
        pictures: With what.
        warmup: Calls before the first timed one.
        runs: Timed calls, at least 2.
    """
    for _ in range(warmup):
        run(pictures)
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        run(pictures)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times), float(np.percentile(times, 95))
