"""Part ``profile``: the kernels of a search step, by torch.profiler.

``kernels`` are those that ran on the device, copies and fills left out; ``launches`` are the host's
calls that launch a kernel or a graph; ``busy_ms`` is the time of all kernels, one after the other.
Then the ten names that took longest in all: ``kernel_ms`` and ``kernel_calls``. On a CPU it is
operations that count, by the time of their own.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch exports it unsaid
from torch.profiler import ProfilerActivity, profile

from benchmarks.document import Row
from benchmarks.gpu.setting import Precision, Setting, free, wait
from benchmarks.gpu.steps import made

_LONGEST = 10

#: Characters of a kernel's name; templates have thousands.
_NAME = 100

_CASES: tuple[tuple[str, Precision], ...] = (
    ("zero-one-shot-rnd", "fp32"),
    ("zero-one-shot-rnd", "bf16"),
    ("pc-darts", "fp32"),
    ("darts", "fp32"),
    ("zero-one-shot-rnd-recompute-full", "fp32"),
)


@dataclass
class Kernels:
    """Kernels of a step.

    Attributes:
        launches: Calls of the host.
        calls: By name, how many ran.
        milliseconds: By name, how long they ran in all.
    """

    launches: int = 0
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    milliseconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @classmethod
    def among(cls, events: Iterable[Any], device: torch.device) -> "Kernels":
        """The kernels among the events of a profile; on a CPU its operations.

        Args:
            events: Of torch.autograd.profiler_util.FunctionEvent.
            device: Where the step ran.
        """
        found, on_host = cls(), device.type == "cpu"
        for event in events:
            if event.device_type == DeviceType.CPU:
                found.launches += "launch" in event.name.lower()
                if not on_host or not event.name.startswith("aten::"):
                    continue
                microseconds = event.self_cpu_time_total
            # Optimizers mark their steps, which shows as a range on the device.
            elif event.name.startswith(("Memcpy", "Memset", "Optimizer.", "## ")) or getattr(
                event, "is_user_annotation", False
            ):
                continue
            else:
                microseconds = event.time_range.elapsed_us()
            found.calls[event.name] += 1
            found.milliseconds[event.name] += microseconds / 1000
        return found


def rows(setting: Setting) -> Iterator[Row]:
    """The results, as they come."""
    for name, precision in _CASES[: setting.scale.cases]:
        runtime = setting.runtime(precision)
        free(runtime.device)
        search = made(name, setting, runtime)
        for _ in range(2):
            search.step()
        wait(runtime.device)
        activities = [ProfilerActivity.CPU]
        if runtime.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities, acc_events=True) as seen:
            search.step()
            wait(runtime.device)
        yield from _rows(f"{name} {precision}", Kernels.among(seen.events() or (), runtime.device))


def _rows(case: str, kernels: Kernels) -> Iterator[Row]:
    yield Row(case, "kernels", sum(kernels.calls.values()))
    yield Row(case, "launches", kernels.launches)
    yield Row(case, "busy_ms", sum(kernels.milliseconds.values()))
    longest = sorted(kernels.milliseconds, key=lambda name: -kernels.milliseconds[name])
    for name in longest[:_LONGEST]:
        yield Row(case, f"kernel_ms {name[:_NAME]}", kernels.milliseconds[name])
        yield Row(case, f"kernel_calls {name[:_NAME]}", kernels.calls[name])
