"""Seeds, device, precision, determinism and the record of the environment."""

import contextlib
import hashlib
import os
import platform
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata

import numpy as np
import torch
from torch import distributed as dist

from zostudy import host
from zostudy.config.settings import RuntimeSettings
from zostudy.config.sizes import counted, size
from zostudy.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """The processes that share every batch of a training.

    Attributes:
        rank: Which of them this is, from 0.
        count: Their number.
    """

    rank: int = 0
    count: int = 1

    def share(self, length: int) -> slice:
        """This process's part of so many pictures; parts differ by one picture at most."""
        first, end = (length * rank // self.count for rank in (self.rank, self.rank + 1))
        return slice(first, end)


@dataclass(frozen=True)
class Runtime:
    """Where and how tensors are computed.

    Attributes:
        device: The device of every tensor of a trial; ``meta`` to predict its memory.
        precision: ``fp32``, ``tf32`` for rounded factors of products, or ``bf16`` for autocast.
        processes: Who shares the batches of an evaluation; this process alone, mostly.
    """

    device: torch.device
    precision: str = "fp32"
    processes: Processes = Processes()

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the networks in the chosen precision."""
        enabled = self.precision == "bf16"
        with torch.autocast(self._arithmetic, torch.bfloat16, enabled=enabled):
            yield

    def generator(self, *key: int | str) -> torch.Generator:
        """A generator on the device, for draws that happen there."""
        return seeded("cpu" if self.device.type == "meta" else self.device, *key)

    @property
    def initialization_device(self) -> torch.device:
        """Where modules are made and initialized, as a context: the CPU, for any real device."""
        return torch.device("meta" if self.device.type == "meta" else "cpu")

    @property
    def _arithmetic(self) -> str:
        """The type of device whose autocast counts; ``meta``, which has none, counts as a CPU."""
        return "cpu" if self.device.type == "meta" else self.device.type


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on the device, copied there while the host goes on.

    Only from pinned memory can the copy go on by itself; from any other the host would wait.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != "cpu")


def seeded(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator with a stream of its own for every key.

    Args:
        device: Where the generator draws.
        key: The trial's seed, the name of the use and further numbers.
    """
    state = hashlib.sha256(repr(key).encode()).digest()[:8]
    return torch.Generator(device).manual_seed(int.from_bytes(state) & (2**63 - 1))


def prepare(settings: RuntimeSettings) -> Runtime:
    """Choose the device and make its arithmetic repeatable.

    Raises:
        ConfigError: The device is unknown or not there.
    """
    runtime = planned(settings)
    device = runtime.device
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"runtime.device: {settings.device!r} is not there; this machine has "
            f"{torch.cuda.device_count()} CUDA devices"
        )
    torch.set_num_threads(settings.threads)
    repeatable = settings.deterministic or device.type == "cpu"
    if repeatable:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=repeatable, warn_only=True)
    # No code here reads memory before it writes there; to fill it costs a kernel a tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets it
    torch.backends.cudnn.benchmark = not repeatable
    torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    if not dist.is_initialized():
        return runtime
    return replace(runtime, processes=Processes(dist.get_rank(), dist.get_world_size()))


@contextlib.contextmanager
def process_group(settings: RuntimeSettings) -> Iterator[str]:
    """Be one of the processes that torchrun has started, if it has; gives this one's device.

    Raises:
        ConfigError: The study asks for one certain device, or this process's is not there.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "LOCAL_RANK" not in os.environ:
        yield settings.device
        return
    device = planned(settings).device
    if device.index is not None:
        raise ConfigError(
            f"runtime.device: {settings.device!r} is one device, and torchrun has started {count} "
            "processes; allowed: auto, cpu, cuda"
        )
    name = f"cuda:{os.environ['LOCAL_RANK']}" if device.type == "cuda" else "cpu"
    if device.type == "cuda":
        torch.cuda.set_device(_device(name))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield name
    finally:
        dist.destroy_process_group()


def planned(settings: RuntimeSettings) -> Runtime:
    """The runtime to plan for, whether or not its device is there; nothing is set up."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return Runtime(_device(name), settings.precision)


def _device(name: str) -> torch.device:
    refusal = f"runtime.device: {name!r} is not allowed; allowed: auto, cpu, cuda, cuda:N"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(refusal) from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(refusal)
    return device


def spread(settings: RuntimeSettings, workers: int) -> list[str]:
    """A device for each of several workers: in turn, where several may be chosen from.

    Args:
        settings: Of them, the device; only ``auto`` leaves a choice.
        workers: How many.
    """
    there = torch.cuda.device_count()
    if settings.device != "auto" or there < 2 or workers < 2:
        return [settings.device] * workers
    return [f"cuda:{worker % there}" for worker in range(workers)]


def crowding(settings: RuntimeSettings, workers: int) -> str:
    """What to say where trials on the CPU have more threads than processors; nothing elsewhere.

    Args:
        settings: Of them, device and threads.
        workers: How many trials run at a time.
    """
    threads, there = settings.threads * workers, host.processors()
    if planned(settings).device.type != "cpu" or threads <= there:
        return ""
    return (
        f"{counted(threads, 'thread')} of {counted(workers, 'trial')} at a time share the "
        f"{counted(there, 'processor')} that may be used here; results stay the same, but each "
        "trial takes longer"
    )


def memory_budget(settings: RuntimeSettings, device: torch.device) -> int:
    """Bytes that a trial may take.

    Args:
        settings: Of them, the memory budget: a size, or all that the device has.
        device: The device.

    Returns:
        Bytes; for a CUDA device that is not there, without a size, more than any device has.
    """
    if settings.memory_budget != "device":
        return size(settings.memory_budget, "runtime.memory_budget")
    if device.type == "cuda":
        there = (device.index or 0) < torch.cuda.device_count()
        return torch.cuda.get_device_properties(device).total_memory if there else sys.maxsize
    return host.memory()


def seed_everything(seed: int) -> None:
    """Seed the global generators, for code that takes no generator (module initialization)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # libraries that still draw from it
    torch.manual_seed(seed)


def environment() -> dict[str, str]:
    """Versions and machine, for the record of a run."""
    packages = ("zostudy", "torch", "numpy", "optuna", "mlflow", "scikit-learn")
    record = {name: metadata.version(name) for name in packages}
    record["python"] = platform.python_version()
    record["platform"] = platform.platform()
    record["processor"] = platform.processor() or platform.machine()
    record["cpu_count"] = str(os.cpu_count())
    record["usable_cpu_count"] = str(host.processors())
    record["torch_threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        record["cuda_device"] = torch.cuda.get_device_name()
    return record
