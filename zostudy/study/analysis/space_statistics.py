"""What masks keep of a search space: the paper's Figure 1, exactly or by a predictor.

Symbols:
    n    architectures of the space that are looked at: all, or a sample
    F    distribution of their accuracies; F_m of those that mask m leaves
    KS   Kolmogorov–Smirnov distance, the largest |F − F_m| at any accuracy, 0 to 1
    W    Wasserstein distance, ∫ |F − F_m|, percentage points

The top 1 % are the architectures as good as the ⌈n / 100⌉-th best, or better.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.stats import ks_2samp, wasserstein_distance

from zostudy.config.loading import StudyFile, to_document
from zostudy.data import dataset as datasets
from zostudy.evaluation.table import read
from zostudy.predictors import storage
from zostudy.pruning.mask_sources import PruneContext
from zostudy.runtime import prepare
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import Progress, StageContext
from zostudy.study.analysis.coin import against_coin
from zostudy.study.analysis.populations import Accuracies, Census, Population, Predicted
from zostudy.study.analysis.random_choice import distribution
from zostudy.study.analysis.significance import paired

#: Widths that the histogram's bins may have, percentage points, and how many there are at least.
BINS, FEWEST_BINS = (0.5, 0.2, 0.1), 30

#: Share of the architectures that counts as the top.
TOP = 0.01

Document = dict[str, Any]


def by_table(file: StudyFile, coins: int, report: Callable[[Progress], None]) -> Document:
    """What the mask source of a study keeps of its space, where a table knows every accuracy.

    Args:
        file: A study whose evaluation is by table.
        coins: Blind masks that each is compared with; 0 for none.
        report: Called after every round of a pruning that looks at pictures.

    Returns:
        The document that ``zostudy space-statistics --json`` prints, with what coins keep
        (`zostudy.study.analysis.coin`).

    Raises:
        InputError: The table, the data set or the mask source is not right.
        NumericalError: A score means nothing.
    """
    config = file.config
    census = Census.of(
        read(config.evaluate, search_space(config.search_space.name, config.extensions))
    )
    masks = _masks(file, report)
    found = _about(file) | {"table": config.evaluate.path, "column": config.evaluate.column}
    found |= {"distinct": census.distinct} | summary(census, masks, config.sweep.seeds)
    if coins:
        top = threshold(census.accuracies)
        figures = functools.partial(shares, census, seed=0, top=top)
        found["against_coin"] = against_coin(
            lambda mask: figures(mask)[0], masks, config.sweep.seeds, coins
        )
    return found


def by_predictor(
    file: StudyFile, path: Path, samples: int, report: Callable[[Progress], None]
) -> Document:
    """The same of accuracies that are predicted, of a sample of the space.

    Args:
        file: A study.
        path: The predictor's file.
        samples: Architectures drawn of the whole space, and as many under all masks together.
        report: Called after every round of a pruning that looks at pictures.

    Raises:
        InputError: The predictor, the data set or the mask source is not right.
        NumericalError: A score means nothing.
    """
    space = search_space(file.config.search_space.name, file.config.extensions)
    predictor = storage.of_space(path, "--predictor", space)
    masks, seeds = _masks(file, report), file.config.sweep.seeds
    population = Predicted.of(predictor, samples, len(masks))
    found = _about(file) | {"predictor": str(path), "column": "predicted accuracy"}
    return (
        found
        | {"predictor_kendall_tau": predictor.tau, "sampled": True}
        | summary(population, masks, seeds)
    )


def _about(file: StudyFile) -> Document:
    return {"space": file.config.search_space.name, "prune": to_document(file.config.prune)}


def shares(
    population: Population, mask: OperationMask, seed: int, top: float
) -> tuple[dict[str, float], Accuracies]:
    """What a mask keeps, and the accuracies of it.

    Args:
        population: The architectures.
        mask: The mask.
        seed: By which architectures are drawn, where they are.
        top: The accuracy from which on one is among the top 1 %.

    Returns:
        Shares from 0 to 1 and accuracies in percent, by name.
    """
    kept = population.kept(mask, seed)
    accuracies = kept.accuracies
    figures = {"operations_kept": mask.level("operations")} | kept.figures
    among = accuracies >= top
    if "architectures_kept" in kept.figures:
        figures["top_kept"] = float(among.sum() / (population.accuracies >= top).sum())
    figures |= {
        "top_among_kept": float(among.mean()),
        "mean": float(accuracies.mean()),
        "median": float(np.median(accuracies)),
        "upper_quarter": float(np.quantile(accuracies, 0.75)),
    }
    return figures, accuracies


def distances(whole: Accuracies, kept: Accuracies) -> dict[str, float]:
    """How far two distributions lie apart: KS and W."""
    return {
        "kolmogorov_smirnov": float(ks_2samp(whole, kept, method="asymp").statistic),
        "wasserstein": float(wasserstein_distance(whole, kept)),
    }


def threshold(accuracies: Accuracies) -> float:
    """The accuracy from which on an architecture is among the top 1 %."""
    best = math.ceil(TOP * len(accuracies))
    found: float = np.sort(accuracies)[-best]
    return found


def summary(
    population: Population, masks: Sequence[OperationMask], seeds: Sequence[int]
) -> Document:
    """What masks keep, each and on the average: mean, standard deviation and 95 % interval."""
    whole = population.accuracies
    edges, top = _edges(whole), threshold(whole)
    each, histograms = [], []
    for mask, seed in zip(masks, seeds, strict=True):
        figures, kept = shares(population, mask, seed, top)
        each.append(figures | distances(whole, kept))
        histograms.append(_histogram(kept, edges))
    before = shares(population, OperationMask.full(masks[0].space), 0, top)[0]
    before |= distances(whole, whole)
    return {
        "architectures": len(whole),
        "top": {"count": int((whole >= top).sum()), "from": float(top)},
        "bins": edges.tolist(),
        "before": before
        | {"accuracy": distribution(whole), "histogram": _histogram(whole, edges).tolist()},
        "after": {name: _spread([figures[name] for figures in each]) for name in each[0]}
        | {"histogram": np.mean(histograms, axis=0).tolist()},
        "seeds": [
            {"seed": seed}
            | figures
            | {"histogram": histogram.tolist(), "mask": mask.to_dict()["cells"]}
            for seed, figures, histogram, mask in zip(seeds, each, histograms, masks, strict=True)
        ],
    }


def _edges(accuracies: Accuracies) -> Float64[np.ndarray, " edges"]:
    """Edges of the bins between which all accuracies lie, percent; fine ones of a narrow range."""
    low, high = accuracies.min(), accuracies.max()
    width = next((width for width in BINS if high - low >= FEWEST_BINS * width), BINS[-1])
    return width * np.arange(math.floor(low / width), math.floor(high / width) + 2)


def _histogram(
    accuracies: Accuracies, edges: Float64[np.ndarray, " edges"]
) -> Float64[np.ndarray, " bins"]:
    """The share of accuracies in each bin; those of a sample beyond the ends count there."""
    inside = np.clip(accuracies, edges[0], edges[-1])
    return np.histogram(inside, edges)[0] / len(accuracies)


def _spread(values: Sequence[float]) -> Mapping[str, Any]:
    return {
        "mean": fmean(values),
        "sd": stdev(values) if len(values) > 1 else None,
        "interval": paired(values).interval,
    }


def _masks(file: StudyFile, report: Callable[[Progress], None]) -> list[OperationMask]:
    """The mask of every seed; pictures are read only for a source that looks at them."""
    config = file.config
    source, runtime = config.mask_source, prepare(config.runtime)
    blind = source.known
    gather = datasets.outline if blind else datasets.load
    dataset = gather(config.dataset, config.extensions)
    source.check(PruneContext.of(config, dataset, StageContext(runtime, seed=0)))
    found = []
    for seed in config.sweep.seeds:
        stage = StageContext(runtime, seed) if blind else StageContext(runtime, seed, report=report)
        found.append(source(PruneContext.of(config, dataset, stage)).mask)
    return found
