"""A predictor of accuracies: fitted on architectures whose accuracies are known.

Accuracies are replaced by normal scores: the few broken networks of a search space would otherwise
decide the fit. Features are standardized. Models are blended with weights from an inner
cross-validation; an outer one, of which each part chooses its own weights, tells how good such
predictions are and gives intervals by CV+: a new architecture lies in its interval with a
probability near ``coverage``, if it is drawn as the examples were.

Symbols:
    n     examples
    z_i   normal score of example i
    μ_k   predictor fitted without fold k; k(i) is the fold of example i
    R_i   |z_i − μ_k(i)(x_i)|
    CV+   interval from the quantiles of μ_k(i)(x) − R_i and of μ_k(i)(x) + R_i over i

References:
    Barber et al. 2021, "Predictive inference with the jackknife+", section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import kendalltau, norm, rankdata

from zostudy.errors import DataError
from zostudy.predictors.encodings import DEFAULT, Encoder
from zostudy.predictors.models import (
    MODELS,
    MOST_FOR_GAUSSIAN_PROCESS,
    Blend,
    blend,
    split,
)
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace

#: Fewest examples that cross-validation makes sense with.
FEWEST = 20

#: Architectures whose intervals are worked out at a time.
_CHUNK = 1000

Vector = Float64[np.ndarray, " n"]
Columns = Float64[np.ndarray, "n columns"]


@dataclass(frozen=True)
class Settings:
    """How a predictor is fitted.

    Attributes:
        encodings: Names of `zostudy.predictors.encodings.ENCODINGS`.
        models: Names of `zostudy.predictors.models.MODELS` that are blended.
        outer: Folds of the outer cross-validation.
        inner: Folds of the inner one.
        coverage: Share of architectures that intervals are to hold.
        seed: Seed of folds and models.
    """

    encodings: tuple[str, ...] = DEFAULT
    models: tuple[str, ...] = tuple(MODELS)
    outer: int = 5
    inner: int = 4
    coverage: float = 0.9
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Examples:
    """Architectures of one search space and their accuracies.

    Attributes:
        genotypes: Architectures, each once.
        accuracies: In percent.
        columns: Further features of each, such as zero-cost proxies; of width 0 without.
        names: Names of the columns.
    """

    genotypes: tuple[Genotype, ...]
    accuracies: Vector
    columns: Columns
    names: tuple[str, ...] = ()

    @property
    def space(self) -> SearchSpace:
        """Their search space."""
        return self.genotypes[0].space

    def some(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """Those at the indices."""
        chosen = tuple(self.genotypes[index] for index in indices)
        return Examples(chosen, self.accuracies[indices], self.columns[indices], self.names)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is predicted of architectures, in percent.

    Attributes:
        accuracies: Predictions.
        low: Lower ends of the intervals.
        high: Upper ends.
        scores: Predictions on the scale of normal scores, which also tells apart what is better
            than every example.
        spread: Half the width of the intervals of scores.
    """

    accuracies: Vector
    low: Vector
    high: Vector
    scores: Vector
    spread: Vector


@dataclass(frozen=True, eq=False)
class Scale:
    """Sorted values and their normal scores, between which both ways are straight lines."""

    values: Vector
    scores: Vector

    @classmethod
    def of(cls, values: Vector) -> "Scale":
        """The scale on which values have the quantiles of a normal distribution."""
        scores = norm.ppf((rankdata(values) - 0.5) / len(values))
        known, first = np.unique(values, return_index=True)
        return cls(known, scores[first])

    def forward(self, values: Vector) -> Vector:
        """Scores of values."""
        return np.interp(values, self.values, self.scores)

    def back(self, scores: Vector) -> Vector:
        """Accuracies of scores, in percent; past the best example as steep as its upper tenth."""
        top = np.searchsorted(self.values, np.quantile(self.values, 0.9))
        top = min(int(top), max(len(self.values) - 2, 0))
        run = self.scores[-1] - self.scores[top]
        slope = (self.values[-1] - self.values[top]) / run if run > 0 else 0.0
        beyond = np.maximum(scores - self.scores[-1], 0)
        found = np.interp(scores, self.scores, self.values) + slope * beyond
        # below the worst example nothing is known; an interval that goes there has no lower end
        return np.where(scores < self.scores[0] - 1e-9, 0.0, np.minimum(found, 100))


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts accuracies.

    Attributes:
        settings: How it was fitted.
        examples: What it was fitted on.
        whole: The blend that predicts.
        apart: The blends without one fold each.
        folds: The folds, as indices of the examples.
        residuals: R.
        tau: Kendall's τ-b of the predictions of the outer cross-validation.
    """

    settings: Settings
    examples: Examples
    whole: Blend
    apart: tuple[Blend, ...]
    folds: tuple[np.ndarray, ...]
    residuals: Vector
    tau: float
    scale: Scale
    features: "_Features"

    @classmethod
    def fit(cls, examples: Examples, settings: Settings) -> "Predictor":
        """Fit a predictor.

        Raises:
            DataError: The examples are too few, or all of one accuracy.
        """
        _check(examples)
        scale, make = Scale.of(examples.accuracies), _Features.of(examples, settings.encodings)
        features, values = (
            make(examples.genotypes, examples.columns),
            scale.forward(examples.accuracies),
        )
        names = settings.models
        if len(values) > MOST_FOR_GAUSSIAN_PROCESS and len(names) > 1:
            names = tuple(name for name in names if name != "gaussian_process")
        whole = blend(features, values, names, folds=settings.inner, seed=settings.seed)
        folds = tuple(split(len(values), settings.outer, settings.seed + 1))
        apart, found = [], np.zeros_like(values)
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(values)), fold)
            part = blend(
                features[rest], values[rest], names, folds=settings.inner, seed=settings.seed
            )
            found[fold] = part(features[fold])
            apart.append(part)
        residuals, tau = np.abs(values - found), float(kendalltau(found, values).statistic)
        return cls(settings, examples, whole, tuple(apart), folds, residuals, tau, scale, make)

    def __call__(self, genotypes: Sequence[Genotype], columns: Columns | None = None) -> Prediction:
        """Predict accuracies of architectures.

        Args:
            genotypes: Architectures of the predictor's search space.
            columns: Their further features, where the predictor was fitted with such.
        """
        if columns is None:
            columns = np.zeros((len(genotypes), 0))
        features = self.features(genotypes, columns)
        scores = self.whole(features)
        parts = [
            self._interval(features[start : start + _CHUNK])
            for start in range(0, len(features), _CHUNK)
        ]
        low, high = np.concatenate(parts, axis=1)
        inside = np.clip(scores, self.scale.scores[0], None)
        return Prediction(
            self.scale.back(inside),
            self.scale.back(low),
            self.scale.back(high),
            scores,
            (high - low) / 2,
        )

    def _interval(self, features: Columns) -> Float64[np.ndarray, "2 n"]:
        """Lower and upper ends by CV+, on the scale of normal scores."""
        ends = {-1: np.empty((len(features), len(self.residuals)))}
        ends[1] = ends[-1].copy()
        for fold, part in zip(self.folds, self.apart, strict=True):
            centres = part(features)[:, None]
            for sign, filled in ends.items():
                filled[:, fold] = centres + sign * self.residuals[fold]
        count = len(self.residuals)
        place = min(math.ceil(self.settings.coverage * (count + 1)), count) - 1
        low = np.partition(ends[-1], count - 1 - place, axis=1)[:, count - 1 - place]
        high = np.partition(ends[1], place, axis=1)[:, place]
        return np.stack([low, high])


def _check(examples: Examples) -> None:
    """Whether a predictor can be fitted.

    Raises:
        DataError: The examples are too few, or all of one accuracy.
    """
    count = len(examples.genotypes)
    if count < FEWEST:
        raise DataError(
            f"predictor: {count} architectures are too few for cross-validation; "
            f"needs {FEWEST} at least"
        )
    if np.ptp(examples.accuracies) == 0:
        raise DataError(
            f"predictor: all {count} architectures have the accuracy "
            f"{examples.accuracies[0]:g}; needs different ones"
        )


@dataclass(frozen=True, eq=False)
class _Features:
    """Standardized features of architectures; further columns by their normal scores."""

    encoder: Encoder
    columns: tuple[Scale, ...]
    mean: Vector
    deviation: Vector

    @classmethod
    def of(cls, examples: Examples, encodings: tuple[str, ...]) -> "_Features":
        encoder = Encoder.of(examples.genotypes, encodings)
        columns = tuple(Scale.of(column) for column in examples.columns.T)
        raw = cls(encoder, columns, np.zeros(1), np.ones(1))
        rows = raw(examples.genotypes, examples.columns)
        deviation = rows.std(axis=0)
        return cls(encoder, columns, rows.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, genotypes: Sequence[Genotype], columns: Columns) -> Columns:
        scored = [
            scale.forward(column)[:, None]
            for scale, column in zip(self.columns, columns.T, strict=True)
        ]
        rows = np.hstack([self.encoder(genotypes), *scored])
        return np.asarray((rows - self.mean) / self.deviation)
