"""Regressions of scaled accuracies on features, and their blend.

A model is fitted by a function ``(features, values, seed) -> predict``; both sides are scaled
already. The same seed gives the same bits.

Symbols:
    X   float[n, d], features with mean 0 and variance 1
    z   float[n], values with mean 0 and variance about 1
    w   weights of a blend, at least 0, sum 1
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

Matrix = Float64[np.ndarray, "n d"]
Values = Float64[np.ndarray, " n"]
Predict = Callable[[Matrix], Values]

#: What the Gaussian process chooses from, by marginal likelihood: length scales in multiples of
#: √d, shares of a linear kernel, and variances of noise in multiples of the signal's.
_LENGTHS, _LINEAR = (0.25, 0.5, 1.0, 2.0, 4.0), (0.0, 0.3)
_NOISES = tuple(10.0 ** np.arange(-3, 1.1, 0.25))

#: Examples above which the Gaussian process, whose time grows with n³, is left out.
MOST_FOR_GAUSSIAN_PROCESS = 2000

#: Weights of a blend below which a model is left out of it.
_LEAST_WEIGHT = 0.02


def gaussian_process(features: Matrix, values: Values, seed: int) -> Predict:
    """Matérn 5/2 and linear kernel, with hyperparameters of the largest marginal likelihood."""
    del seed
    posterior = gaussian_posterior(features, values)
    return lambda others: posterior(others)[0]


def gaussian_posterior(
    features: Matrix, values: Values
) -> Callable[[Matrix], tuple[Values, Values]]:
    """The same Gaussian process; gives means and standard deviations, without that of noise."""
    count = len(values)
    best, chosen, variance = np.inf, (1.0, 0.0, 1.0), 1.0
    for length, linear in itertools.product(_LENGTHS, _LINEAR):
        spectrum, vectors = eigh(_kernel(features, features, length, linear))
        along = (vectors.T @ values) ** 2
        for noise in _NOISES:
            scaled = np.maximum(spectrum, 0) + noise
            # the signal's variance is mean(along / scaled) where the likelihood is largest
            cost = count * np.log(np.mean(along / scaled)) + np.log(scaled).sum()
            if cost < best:
                best, chosen = cost, (length, linear, noise)
                variance = float(np.mean(along / scaled))
    length, linear, noise = chosen
    covariance = _kernel(features, features, length, linear) + noise * np.eye(count)
    factor = cho_factor(covariance)
    solved = cho_solve(factor, values)

    def posterior(others: Matrix) -> tuple[Values, Values]:
        between = _kernel(others, features, length, linear)
        own = 1 + linear * (1 + (others**2).mean(axis=1))
        left = own - (between * cho_solve(factor, between.T).T).sum(axis=1)
        return between @ solved, np.sqrt(variance * np.maximum(left, 0))

    return posterior


def _kernel(left: Matrix, right: Matrix, length: float, linear: float) -> Matrix:
    width = left.shape[1]
    distance = np.sqrt(5 / width) / length * cdist(left, right)
    matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return np.asarray(matern + linear * (1 + left @ right.T / width))


def extra_trees(features: Matrix, values: Values, seed: int) -> Predict:
    """200 extremely randomized trees, half of the features a split."""
    made = ExtraTreesRegressor(200, max_features=0.5, random_state=seed)
    return _predict(made.fit(features, values))


def random_forest(features: Matrix, values: Values, seed: int) -> Predict:
    """100 trees on bootstrap samples, two fifths of the features a split."""
    made = RandomForestRegressor(100, max_features=0.4, random_state=seed)
    return _predict(made.fit(features, values))


def gradient_boosting(features: Matrix, values: Values, seed: int) -> Predict:
    """200 trees of depth 4, each on half of the examples and a fifth of the features a split."""
    made = GradientBoostingRegressor(
        n_estimators=200,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.5,
        max_features=0.2,
        random_state=seed,
    )
    return _predict(made.fit(features, values))


def mlp(features: Matrix, values: Values, seed: int) -> Predict:
    """Mean of three networks of one hidden layer of 32 units, with weight decay, by L-BFGS."""
    made = [
        MLPRegressor(
            hidden_layer_sizes=(32,),
            alpha=1.0,
            solver="lbfgs",
            max_iter=200,
            random_state=seed + index,
        )
        for index in range(3)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early on purpose
        fitted = [_predict(network.fit(features, values)) for network in made]
    return lambda others: np.asarray(np.mean([one(others) for one in fitted], axis=0))


def _predict(fitted: object) -> Predict:
    return lambda others: np.asarray(fitted.predict(others))  # type: ignore[attr-defined]


MODELS: Mapping[str, Callable[[Matrix, Values, int], Predict]] = {
    "gaussian_process": gaussian_process,
    "extra_trees": extra_trees,
    "random_forest": random_forest,
    "gradient_boosting": gradient_boosting,
    "mlp": mlp,
}


@dataclass(frozen=True)
class Blend:
    """A weighted mean of models.

    Attributes:
        weights: w, by the names of models.
        fitted: The models, by name.
    """

    weights: Mapping[str, float]
    fitted: Mapping[str, Predict]

    def __call__(self, features: Matrix) -> Values:
        """Predicted values."""
        found = [weight * self.fitted[name](features) for name, weight in self.weights.items()]
        return np.asarray(np.sum(found, axis=0))


def blend(
    features: Matrix, values: Values, names: Sequence[str], *, folds: int, seed: int
) -> Blend:
    """A blend whose weights are those of the least squared error in cross-validation.

    Args:
        features: X.
        values: z.
        names: Names of `MODELS`.
        folds: Folds of the cross-validation.
        seed: Seed of folds and models.

    References:
        Breiman 1996, "Stacked regressions".
    """
    weights = {names[0]: 1.0}
    if len(names) > 1:
        apart = np.zeros((len(values), len(names)))
        for fold in split(len(values), folds, seed):
            rest = np.setdiff1d(np.arange(len(values)), fold)
            for column, name in enumerate(names):
                predict = MODELS[name](features[rest], values[rest], seed)
                apart[fold, column] = predict(features[fold])
        weights = _convex(dict(zip(names, nnls(apart, values)[0].tolist(), strict=True)))
    return fitted(features, values, weights, seed)


def fitted(features: Matrix, values: Values, weights: Mapping[str, float], seed: int) -> Blend:
    """The blend of these weights."""
    return Blend(weights, {name: MODELS[name](features, values, seed) for name in weights})


def _convex(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of sum 1 without small ones; equal weights where all are 0."""
    total = sum(weights.values())
    if total <= 0:
        return {name: 1 / len(weights) for name in weights}
    large = {name: w for name, w in weights.items() if w >= _LEAST_WEIGHT * total}
    return {name: w / sum(large.values()) for name, w in large.items()}


def split(count: int, folds: int, seed: int) -> list[np.ndarray]:
    """Indices of 0 to count − 1 in folds, at random."""
    return np.array_split(np.random.default_rng(seed).permutation(count), folds)
