"""A predictor of accuracies: fitted on architectures whose accuracies are known.

Accuracies are replaced by normal scores: the few broken networks of a search space would otherwise
decide the fit. Features are standardized. Models are blended with weights from an inner
cross-validation. An outer one, of which each part chooses its own weights, tells how good such
predictions are, and how far they lie off: intervals reach as far to both sides, on the scale of
normal scores, as a share ``coverage`` of its predictions lay off. They hold that share of
architectures if these are drawn as the examples were; down to the worst example, below which
nothing is known.

CV+, which has a guarantee for any number of examples, was measured to hold 94 % of the rest of
NAS-Bench-201 where 90 % were asked of 128 examples; these intervals come nearer.

Symbols:
    n     examples
    z_i   normal score of example i
    R_i   |z_i − what is predicted of example i by models that were fitted without its fold|

References:
    Barber et al. 2021, "Predictive inference with the jackknife+", sections 1 and 3.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
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
    fitted,
    split,
)
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace

#: Fewest examples that cross-validation makes sense with.
FEWEST = 20

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
    outer: int = 8
    inner: int = 3
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
    """

    accuracies: Vector
    low: Vector
    high: Vector
    scores: Vector


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
        return np.asarray(np.interp(values, self.values, self.scores))

    def back(self, scores: Vector) -> Vector:
        """Accuracies of scores, in percent; past the best example as steep as its upper tenth."""
        top = np.searchsorted(self.values, np.quantile(self.values, 0.9))
        top = min(int(top), max(len(self.values) - 2, 0))
        run = self.scores[-1] - self.scores[top]
        slope = (self.values[-1] - self.values[top]) / run if run > 0 else 0.0
        beyond = np.maximum(scores - self.scores[-1], 0)
        found = np.interp(scores, self.scores, self.values) + slope * beyond
        return np.asarray(np.minimum(found, 100.0))


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts accuracies.

    Attributes:
        settings: How it was fitted.
        examples: What it was fitted on.
        blend: Predicts normal scores from features.
        margin: Half the width of intervals, on the scale of normal scores.
        tau: Kendall's τ-b of the predictions of the outer cross-validation.
    """

    settings: Settings
    examples: Examples
    blend: Blend
    margin: float
    tau: float
    _features: "_Features"

    @classmethod
    def fit(
        cls,
        examples: Examples,
        settings: Settings,
        report: Callable[[int, int], None] | None = None,
    ) -> "Predictor":
        """Fit a predictor; the nested cross-validation chooses its weights and its margin.

        Args:
            examples: What it is fitted on.
            settings: How.
            report: Called after each fold of the outer cross-validation, with how many are done
                and how many there are.

        Raises:
            DataError: The examples are too few, or all of one accuracy.
        """
        _check(examples)
        make = _Features.of(examples, settings.encodings)
        features, values = make.scaled(examples)
        names = settings.models
        if len(values) > MOST_FOR_GAUSSIAN_PROCESS and len(names) > 1:
            names = tuple(name for name in names if name != "gaussian_process")
        choose = functools.partial(blend, names=names, folds=settings.inner, seed=settings.seed)
        apart = np.zeros_like(values)
        for done, fold in enumerate(split(len(values), settings.outer, settings.seed + 1), 1):
            rest = np.setdiff1d(np.arange(len(values)), fold)
            apart[fold] = choose(features[rest], values[rest])(features[fold])
            if report is not None:
                report(done, settings.outer)
        margin = float(np.quantile(np.abs(values - apart), settings.coverage))
        tau = float(kendalltau(apart, values).statistic)
        return cls(settings, examples, choose(features, values), margin, tau, make)

    @classmethod
    def again(
        cls,
        examples: Examples,
        settings: Settings,
        weights: Mapping[str, float],
        margin: float,
        tau: float,
    ) -> "Predictor":
        """Fit the predictor whose nested cross-validation gave these.

        Raises:
            DataError: The examples are too few, or all of one accuracy.
        """
        _check(examples)
        make = _Features.of(examples, settings.encodings)
        found = fitted(*make.scaled(examples), weights, settings.seed)
        return cls(settings, examples, found, margin, tau, make)

    @functools.cached_property
    def _scale(self) -> Scale:
        return Scale.of(self.examples.accuracies)

    def __call__(self, genotypes: Sequence[Genotype], columns: Columns | None = None) -> Prediction:
        """Predict accuracies of architectures.

        Args:
            genotypes: Architectures of the predictor's search space.
            columns: Their further features, where the predictor was fitted with such.
        """
        if columns is None:
            columns = np.zeros((len(genotypes), 0))
        scores = self.blend(self._features(genotypes, columns))
        back = self._scale.back
        low, high = back(scores - self.margin), back(scores + self.margin)
        return Prediction(back(scores), low, high, scores)


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

    def scaled(self, examples: Examples) -> tuple[Columns, Vector]:
        """Features of examples, and the normal scores of their accuracies."""
        scores = Scale.of(examples.accuracies).forward(examples.accuracies)
        return self(examples.genotypes, examples.columns), scores

    def __call__(self, genotypes: Sequence[Genotype], columns: Columns) -> Columns:
        scored = [
            scale.forward(column)[:, None]
            for scale, column in zip(self.columns, columns.T, strict=True)
        ]
        rows = np.hstack([self.encoder(genotypes), *scored])
        return np.asarray((rows - self.mean) / self.deviation)
