"""The phases of a trial as cached computations: settings in, plain values and tensors out.

A phase's key is the digest of all that determines its result: the code of the engine, the data,
the machine's arithmetic, the seed and the phase's own settings. What an earlier phase hands over
enters by its value, so that two trials which prune to the same mask share their search.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from zostudy.config.loading import (
    digest,
    evaluation_document,
    latency_document,
    search_document,
    to_document,
)
from zostudy.config.settings import TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.evaluation import cost, latency
from zostudy.evaluation.cost import Costs
from zostudy.evaluation.latency import KnownLatencies
from zostudy.evaluation.predicted import Predicted
from zostudy.evaluation.table import Table
from zostudy.evaluation.training import evaluate, standalone
from zostudy.metrics import measured
from zostudy.pruning.mask_sources import PruneContext, PruneResult
from zostudy.runtime import Runtime
from zostudy.search.admission import Admission
from zostudy.search.random_choice import random_genotype
from zostudy.search.result import SearchResult
from zostudy.search.strategies import STRATEGIES
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace, search_space
from zostudy.stage import Progress, StageContext
from zostudy.study.disk.locks import held
from zostudy.study.identity.today import made_of
from zostudy.study.ingredients import Ingredients
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.tracking.runs import Run
from zostudy.study.trial import logs

#: Lock of the machine for a user's measurements, which would slow each other down.
_MEASURING = Path(tempfile.gettempdir()) / f"zostudy-latency-{os.getuid()}.lock"

#: What a phase found.
R = TypeVar("R")

#: Metrics of a trial by name.
Metrics = dict[str, float]


@dataclass(frozen=True)
class Computed:
    """What a phase hands over.

    Attributes:
        values: Plain JSON values.
        tensors: Tensors by name.
    """

    values: dict[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase(Generic[R]):
    """A computation and the digests that name it.

    Attributes:
        name: One of `zostudy.metrics.PHASES`.
        key: Digest of all that determines its result.
        checkpoint_key: Digest under which its unfinished state is kept.
        lasting: Whether that state is kept after the phase, because others go on from it.
        settings: The settings it depends on, to be shown.
        compute: The computation.
        predict: Its peak memory in bytes, without computing it; 0 where it needs none to speak of.
        result: Gives what it found, from the values of its record.
        log: Writes what it found to its run.
    """

    name: str
    key: str
    checkpoint_key: str
    lasting: bool
    settings: Mapping[str, Any]
    compute: Callable[[StageContext], Computed]
    predict: Callable[[], int]
    result: Callable[[Mapping[str, Any]], R]
    log: Callable[[Run, R], None]


@dataclass(frozen=True)
class TrialPhases:
    """The phases of one trial.

    Attributes:
        config: Settings of the trial.
        seed: Its seed.
        dataset: Its data.
        predictions: Device and precision, and what is known of memory.
        source: Gives accuracies where nothing is trained: a table, or a predictor.
        latencies: Latencies of the search space, where they are not measured.
        costs: What genotypes cost, where a search is limited.
        elsewhere: What of its ingredients is not that of this process: of a trial that was run by
            another engine or on another type of device, and is looked up.
    """

    config: TrialConfig
    seed: int
    dataset: Dataset
    predictions: Predictions
    source: Table | Predicted | None = None
    latencies: KnownLatencies | None = None
    costs: Costs | None = None
    elsewhere: Ingredients = field(default_factory=dict)

    @property
    def runtime(self) -> Runtime:
        """Device and precision."""
        return self.predictions.runtime

    @functools.cached_property
    def space(self) -> SearchSpace:
        """The search space."""
        return search_space(self.config.search_space.name, self.config.extensions)

    def prune(self) -> Phase[PruneResult]:
        """From the full search space to a mask, or to a genotype."""
        config = self.config
        source = config.mask_source
        settings: dict[str, Any] = {
            "prune": to_document(config.prune),
            "supernet": to_document(config.supernet),
            "architecture_fraction": config.search.architecture_fraction,
        } | self._files("prune.")
        start = {k: v for k, v in settings["prune"].items() if k not in source.continues}

        def compute(stage: StageContext) -> Computed:
            result: PruneResult = source(PruneContext.of(config, self.dataset, stage))
            return Computed(result.to_dict())

        return Phase(
            "prune",
            self._key("prune", settings),
            self._key("prune", settings | {"prune": start}),
            bool(source.continues),
            settings,
            compute,
            lambda: self.predictions.prune(config, self.dataset),
            lambda values: PruneResult.of(values, self.space),
            logs.log_pruning,
        )

    def search(self, mask: OperationMask) -> Phase[SearchResult]:
        """From a mask to a genotype."""
        config = self.config
        settings = {
            "search": search_document(config.search),
            "supernet": to_document(config.supernet),
            "mask": mask.digest(),
        } | self._files("search.")
        if config.search.constraints:
            settings["network"] = [config.evaluate.cells, config.evaluate.channels]

        def compute(stage: StageContext) -> Computed:
            search = STRATEGIES[config.search.strategy].search
            given = mask, self.dataset, config.supernet, config.search, stage, self._admission()
            result = search(*given)
            return Computed(result.to_dict())

        def predict() -> int:
            return self.predictions.search(config, mask, self.dataset)

        key = self._key("search", settings)
        return Phase(
            "search",
            key,
            key,
            False,
            settings,
            compute,
            predict,
            lambda values: SearchResult.of(values, self.space),
            logs.log_search,
        )

    def unsearched(self, pruned: PruneResult) -> Genotype | None:
        """The genotype that is there without a search: pruned to, or drawn from the mask.

        Raises:
            InadmissibleError: None that keeps to the limits was found.
        """
        if self.config.search.strategy == "random":
            chosen = pruned.mask, self.seed, self.config.search.draw
            return random_genotype(*chosen, self._admission())
        return pruned.genotype

    def _admission(self) -> Admission:
        """Which architectures a search may choose."""
        costs = self.costs or Costs(self.space, self.dataset, self.config.evaluate)
        return Admission(self.config.search.limits, costs)

    def latency(self, genotype: Genotype) -> Phase[Metrics] | None:
        """From a genotype to the latency of its network, if the study has one.

        Neither seed nor trained weights matter, and of the data only the shape of pictures.
        """
        config, settings = self.config.latency, latency_document(self.config.latency)
        if config.by == "none":
            return None
        known, dataset, trained = self.latencies, self.dataset, self.config.evaluate
        shape = (dataset.channels, dataset.height, dataset.width)
        determined: dict[str, Any] = {"genotype": genotype.to_dict(), "engine": self._engine}
        if known is None:
            determined |= {
                "latency": settings,
                "network": [trained.cells, trained.channels, *shape, len(dataset.classes)],
                "hardware": self.made_of["hardware"],
            }
        else:
            determined["latency"] = settings | {"path": known.digest}

        def compute(stage: StageContext) -> Computed:
            if known is not None:
                return Computed({"ms": known.of(genotype), "figures": {}})
            network = standalone(genotype, dataset, trained)

            def waiting(holder: str) -> None:
                note = f"waits for {holder}, which measures too"
                stage.report(Progress("latency", 0, len(config.batch_sizes), note=note))

            alone = functools.partial(held, _MEASURING, waiting)
            found = latency.measured(network, shape, config, stage.report, alone)
            (median, high), *_ = found.values()
            figures = {
                f"{name}_batch_{batch}": value
                for batch, both in found.items()
                for name, value in zip(("median_ms", "p95_ms"), both, strict=True)
            }
            return Computed({"ms": median, "p95_ms": high, "figures": figures})

        name, key = "latency", digest({"phase": "latency"} | determined)
        shown = {"latency": settings, "genotype": genotype.to_dict()}
        result = functools.partial(measured, name)
        return Phase(name, key, key, False, shown, compute, lambda: 0, result, logs.log_metrics)

    def evaluate(self, genotype: Genotype) -> Phase[Metrics]:
        """From a genotype to a trained network, or to its row in a table, or to a prediction."""
        config = self.config
        settings = {
            "evaluate": evaluation_document(config.evaluate),
            "genotype": genotype.to_dict(),
        }
        if self.source is not None:
            return self._lookup(genotype, self.source, settings)

        def compute(stage: StageContext) -> Computed:
            result = evaluate(genotype, self.dataset, config.evaluate, stage)
            return Computed(result.to_dict(), result.weights)

        def predict() -> int:
            batch = config.evaluate.batch_size
            share = max(2, -(-batch // self.runtime.processes.count))
            shared = config.changed("evaluate", batch_size=share)
            return self.predictions.evaluate(shared, genotype, self.dataset)

        key = self._key("evaluate", settings)
        return self._evaluation(key, settings, compute, predict)

    def _lookup(
        self, genotype: Genotype, source: Table | Predicted, settings: dict[str, Any]
    ) -> Phase[Metrics]:
        """From a genotype to what a source says of it; neither seed nor arithmetic matters."""
        dataset, evaluate = self.dataset, self.config.evaluate
        pictures = [dataset.channels, dataset.height, dataset.width, len(dataset.classes)]
        determined = settings | {
            "engine": self._engine,
            "evaluate": settings["evaluate"] | {"path": source.digest},
            "pictures": pictures,
        }

        def compute(stage: StageContext) -> Computed:
            del stage
            network = standalone(genotype, dataset, evaluate)
            size = cost.of_genotype(genotype, network, dataset)
            return Computed(asdict(source(genotype)) | size | {"figures": {}})

        key = digest({"phase": "evaluate"} | determined)
        return self._evaluation(key, settings, compute, lambda: 0)

    def _evaluation(
        self,
        key: str,
        settings: dict[str, Any],
        compute: Callable[[StageContext], Computed],
        predict: Callable[[], int],
    ) -> Phase[Metrics]:
        name = "evaluate"
        result = functools.partial(measured, name)
        return Phase(name, key, key, False, settings, compute, predict, result, logs.log_metrics)

    def _key(self, name: str, settings: Mapping[str, Any]) -> str:
        return digest({"phase": name} | self.common() | dict(settings))

    @functools.cached_property
    def made_of(self) -> Ingredients:
        """What the trial is made of beside its settings and seed."""
        own = made_of(self.config, self.dataset.study_digest, self.runtime.device.type)
        if self.source is not None:
            own["evaluate.path"] = self.source.digest
        if self.latencies is not None:
            own["latency.path"] = self.latencies.digest
        return own | dict(self.elsewhere)

    @property
    def _engine(self) -> list[str]:
        return [self.made_of["engine"], self.made_of.get("extensions", "")]

    def _files(self, section: str) -> dict[str, Any]:
        """The contents of the files that a section names."""
        found = {n: v for n, v in self.made_of.items() if n.startswith(section)}
        return {"files": found} if found else {}

    def common(self) -> dict[str, Any]:
        """What determines every phase's result beside its own settings."""
        device = self.made_of["device"]
        threads = self.config.runtime.threads if device == "cpu" else 0
        count = self.runtime.processes.count
        arithmetic = [device, self.runtime.precision, threads, count]
        if device == "cuda" and not self.config.runtime.deterministic:
            arithmetic.append("not deterministic")
        return {
            "engine": self._engine,
            "data": self.dataset.digest,
            "space": self.config.search_space.name,
            "arithmetic": arithmetic,
            "seed": self.seed,
        }
