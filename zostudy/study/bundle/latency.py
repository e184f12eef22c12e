"""How long a bundle's programs take, measured on the machine that is here.

One call of a program is timed from the pictures' bytes to the probabilities. Calls before the
first timed one warm it up; the median and the 95th percentile are over the timed calls.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from zostudy import host
from zostudy.evaluation.programs import timed
from zostudy.study.bundle.predict import opened

#: Batch sizes that are measured where none are given.
BATCHES = (1, 8, 64)


@dataclass(frozen=True)
class Protocol:
    """How latency is measured.

    Attributes:
        batches: Pictures in a call.
        threads: Threads of the runtime.
        warmup: Calls before the first timed one.
        runs: Timed calls, at least 2.
    """

    batches: tuple[int, ...] = BATCHES
    threads: int = 1
    warmup: int = 5
    runs: int = 50


@dataclass(frozen=True)
class Latency:
    """What was measured of one program with one batch size.

    Attributes:
        program: File of the program.
        runtime: What ran it, with its version.
        batch: Pictures in a call.
        threads: Threads of the runtime.
        warmup: Calls before the first timed one.
        runs: Timed calls.
        median_ms: Median of a call, in milliseconds.
        p95_ms: 95th percentile, likewise.
    """

    program: str
    runtime: str
    batch: int
    threads: int
    warmup: int
    runs: int
    median_ms: float
    p95_ms: float

    def document(self) -> dict[str, object]:
        """It as JSON takes it."""
        return asdict(self)


def measured(
    folder: Path, programs: Sequence[str], shape: tuple[int, ...], protocol: Protocol
) -> list[Latency]:
    """Measure programs of a folder one after the other.

    Args:
        folder: The bundle.
        programs: Files of the programs.
        shape: Channels, height and width of a picture.
        protocol: How.
    """
    threads = torch.get_num_threads()
    draw, found = np.random.default_rng(0), []
    try:
        for name in programs:
            run = opened(folder / name, protocol.threads)
            for batch in protocol.batches:
                pictures = draw.integers(0, 256, (batch, *shape), np.uint8)
                median, high = timed(run, pictures, warmup=protocol.warmup, runs=protocol.runs)
                found.append(
                    Latency(
                        program=name,
                        runtime=_runtime(name),
                        batch=batch,
                        threads=protocol.threads,
                        warmup=protocol.warmup,
                        runs=protocol.runs,
                        median_ms=median,
                        p95_ms=high,
                    )
                )
    finally:
        torch.set_num_threads(threads)
    return found


def hardware() -> dict[str, object]:
    """What latency was measured on."""
    return {
        "processor": host.processor(),
        "usable_processors": host.processors(),
        "platform": platform.platform(),
    }


def _runtime(program: str) -> str:
    name = "torch" if program.endswith(".pt2") else "onnxruntime"
    return f"{name} {metadata.version(name)}"
