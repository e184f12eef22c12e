"""Random genotypes that are evaluated beside what the points of a grid find.

They are points of the study whose search draws a genotype (``search.strategy: random``), so that
they are run, resumed, shared and tracked as all others. Points whose genotypes come from the same
mask and are evaluated in the same way have the same ones; a genotype that pruning alone ends with
is compared with random ones of the whole space. Of N random genotypes and S seeds, each seed has
N/S, the first ones of the study one more where that does not come out even, so that seed, mask and
training are those of the points.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from zostudy.config.loading import StudyFile, canonical, digest
from zostudy.config.settings import PruneSettings, TrialConfig
from zostudy.errors import ConfigError
from zostudy.study import points
from zostudy.study.points import Point

#: Name under which a unit and a run tell which random genotype theirs is.
MARK = "random_genotype"


def points_of(file: StudyFile, searched: Sequence[Point]) -> list[Point]:
    """The random genotypes of a grid, by the masks they are drawn from.

    Args:
        file: The study file.
        searched: The points of its grid.

    Raises:
        ConfigError: The grid has random genotypes of its own.
    """
    sweep = file.config.sweep
    if not sweep.random_baseline:
        return []
    alike: dict[str, list[Point]] = defaultdict(list)
    for point in searched:
        if point.config.search.strategy == "random":
            raise ConfigError(
                "search.strategy: 'random' is what sweep.random_baseline adds to a study; "
                "allowed: one of them"
            )
        alike[counterpart(point.config)].append(point)
    drawn = range(math.ceil(sweep.random_baseline / len(sweep.seeds)))
    return [
        replace(
            points.point(file, _values(file, group, key, draw)),
            seeds=sweep.seeds[: sweep.random_baseline - draw * len(sweep.seeds)],
            baseline=True,
        )
        for draw in drawn
        for key, group in alike.items()
    ]


def first_draws(known: Sequence[Point]) -> list[Point]:
    """Points without the further random genotypes of a mask, which need what the first needs."""
    return [point for point in known if not (point.baseline and point.config.search.draw)]


def counterpart(config: TrialConfig) -> str:
    """The key of the first random genotype that a point is compared with."""
    if config.mask_source.to_genotype:
        config = config.model_copy(update={"prune": PruneSettings()})
    return digest(canonical(config.changed("search", strategy="random", draw=0)))


def _values(file: StudyFile, group: Sequence[Point], key: str, draw: int) -> dict[str, Any]:
    """The settings of a random genotype: what its points share, unless that is not enough."""
    first = group[0]
    whole = {"prune.source": "none"} if first.config.mask_source.to_genotype else {}
    random = {**whole, "search.strategy": "random", "search.draw": draw}
    shared = {
        path: value
        for path, value in first.values.items()
        if all(other.values[path] == value for other in group)
    }
    enough = False
    with contextlib.suppress(ConfigError):  # what is not shared may be needed
        enough = counterpart(points.point(file, {**shared, **random}).config) == key
    return {**(shared if enough else first.values), **random}
