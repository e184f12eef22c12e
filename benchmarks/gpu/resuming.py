"""Part ``resume``: does a phase that was cut off and resumed end as an undisturbed one does?

A search of three epochs on half the operations, and a training of as many, each run twice whole
and once cut off after its first epoch. ``equal`` is 1 where all tensors of the last checkpoint
(weights, α, optimizers, generators) and all figures but times are the same bits, else 0.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import SPACE, random_half, settings_of
from benchmarks.document import Row
from benchmarks.gpu.setting import Setting, random_dataset
from benchmarks.gpu.steps import SEED
from benchmarks.gpu.training import genotype, sizes
from zostudy.config.search import SearchSettings
from zostudy.evaluation import training
from zostudy.search import bilevel
from zostudy.stage import Progress, StageContext

_EPOCHS = 3

#: Of a checkpoint, what may differ: times, and the allocator's peak.
_FREE = frozenset({"seconds", "peak_bytes"})


class _CutOffError(Exception):
    pass


class Kept:
    """A checkpoint as on disk: written whole, read back without unpickling."""

    def __init__(self) -> None:
        self._bytes = b""

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or nothing."""
        if not self._bytes:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(self._bytes), weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._bytes = buffer.getvalue()


def rows(setting: Setting) -> Iterator[Row]:
    """The results, as they come."""
    phases = {"search": _search, "evaluate": _evaluate}
    for name, phase in phases.items():
        undisturbed = _run(setting, phase, cuts=False)
        yield Row(
            name, "repeated_equal", float(same(undisturbed, _run(setting, phase, cuts=False)))
        )
        yield Row(name, "resumed_equal", float(same(undisturbed, _run(setting, phase, cuts=True))))


def _run(
    setting: Setting, phase: Callable[[Setting, StageContext], None], *, cuts: bool
) -> dict[str, Any] | None:
    """The last checkpoint of a phase."""
    kept, runtime = Kept(), setting.runtime()

    def cut(progress: Progress) -> None:
        raise _CutOffError(progress.phase)

    if cuts:
        with contextlib.suppress(_CutOffError):
            phase(setting, StageContext(runtime, 0, kept, cut))
    phase(setting, StageContext(runtime, 0, kept))
    return kept.load()


def _search(setting: Setting, context: StageContext) -> None:
    scale, mask = setting.scale, random_half(SEED)
    settings = SearchSettings(epochs=_EPOCHS, warmup_epochs=1, batch_size=scale.batch)
    dataset = random_dataset(4 * scale.batch, 2, scale.supernet.side)
    bilevel.search(mask, dataset, settings_of(SPACE, 4, scale.supernet), settings, context)


def _evaluate(setting: Setting, context: StageContext) -> None:
    dataset, settings = sizes(setting)
    short = settings.model_copy(update={"epochs": _EPOCHS})
    training.evaluate(genotype(), dataset, short, context)


def same(one: Any, other: Any) -> bool:  # noqa: ANN401  # a checkpoint holds anything
    """Whether two parts of checkpoints hold the same bits, times and peaks left out."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(_bits(one), _bits(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            key in _FREE or same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
