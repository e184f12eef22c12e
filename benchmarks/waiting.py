"""How torch's threads wait for each other, on a quiet machine and on a busy one; some minutes.

Search steps (PC-DARTS, 4 cells, pictures of 16 × 16, batch 16), in a process for each policy, which
take turns. ``quiet`` is the machine as it is; ``busy`` has a process for each processor beside it
that counts without end; ``one`` lets the process use one processor. The reference is one thread's
``step_seconds`` there. ``_worst`` is the longest step, ``_cpu`` what all threads compute and spin.
"""

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.document import Row, main
from zostudy import host


class _Policy(NamedTuple):
    threads: int
    environment: dict[str, str]


#: Policies by name: libgomp's own, several lengths of looking before sleep, and none.
_POLICIES = {
    "one-thread": _Policy(1, {}),
    "default": _Policy(2, {}),
    "spin-20000": _Policy(2, {"GOMP_SPINCOUNT": "20000"}),
    "spin-2000": _Policy(2, {"GOMP_SPINCOUNT": "2000"}),
    "passive": _Policy(2, {"OMP_WAIT_POLICY": "PASSIVE"}),
}

_TURNS = 15

#: A process that takes a step for each line that it reads, and prints its seconds.
_STEPS = """
import sys, time
import torch
from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.networks.supernet import Supernet
from zostudy.runtime import Runtime
from zostudy.search.learner import Learner
from zostudy.search.mixer import Mixer
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

torch.set_num_threads(int(sys.argv[1]))
space = search_space("darts")
size = SupernetSettings(cells=4, channels=16, partial_channels=4, edge_normalization=True)
supernet = Supernet(space, OperationMask.full(space), size, in_channels=3, classes=10)
settings = SearchSettings(batch_size=16)
mixer = Mixer(supernet, settings, torch.Generator())
learner = Learner(supernet, mixer, settings, Runtime(torch.device("cpu")))
batch = torch.randn(16, 3, 16, 16), torch.randint(0, 10, (16,))
for line in sys.stdin:
    began, used = time.perf_counter(), time.process_time()
    learner.step(batch, batch, epoch=0)
    print(time.perf_counter() - began, time.process_time() - used, flush=True)
"""


@contextlib.contextmanager
def _process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this interpreter, which ends with the context."""
    mine = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=mine | environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _step(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Have a process take a step: its seconds, and those of its threads."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    print(file=process.stdin, flush=True)
    wall, used = process.stdout.readline().split()
    return float(wall), float(used)


def _measured(processes: dict[str, subprocess.Popen[str]], load: str) -> Iterator[Row]:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    for _ in range(_TURNS):
        for name, process in processes.items():
            taken[name].append(_step(process))
    single = statistics.median(wall for wall, _ in taken["one-thread"])
    for name, steps in taken.items():
        walls, used = zip(*steps, strict=True)
        yield Row(f"{load}-{name}", "step_seconds", statistics.median(walls), single)
        yield Row(f"{load}-{name}", "step_seconds_worst", max(walls), single)
        yield Row(f"{load}-{name}", "step_seconds_cpu", statistics.median(used), single)


def rows() -> Iterator[Row]:
    """The results, as they come."""
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                _process("-c", _STEPS, str(policy.threads), **policy.environment)
            )
            for name, policy in _POLICIES.items()
        }
        for process in processes.values():
            _step(process)
        yield from _measured(processes, "quiet")
        with contextlib.ExitStack() as others:
            for _ in range(host.processors()):
                others.enter_context(_process("-c", "while True: pass"))
            yield from _measured(processes, "busy")
        for process in processes.values():
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {min(os.sched_getaffinity(0))})
        yield from _measured(processes, "one")


if __name__ == "__main__":
    main(__doc__ or "", rows)
