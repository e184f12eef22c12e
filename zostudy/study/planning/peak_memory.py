"""Peak memory of a trial's phases before they run; equal shapes are worked out once."""

import functools
from collections.abc import Mapping
from typing import Any

from zostudy.config.loading import digest, search_document, to_document
from zostudy.config.settings import TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.evaluation import training
from zostudy.networks.dry_run import predicted_peak
from zostudy.pruning.mask_sources import PruneContext
from zostudy.runtime import Runtime
from zostudy.search import bilevel
from zostudy.search.strategies import STRATEGIES
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext


class Predictions:
    """Predicted peaks, in bytes of live tensors.

    What determines a phase's shapes is its key: no seed, no learning rate, no epochs.

    Args:
        runtime: Where the phases run; its precision counts.
        known: Peaks that are known already, by their keys.

    Attributes:
        known: Those, and the ones found since.
    """

    def __init__(self, runtime: Runtime, known: Mapping[str, int] = {}) -> None:
        self.runtime = runtime
        self.known = dict(known)

    def prune(self, config: TrialConfig, dataset: Dataset) -> int:
        """The peak of the first pass of a mask source that scores; 0 for one that does not."""
        source = config.mask_source
        if not source.scores:
            return 0
        options = {k: v for k, v in source.options.items() if k not in source.continues}

        def work(imaginary: Runtime) -> object:
            stage = StageContext(imaginary, seed=0)
            return source(PruneContext.of(config, dataset.outline(), stage))

        return self._once(
            ["prune", config.prune.source, options, config.search.architecture_fraction],
            config,
            dataset,
            lambda: predicted_peak(work, self.runtime),
        )

    def search(self, config: TrialConfig, mask: OperationMask, dataset: Dataset) -> int:
        """The peak of the search of a mask; an upper bound where it draws paths or genotypes."""
        predict = STRATEGIES[config.search.strategy].predict_peak
        return self._once(
            ["search", mask.digest(), self._search_shapes(config)],
            config,
            dataset,
            lambda: predict(mask, dataset, config.supernet, config.search, self.runtime),
        )

    def search_on_average(
        self, config: TrialConfig, mask: OperationMask, dataset: Dataset
    ) -> int | None:
        """The mean peak of the steps of a search that draws paths; nothing of any other search."""
        search = config.search
        if search.strategy != "bilevel" or not bilevel.draws_paths(mask.space, search):
            return None
        return self._once(
            ["search on average", mask.digest(), self._search_shapes(config)],
            config,
            dataset,
            lambda: round(
                bilevel.predict_mean_peak(
                    mask, dataset, config.supernet, config.search, self.runtime
                )
            ),
        )

    def _search_shapes(self, config: TrialConfig) -> dict[str, Any]:
        settings = config.search
        if settings.strategy == "score":
            return search_document(settings)
        return {
            "batch": settings.batch_size,
            "accumulate": settings.accumulate,
            "fraction": settings.architecture_fraction,
            "order": settings.order,
            "recompute": settings.recompute,
            "state": [settings.weights.momentum > 0, settings.weights.weight_decay > 0],
            "regularizer": settings.regularizer.name,
            "mixing": [settings.relaxation.name, settings.perturbation.name],
            "freezing": settings.freezing.name,
            "auxiliary": settings.auxiliary_skip != "none",
            "drops": [settings.drop_path > 0, settings.drop_skip > 0],
            "schedule": to_document(settings.schedule),
        }

    def evaluate(self, config: TrialConfig, genotype: Genotype, dataset: Dataset) -> int:
        """The peak of the training of a genotype."""
        settings = config.evaluate
        shapes = [
            *(settings.cells, settings.channels, settings.batch_size),
            *(settings.auxiliary_weight > 0, settings.drop_path > 0 and settings.epochs > 1),
            *(settings.weights.momentum > 0, settings.weights.weight_decay > 0),
        ]
        return self._once(
            ["evaluate", genotype.to_dict(), shapes],
            config,
            dataset,
            lambda: training.predict_peak(genotype, dataset, settings, self.runtime),
        )

    def _once(self, phase: Any, config: TrialConfig, dataset: Dataset, work: Any) -> int:  # noqa: ANN401
        pictures = [*dataset.train.images.shape, len(dataset.classes)]
        supernet = to_document(config.supernet)
        shared = [supernet, config.search_space.name, pictures, self.runtime.precision]
        key = digest([phase, shared])
        if key not in self.known:
            self.known[key] = work()
        return self.known[key]


@functools.lru_cache(maxsize=64)
def search_part_sizes(dataset: Dataset, architecture_fraction: float) -> tuple[int, int]:
    """How many pictures train the weights, and how many the architecture."""
    weights, architecture = dataset.outline().search_parts(architecture_fraction)
    return len(weights), len(architecture)
