"""What trials read: data sets, and tables, predictors and latencies in files, each once."""

from zostudy.config.loading import StudyFile
from zostudy.config.settings import DatasetSettings, TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.evaluation import latency, predicted, table
from zostudy.evaluation.cost import Costs
from zostudy.evaluation.latency import KnownLatencies
from zostudy.space.search_space import search_space
from zostudy.study.identity.data import loaded


class Inputs:
    """What the trials of a study read, kept for those that follow in the same process.

    Args:
        file: The study.
    """

    def __init__(self, file: StudyFile) -> None:
        self._extensions, self._folder = file.config.extensions, file.folder
        self._datasets: dict[tuple[str, int | None], Dataset] = {}
        self._sources: dict[str, table.Table | predicted.Predicted] = {}
        self._latencies: dict[str, KnownLatencies] = {}
        self._costs: dict[tuple[object, ...], Costs] = {}

    def outlines(self) -> dict[str, Dataset]:
        """The data sets that were read, without their pictures, by their settings as JSON."""
        return {key: dataset.outline() for (key, _), dataset in self._datasets.items()}

    def dataset(self, settings: DatasetSettings, seed: int | None = None) -> Dataset:
        """A data set as trials share it, or as a seed splits it; of the latter, one is held."""
        own = seed if settings.splits == "by_seed" else None
        key = (settings.model_dump_json(), own)
        if key not in self._datasets:
            if own is not None:
                self._datasets = {k: held for k, held in self._datasets.items() if k[1] is None}
            self._datasets[key] = loaded(settings, self._extensions, self._folder, own)
        return self._datasets[key]

    def source(self, config: TrialConfig) -> table.Table | predicted.Predicted | None:
        """The table or the predictor that an evaluation asks; none where a network is trained."""
        if config.evaluate.evaluator.trains:
            return None
        key = f"{config.search_space.name} {config.evaluate.model_dump_json()}"
        if key not in self._sources:
            space = search_space(config.search_space.name, config.extensions)
            read = table.read if config.evaluate.evaluator.knows_all else predicted.read
            self._sources[key] = read(config.evaluate, space)
        return self._sources[key]

    def latencies(self, config: TrialConfig) -> KnownLatencies | None:
        """The latencies that a file tells; none where they are measured or not wanted."""
        if not config.latency.reads:
            return None
        key = f"{config.search_space.name} {config.latency.model_dump_json()}"
        if key not in self._latencies:
            space = search_space(config.search_space.name, config.extensions)
            self._latencies[key] = latency.known(config.latency, space)
        return self._latencies[key]

    def costs(self, config: TrialConfig, dataset: Dataset) -> Costs:
        """What genotypes cost in the network that a trial trains."""
        trained, classes = config.evaluate, len(dataset.classes)
        shape = (dataset.channels, dataset.height, dataset.width)
        key = (config.search_space.name, trained.cells, trained.channels, classes, *shape)
        if key not in self._costs:
            space = search_space(config.search_space.name, config.extensions)
            self._costs[key] = Costs(space, dataset.outline(), trained)
        return self._costs[key]
