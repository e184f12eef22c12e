"""What every part of the GPU benchmark is given, and how a step is timed."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch

from benchmarks.cases import Size
from zostudy.config.settings import RuntimeSettings
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.networks.memory import Holder, PeakMemory
from zostudy.runtime import Runtime, prepare, seeded

Precision = Literal["fp32", "tf32", "bf16"]

#: Name, precision and determinism of each arithmetic, in the order in which they are measured.
ARITHMETICS: tuple[tuple[str, Precision, bool], ...] = (
    ("fp32", "fp32", True),
    ("tf32", "tf32", True),
    ("bf16", "bf16", True),
    ("fp32 fast", "fp32", False),
)

MEGABYTE = 2**20


@dataclass(frozen=True)
class Scale:
    """How large everything is, and how often it is measured.

    Attributes:
        batch: Pictures in a batch of a search.
        supernet: The supernet and its pictures.
        repeats: Timed steps.
        network: Cells and channels of the stand-alone network.
        network_batch: Pictures in its batch.
        network_steps: Steps of an epoch of its training.
        threads: Threads on a CPU.
        cases: How many arithmetics of a part, or cases of one, are measured; None for all.
    """

    batch: int
    supernet: Size
    repeats: int
    network: tuple[int, int]
    network_batch: int
    network_steps: int
    threads: int
    cases: int | None = None


FULL = Scale(256, Size(8, 16, 32), 5, (20, 36), 128, 8, 2)
QUICK = Scale(10, Size(1, 4, 8), 1, (1, 4), 4, 3, 1, cases=1)


@dataclass(frozen=True)
class Setting:
    """What a part is given.

    Attributes:
        device: ``cuda``, ``cuda:N`` or ``cpu``.
        scale: Sizes and repeats.
        peer: A checkout of quark0/darts, or nothing.
    """

    device: str
    scale: Scale
    peer: Path | None = None

    def runtime(self, precision: Precision = "fp32", *, deterministic: bool = True) -> Runtime:
        """Set the arithmetic of this process up, as a study does."""
        return prepare(
            RuntimeSettings(
                device=self.device,
                precision=precision,
                deterministic=deterministic,
                threads=self.scale.threads,
            )
        )


class Stepper(Protocol):
    """Something that goes on by steps."""

    def step(self) -> object:
        """One step."""

    def held(self) -> tuple[Holder, ...]:
        """What lives from one step to the next."""


@dataclass(frozen=True)
class Taken:
    """What a step takes.

    Attributes:
        milliseconds: Median time.
        megabytes: Peak memory in 2²⁰ bytes: the allocator's on CUDA, of live tensors elsewhere.
    """

    milliseconds: float
    megabytes: float


def taken(make: Callable[[], Stepper], device: torch.device, repeats: int) -> Taken:
    """Time and peak memory of a step: after two that warm up, each step waits for the device.

    Args:
        make: Makes what goes by steps; it is freed at the end.
        device: Where it computes.
        repeats: Timed steps.
    """
    free(device)
    memory = PeakMemory(device)
    stepper = make()
    stepper.step()
    with memory.sample(*stepper.held()):
        stepper.step()
    times = []
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        stepper.step()
        wait(device)
        times.append(time.perf_counter() - started)
    return Taken(1000 * statistics.median(times), memory.peak_bytes / MEGABYTE)


def wait(device: torch.device) -> None:
    """Let the device end what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def random_dataset(train: int, test: int, side: int) -> Dataset:
    """Random pictures of ten classes, without a validation part.

    Args:
        train: Pictures to train on.
        test: Pictures of the test part.
        side: Their height and width.
    """
    generator = seeded("cpu", 0, "benchmarks/gpu")

    def pictures() -> Iterator[Pictures]:
        for count in (train, test):
            images = torch.randint(0, 256, (count, 3, side, side), generator=generator)
            yield Pictures(images.to(torch.uint8), torch.arange(count) % 10)

    first, second = pictures()
    return Dataset(
        name="random",
        classes=tuple(str(label) for label in range(10)),
        train=first,
        validation=None,
        test=second,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        seed=0,
        splits={},
        digest="",
    )
