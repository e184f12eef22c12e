"""A phase's record: found in the store, or waited for, or computed by this process.

One process at a time computes the phases that share a checkpoint; another that needs one of them
waits, and goes on from what it finds then: the record, or the checkpoint of a process that is gone.
"""

import gc
import logging
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zostudy.config.sizes import shown_bytes
from zostudy.errors import MemoryShortageError, TrialError
from zostudy.runtime import Runtime
from zostudy.stage import Progress, StageContext
from zostudy.study.store.records import FileCheckpoint, Origin, Record, Store
from zostudy.study.tracking.runs import OUT_OF_MEMORY, Run
from zostudy.study.trial.logs import PREDICTED
from zostudy.study.trial.phases import Computed, Phase

Report = Callable[[Progress], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computing:
    """How phases are computed.

    Attributes:
        store: Where records and checkpoints are.
        runtime: Device and precision.
        budget: Bytes that a trial may take.
        report: Called after every epoch and round, and while another process is waited for.
    """

    store: Store
    runtime: Runtime
    budget: int
    report: Report

    def record(
        self,
        phase: Phase[Any],
        seed: int,
        run: Run,
        origin: Origin,
        relatives: Callable[[], Sequence[Phase[Any]]] = tuple,
    ) -> Record:
        """The record of a phase; its `origin` says who computed it.

        Args:
            phase: The phase.
            seed: The trial's seed.
            run: The run that its figures are logged to where it is computed here.
            origin: Who would compute it here.
            relatives: Gives the phases that go on from the same checkpoint and will be asked for:
                where it is computed here, they are too.

        Raises:
            TrialError: It cannot be computed.
        """
        found = self.store.record(phase.name, phase.key)
        if found is None:

            def waiting(holder: str) -> None:
                note = f"waits for {holder}, which computes it"
                self.report(Progress(phase.name, 0, 1, note=note))

            with self.store.computing(phase.name, phase.checkpoint_key, waiting):
                found = self.store.record(phase.name, phase.key)
                if found is None:
                    for relative in relatives():
                        self._try(relative, seed, run, origin)
                    found = self._computed(phase, seed, run, origin)
        return found

    def _try(self, phase: Phase[Any], seed: int, run: Run, origin: Origin) -> None:
        """Compute a phase if it can be; its own trial will say why it cannot."""
        if self.store.record(phase.name, phase.key) is None:
            try:
                self._computed(phase, seed, run, origin)
            except TrialError as error:
                _log.info("%s of another trial cannot be computed here: %s", phase.name, error)

    def _computed(self, phase: Phase[Any], seed: int, run: Run, origin: Origin) -> Record:
        def report(progress: Progress) -> None:
            run.metrics(progress.metrics, step=progress.done)
            self.report(progress)

        checkpoint = self.store.checkpoint(phase.name, phase.checkpoint_key, origin)
        predicted = phase.predict()
        if predicted > self.budget:
            raise MemoryShortageError(
                f"{phase.name}: needs {shown_bytes(predicted)}, more than runtime.memory_budget "
                f"allows ({shown_bytes(self.budget)}); `zostudy plan` says what would fit"
            )
        stage = StageContext(self.runtime, seed, checkpoint, report)
        computed = _within_memory(phase, stage, run, predicted)
        values = computed.values
        if predicted:
            ratio = values["peak_bytes"] / predicted
            values |= dict(zip(PREDICTED, (float(predicted), ratio), strict=True))
        source = _source(phase, checkpoint)
        self.store.save(phase.name, phase.key, values, computed.tensors, source)
        record = self.store.record(phase.name, phase.key)
        if record is None:
            raise TrialError(f"{phase.name}: the record cannot be read back")
        if not phase.lasting:
            checkpoint.clear()
        return record


def _source(phase: Phase[Any], checkpoint: FileCheckpoint) -> Origin:
    """Who computed a phase: where all was in a lasting checkpoint, the one that it is from."""
    return (checkpoint.source() if phase.lasting else {}) or checkpoint.origin


def _within_memory(phase: Phase[Any], stage: StageContext, run: Run, predicted: int) -> Computed:
    """Compute a phase; out of memory is recorded, and the memory is free again.

    Raises:
        MemoryShortageError: The memory is not there.
    """
    try:
        return phase.compute(stage)
    except (RuntimeError, MemoryError) as error:
        asked = asked_bytes(error)
        if asked is None:
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the phase's tensors
    gc.collect()
    if stage.runtime.device.type == "cuda":
        torch.cuda.empty_cache()
    run.tags({OUT_OF_MEMORY: "True"})
    run.metrics({"out_of_memory_asked_bytes": float(asked), "predicted_bytes": float(predicted)})
    raise MemoryShortageError(
        f"{phase.name}: out of memory: {shown_bytes(asked)} more were asked for; the prediction of "
        f"the phase is {shown_bytes(predicted)}"
    )


_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def asked_bytes(error: BaseException) -> int | None:
    """Bytes that could not be had, as the text of an error tells; 0 where it does not.

    Returns:
        Nothing where the error is not one of memory.
    """
    match = re.search(r"ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", str(error))
    if match:
        return int(float(match[1]) * _UNITS[match[2].removesuffix("bytes")])
    return 0 if isinstance(error, torch.OutOfMemoryError | MemoryError) else None
