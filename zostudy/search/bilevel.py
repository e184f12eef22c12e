"""Bilevel one-shot search: weights and architecture in turn (docs/method.md, section 4)."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.dataset import Dataset
from zostudy.networks.dry_run import first_peak, imaginary, predicted_peak
from zostudy.networks.memory import held_bytes
from zostudy.networks.node_operations import NodeOperations
from zostudy.runtime import Runtime
from zostudy.search import decision
from zostudy.search.admission import Admission, everything
from zostudy.search.result import SearchResult
from zostudy.search.schedules import later_stages
from zostudy.search.session import Session, sampled_epochs
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace
from zostudy.stage import StageContext

#: Cells in which every cell type occurs.
_ALL_TYPES = 3

#: Steps whose mean peak stands for that of a search that draws paths.
DRAWS = 8


def search(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    context: StageContext,
    admission: Admission = everything,
) -> SearchResult:
    """Search the supernet that a mask leaves.

    Resumes from the context's checkpoint, and saves to it after every epoch.

    Args:
        mask: What is searched.
        dataset: The data set; half of its training part trains w, the other half α.
        supernet: Size of the supernet.
        settings: The search.
        context: Device, seed, checkpoint and report.
        admission: Not asked: the settings of such a search have no limits.

    Raises:
        NumericalError: A loss is not finite.
    """
    del admission
    session = Session(mask, dataset, supernet, settings, context)
    session.resume()
    while not session.ended:
        session.train_epoch()
    genotype = session.genotype()
    last = session.history[-1]
    notes = [note for note in (session.reason, _undecided(session, last)) if note]
    healthy = None
    if decision.skip_share(genotype) > settings.collapsed_share:
        healthy = _last_healthy(session)
        before = f"; the genotype of epoch {healthy[1]} is kept beside it" if healthy else ""
        notes.append(
            "the search collapsed: skip connections make up "
            f"{100 * decision.skip_share(genotype):.0f} % of a cell{before}"
        )
    return SearchResult(
        genotype,
        session.history,
        session.alpha_history,
        session.seconds,
        session.memory.peak_bytes,
        dict(session.memory.metrics())
        | {name: last[name] for name in ("lead", "skips", "stable_epochs", "start_genotype")}
        | {"collapsed": float(decision.skip_share(genotype) > settings.collapsed_share)},
        notes,
        healthy,
    )


def _undecided(session: Session, last: Mapping[str, float]) -> str:
    return decision.sentence(last) if session.by_strength else ""


def _last_healthy(session: Session) -> tuple[Genotype, int] | None:
    limit = session.settings.collapsed_share
    for epoch in range(len(session.genotypes) - 1, 0, -1):
        if decision.skip_share(session.genotypes[epoch]) <= limit:
            return session.genotypes[epoch], epoch
    return None


def predict_peak(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    runtime: Runtime,
) -> int:
    """The peak of `search` on the CPU, from a step without numbers.

    It is the peak that will be measured where every operation is computed. Where paths are drawn it
    is an upper bound: that of a step in which each edge draws the operation that needs most, and
    the weights of all operations once more. Of a search in stages it is the largest of all stages;
    where a later one is, it is an upper bound too, as if every edge kept the operations that need
    most.

    Args:
        mask: What is searched.
        dataset: The data set, or its outline.
        supernet: Size of the supernet.
        settings: The search.
        runtime: Its precision counts.

    Returns:
        Bytes of live tensors.
    """
    prediction = _Prediction(dataset.outline(), settings, runtime)
    paths = draws_paths(mask.space, settings)
    order = prediction.order(mask, supernet)
    return max(
        prediction.peak(own, size, order) + (prediction.of_operations(own, size) if paths else 0)
        for own, size in prediction.stages(mask, supernet, order)
    )


def draws_paths(space: SearchSpace, settings: SearchSettings) -> bool:
    """Whether each edge computes one operation that is drawn, so that the peak is a bound."""
    name = settings.relaxation.name
    return bool(space.find("relaxation", name, "search.relaxation.name").facts.get("paths"))


def predict_mean_peak(
    mask: OperationMask,
    dataset: Dataset,
    supernet: SupernetSettings,
    settings: SearchSettings,
    runtime: Runtime,
) -> float:
    """The mean peak of the steps of a search that draws paths, below the bound of `predict_peak`.

    It is the mean over `DRAWS` steps in which each edge draws any of its operations with the same
    probability, as the start of α has it; they are always the same draws. A search that settles on
    large or small operations goes away from it. Of a search in stages it is the largest mean.

    Args:
        mask: What is searched.
        dataset: The data set, or its outline.
        supernet: Size of the supernet.
        settings: The search.
        runtime: Its precision counts.

    Returns:
        Bytes of live tensors.
    """
    prediction = _Prediction(dataset.outline(), settings, runtime)
    order = prediction.order(mask, supernet) if later_stages(mask, supernet, settings) else ()
    return max(prediction.mean_peak(*stage) for stage in prediction.stages(mask, supernet, order))


@dataclass(frozen=True)
class _Prediction:
    """Peaks of a search's steps.

    Attributes:
        outline: The data set's outline.
        settings: The search.
        runtime: Its precision counts.
    """

    outline: Dataset
    settings: SearchSettings
    runtime: Runtime

    def peak(
        self, mask: OperationMask, supernet: SupernetSettings, order: Sequence[int] = ()
    ) -> int:
        """The peak of a step; see `Mixer` for the order."""

        def step(imaginary: Runtime, epoch: int) -> None:
            context = StageContext(imaginary, seed=0)
            session = Session(mask, self.outline, supernet, self.settings, context, order)
            session.later_step(epoch)

        return max(
            predicted_peak(functools.partial(step, epoch=epoch), self.runtime)
            for epoch in sampled_epochs(self.settings)
        )

    def mean_peak(self, mask: OperationMask, supernet: SupernetSettings) -> float:
        """The mean over the first steps of a search, each with paths of its own."""
        with imaginary(self.runtime) as own:
            context = StageContext(own, seed=0)
            session = Session(mask, self.outline, supernet, self.settings, context)
            steps = [
                functools.partial(session.later_step, epoch)
                for epoch in sampled_epochs(self.settings)
            ]
            return fmean(max(map(first_peak, steps)) for _ in range(DRAWS))

    def order(self, mask: OperationMask, supernet: SupernetSettings) -> Sequence[int]:
        """Operations by need, where the peak depends on which of them are taken."""
        needed = draws_paths(mask.space, self.settings)
        if needed or later_stages(mask, supernet, self.settings):
            return self.by_need(mask.space, supernet)
        return ()

    def stages(
        self, mask: OperationMask, supernet: SupernetSettings, order: Sequence[int]
    ) -> list[tuple[OperationMask, SupernetSettings]]:
        """Masks and sizes of all stages, if each edge keeps the first operations of an order."""
        later = later_stages(mask, supernet, self.settings, order)
        return [
            (mask, supernet),
            *((one.mask, supernet.model_copy(update={"cells": one.cells})) for one in later),
        ]

    def of_operations(self, mask: OperationMask, supernet: SupernetSettings) -> int:
        """Bytes of the weights of all operations.

        A path of several kinds of operation has gradients of each kind, and copies of the rows that
        it computes; a path of one kind may have neither.
        """
        context = StageContext(Runtime(torch.device("meta"), self.runtime.precision), seed=0)
        whole = Session(mask, self.outline, supernet, self.settings, context).supernet
        return held_bytes(*(module for module in whole.modules() if type(module) is NodeOperations))

    def by_need(self, space: SearchSpace, supernet: SupernetSettings) -> list[int]:
        """Operations from the one that needs most memory, alone on every edge of the space."""
        small = supernet.model_copy(update={"cells": min(supernet.cells, _ALL_TYPES)})
        columns = range(len(space.operations))
        needs = {column: self.peak(_alone(space, column), small) for column in columns}
        return sorted(columns, key=lambda column: -needs[column])


def _alone(space: SearchSpace, column: int) -> OperationMask:
    """The mask with one operation on every edge."""
    row = tuple(place == column for place in range(len(space.operations)))
    return OperationMask(space, dict.fromkeys(space.cell_types, (row,) * len(space.edges)))
