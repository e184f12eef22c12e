"""A phase that several processes compute together, of which the first alone reads and writes.

The first process looks phases up, tracks and keeps checkpoints, as one that is alone does. Before
it computes one it tells the others, which compute the same with it and leave no trace.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from zostudy.runtime import Processes
from zostudy.stage import Checkpoint, NoCheckpoint, StageContext
from zostudy.study.trial.phases import Computed, Phase


@dataclass(frozen=True)
class SharedCheckpoint:
    """The first process's checkpoint, from which all go on.

    Attributes:
        kept: The first process's checkpoint; the others keep nothing.
    """

    kept: Checkpoint

    def load(self) -> dict[str, Any] | None:
        """The first process's state, or nothing."""
        content = _sent(_packed(self.kept.load() if dist.get_rank() == 0 else None))
        if not len(content):
            return None
        state: dict[str, Any] = torch.load(
            io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True
        )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, in the first process."""
        self.kept.save(state)


def led(phase: Phase[Any], processes: Processes) -> Phase[Any]:
    """A phase as the first process computes it: with the others, if there are any."""
    if processes.count == 1:
        return phase

    def compute(stage: StageContext) -> Computed:
        _sent(torch.ones(1, dtype=torch.uint8))
        return phase.compute(replace(stage, checkpoint=SharedCheckpoint(stage.checkpoint)))

    return replace(phase, compute=compute)


def dismiss(processes: Processes) -> None:
    """Tell the others that nothing more is to be computed."""
    if processes.count > 1:
        _sent(torch.zeros(1, dtype=torch.uint8))


def follow(phase: Phase[Any], stage: StageContext) -> None:
    """Compute a phase whenever the first process does, until it says that it is done."""
    while _sent(torch.zeros(1, dtype=torch.uint8)).item():
        phase.compute(replace(stage, checkpoint=SharedCheckpoint(NoCheckpoint())))


def _packed(state: Mapping[str, Any] | None) -> Tensor:
    """A state as bytes; none for no state."""
    if state is None:
        return torch.zeros(0, dtype=torch.uint8)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _sent(content: Tensor) -> Tensor:
    """The bytes of the first process, on all."""
    length = torch.tensor([len(content)])
    dist.broadcast(length, 0)
    if dist.get_rank():
        content = torch.zeros(int(length), dtype=torch.uint8)
    if length:
        dist.broadcast(content, 0)
    return content
