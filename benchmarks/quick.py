"""A mask source whose trials take as long, and end as badly, as one likes; for tests and timing.

It is an extension of a study file (``extensions: [benchmarks.quick]``): see :func:`study`.
"""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from zostudy.pruning.mask_sources import PruneContext, PruneResult
from zostudy.registry import mask_source
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import Progress


def study(name: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # of a study file
    """The document of a study of quick trials: no search, the smallest evaluation."""
    network = {"cells": 1, "channels": 1, "epochs": 1, "batch_size": 288, "auxiliary_weight": 0.0}
    return {
        "study": name,
        "extensions": ["benchmarks.quick"],
        "supernet": {"cells": 1, "channels": 1},
        "prune": {"source": "quick", "until": "genotype"},
        "search": {"strategy": "none"},
        "evaluate": network,
        "runtime": {"threads": 1, "device": "cpu"},
    } | changes


@mask_source("quick", genotype={"until": "genotype"}, files=())  # its log is written, not read
def quick(
    context: PruneContext,
    *,
    until: Literal["level", "genotype"] = "genotype",
    number: int = 0,
    seconds: float = 0.0,
    step: float = 0.1,
    log: str = "",
    end: str = "",
) -> PruneResult:
    """Work for some seconds, with a checkpoint after each step, and give a genotype.

    Args:
        context: What a mask source is given.
        until: As ``zero_shot`` has it, where it says that there is no search.
        number: Which of the study's genotypes is found, beside the seed.
        seconds: How long it works; what is late on a busy machine is not made up.
        step: Seconds of a step of its work, after which there is a checkpoint.
        log: A file, to which each step adds a line: number, seed, step and process.
        end: How the first process that is half through ends; empty to go on.
    """
    stage = context.stage
    state = stage.checkpoint.load() or {"done": 0}
    steps = round(seconds / step)
    for index in range(int(state["done"]), steps):
        time.sleep(step)
        if log:
            with Path(log).open("a", encoding="ascii") as file:
                file.write(f"{number} {stage.seed} {index} {os.getpid()}\n")
        if end and index == steps // 2:
            _ENDS[end]()
        stage.checkpoint.save({"done": index + 1})
        stage.report(Progress("prune", index + 1, steps))
    genotype = _genotype(context, number) if until == "genotype" else None
    return PruneResult(OperationMask.full(context.space), genotype=genotype)


def _genotype(context: PruneContext, number: int) -> Genotype:
    generator = torch.Generator().manual_seed(1000 * number + context.stage.seed)
    space = context.space
    names = [name for name in space.operations if name != space.zero]

    def node(target: int) -> tuple[tuple[str, int], ...]:
        drawn = torch.randint(len(names), (space.kept(target),), generator=generator)
        return tuple((names[int(i)], source) for source, i in enumerate(drawn))

    return Genotype(
        space, {kind: tuple(node(t) for t in space.targets) for kind in space.cell_types}
    )


def _raise() -> None:
    raise ValueError("no good")


def _shortage() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**33, resource.RLIM_INFINITY))
    torch.empty(2**40, dtype=torch.uint8)


#: How a process may end.
_ENDS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": _shortage,
    "raise": _raise,
    "segfault": lambda: ctypes.string_at(0),
}
