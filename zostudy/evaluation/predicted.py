"""Accuracy without training or a table: what a predictor says of a genotype, with its interval."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from zostudy.config.settings import EvaluateSettings
from zostudy.errors import ConfigError
from zostudy.predictors import storage
from zostudy.predictors.predictor import Predictor
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace


@dataclass(frozen=True)
class PredictedAccuracy:
    """What is predicted of an architecture, in percent.

    Attributes:
        predicted_accuracy: The prediction.
        predicted_low: Lower end of its interval.
        predicted_high: Upper end.
    """

    predicted_accuracy: float
    predicted_low: float
    predicted_high: float


@dataclass(frozen=True, eq=False)
class Predicted:
    """The accuracies that a predictor says.

    Attributes:
        predictor: The predictor.
        digest: SHA-256 of its file, in hexadecimal.
    """

    predictor: Predictor
    digest: str

    def __call__(self, genotype: Genotype) -> PredictedAccuracy:
        """The prediction for an architecture of the predictor's search space."""
        found = self.predictor([genotype])
        return PredictedAccuracy(
            float(found.accuracies[0]), float(found.low[0]), float(found.high[0])
        )


def read(settings: EvaluateSettings, space: SearchSpace) -> Predicted:
    """Read the predictor that an evaluation names.

    Raises:
        ConfigError: It cannot be read, or is not for this search space.
    """
    path = Path(settings.path)
    predictor = storage.of_space(path, "evaluate.path", space)
    try:
        return Predicted(predictor, hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise ConfigError(f"evaluate.path: {path}: cannot be read ({error.strerror})") from error
