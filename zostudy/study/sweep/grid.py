"""The points of a grid, its random genotypes behind them, and the order in which they are run."""

import itertools
from collections.abc import Iterator, Mapping

from zostudy.config.loading import StudyFile
from zostudy.study import points
from zostudy.study.points import Point
from zostudy.study.sweep import random_baseline


def of_study(file: StudyFile) -> dict[str, Point]:
    """The points of a grid by their keys, then those of its random genotypes.

    Of a sampled sweep none are known beforehand.

    Raises:
        ConfigError: The settings are wrong at some point.
    """
    if file.config.sweep.sampler.samples:
        return {}
    searched = points.grid(file)
    return {point.key: point for point in (*searched, *random_baseline.points_of(file, searched))}


def in_order(file: StudyFile, known: Mapping[str, Point]) -> Iterator[tuple[Point, int]]:
    """The points and seeds of a grid in the order in which they are run.

    Under a budget all points have one seed before any has two.

    Args:
        file: The study file.
        known: Its points, by key.
    """
    sweep = file.config.sweep
    if sweep.budget is None:
        return ((p, seed) for p in known.values() for seed in p.seeds_among(sweep.seeds))
    every = itertools.product(sweep.seeds, known.values())
    return ((point, seed) for seed, point in every if seed in point.seeds_among(sweep.seeds))
