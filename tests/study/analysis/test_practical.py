"""Probabilities of practical differences, against slow integration of the same model."""

import itertools

import numpy as np
import pytest

from zostudy.study.analysis.practical import practical
from zostudy.study.analysis.significance import paired


def of(differences, rope):
    found = paired(differences)
    return practical(found.difference, found.interval, len(differences), rope)


def by_integration(differences, rope):
    """Likelihood of normal draws times 1/σ, summed over a fine grid of μ and log σ."""
    values = np.asarray(differences)
    spread, n = values.std(ddof=1), len(values)
    mu = values.mean() + spread * np.sinh(np.linspace(-9, 9, 6001))  # far tails where n is small
    log_sigma = np.log(spread) + np.linspace(-4, 14, 1801)[:, None]
    squares = ((values[:, None] - mu) ** 2).sum(0)
    log_density = -n * log_sigma - squares / (2 * np.exp(2 * log_sigma))  # dσ/σ is d log σ
    of_mu = np.exp(log_density - log_density.max()).sum(0) * np.gradient(mu)
    total = of_mu.sum()
    return [of_mu[part].sum() / total for part in (mu < -rope, np.abs(mu) <= rope, mu > rope)]


def by_drawing(differences, rope, draws=200_000):
    """Variances drawn from their posterior, and means given each of them."""
    values, draw = np.asarray(differences), np.random.default_rng(0)
    n = len(values)
    variances = ((values - values.mean()) ** 2).sum() / draw.chisquare(n - 1, draws)
    means = values.mean() + np.sqrt(variances / n) * draw.normal(size=draws)
    return [np.mean(part) for part in (means < -rope, np.abs(means) <= rope, means > rope)]


@pytest.mark.parametrize(
    ("differences", "rope"),
    [
        ([0.4, 0.1, 0.5], 0.1),
        ([-0.3, 0.2, -0.1, 0.05, -0.4], 0.25),
        ([1.2, 0.9, 1.4, 1.1, 0.7, 1.3, 1.0, 1.1], 0.5),
        ([0.02, -0.01], 0.1),
    ],
)
def test_probabilities_are_those_of_the_model_integrated_slowly(differences, rope):
    found = of(differences, rope)
    shares = [found.worse, found.same, found.better]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx(by_integration(differences, rope), abs=2e-3)
    assert shares == pytest.approx(by_drawing(differences, rope), abs=5e-3)


def test_what_is_turned_around_is_worse_where_it_was_better():
    one, other = of([0.3, 0.1, 0.6], 0.2), of([-0.3, -0.1, -0.6], 0.2)
    assert (one.worse, one.same) == pytest.approx((other.better, other.same))


def test_without_spread_nothing_is_said():
    assert of([0.5], 0.1) is None
    assert of([0.5, 0.5], 0.1) is None


def test_settled_is_what_has_a_probability_of_95_percent():
    assert of([1.0, 1.1, 0.9, 1.0], 0.1).settled == "better"
    assert of([-1.0, -1.1, -0.9, -1.0], 0.1).settled == "worse"
    assert of([0.01, -0.01, 0.0, 0.01], 0.1).settled == "same"
    assert of([0.3, -0.2, 0.1], 0.1).settled is None


def test_what_is_called_the_same_is_within_the_region_as_often_as_is_said():
    """Of true differences drawn evenly, those that look alike lie inside as often as stated."""
    draw, seeds, rope = np.random.default_rng(1), 5, 0.5
    told, inside = [], []
    for true in itertools.chain(draw.uniform(-3, 3, 4000)):
        found = of(list(draw.normal(true, 0.6, seeds)), rope)
        told.append(found.same)
        inside.append(abs(true) <= rope)
    told, inside = np.array(told), np.array(inside)
    for low, high in ((0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        alike = (told >= low) & (told < high)
        assert inside[alike].mean() == pytest.approx(told[alike].mean(), abs=0.08)
