"""What masks keep of a search space whose accuracies are known: the paper's Figure 1, exactly.

Symbols:
    n    architectures of the space, all in the table
    A_m  architectures that mask m leaves: those whose every operation it keeps
    k    ⌈n / 100⌉; the top 1 % are the architectures as good as the k-th best, or better
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from zostudy.config.loading import StudyFile, to_document
from zostudy.data import dataset as datasets
from zostudy.evaluation.table import Table, read
from zostudy.pruning.mask_sources import PruneContext
from zostudy.runtime import prepare
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import Progress, StageContext
from zostudy.study.analysis.random_choice import distribution

#: Width of the histogram's bins, percentage points.
BIN = 0.5

#: Share of the architectures that counts as the top.
TOP = 0.01

Document = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Census:
    """The architectures of a table, arranged so that those under a mask are found at once.

    Attributes:
        accuracies: Test accuracies in percent.
        places: For each architecture, its operations by their place in the mask's rows.
        classes: For each architecture, its class of isomorphic ones.
    """

    accuracies: Float64[np.ndarray, " architectures"]
    places: Int64[np.ndarray, "architectures operations"]
    classes: Int64[np.ndarray, " architectures"]

    @classmethod
    def of(cls, table: Table) -> "Census":
        """The census of a table."""
        space = table.space
        operations = len(space.operations)
        starts = {
            kind: index * len(space.edges) * operations
            for index, kind in enumerate(space.cell_types)
        }
        place = {
            (kind, name, edge): starts[kind] + row * operations + column
            for kind in space.cell_types
            for row, edge in enumerate(space.edges)
            for column, name in enumerate(space.operations)
        }
        places = [
            [
                place[kind, name, (source, target)]
                for kind, source, target, name in genotype.operations()
            ]
            for genotype in table.rows
        ]
        names = [genotype.canonical() for genotype in table.rows]
        classes = np.unique(names, return_inverse=True)[1]
        return cls(table.accuracies, np.array(places), classes)

    @property
    def top(self) -> Bool[np.ndarray, " architectures"]:
        """Which architectures are among the top 1 %."""
        best = math.ceil(TOP * len(self.accuracies))
        threshold: float = np.sort(self.accuracies)[-best]
        found: Bool[np.ndarray, " architectures"] = self.accuracies >= threshold
        return found

    def under(self, mask: OperationMask) -> Bool[np.ndarray, " architectures"]:
        """Which architectures a mask leaves."""
        kept = np.array([value for rows in mask.rows.values() for row in rows for value in row])
        found: Bool[np.ndarray, " architectures"] = kept[self.places].all(axis=1)
        return found

    def statistics(self, mask: OperationMask) -> dict[str, float]:
        """What a mask keeps: shares from 0 to 1, accuracies in percent."""
        kept = self.under(mask)
        accuracies = self.accuracies[kept]
        return {
            "operations_kept": mask.level("operations"),
            "architectures_kept": float(kept.mean()),
            "distinct_kept": len(np.unique(self.classes[kept])) / len(np.unique(self.classes)),
            "top_kept": float(kept[self.top].mean()),
            "top_among_kept": float(self.top[kept].mean()),
            "best": float(accuracies.max()),
            "regret": float(self.accuracies.max() - accuracies.max()),
            "mean": float(accuracies.mean()),
            "median": float(np.median(accuracies)),
        }

    def histogram(
        self, edges: Float64[np.ndarray, " edges"], mask: OperationMask
    ) -> Float64[np.ndarray, " bins"]:
        """Share of the architectures that a mask leaves in each bin of accuracy."""
        kept = self.accuracies[self.under(mask)]
        return np.histogram(kept, edges)[0] / len(kept)

    def edges(self) -> Float64[np.ndarray, " edges"]:
        """Edges of the bins between which all accuracies lie, percent."""
        low = math.floor(self.accuracies.min() / BIN)
        high = math.floor(self.accuracies.max() / BIN) + 1
        return BIN * np.arange(low, high + 1)


def statistics(file: StudyFile, report: Callable[[Progress], None]) -> Document:
    """What the mask source of a study keeps of its space, for every seed and on the average.

    Args:
        file: A study whose evaluation is by table.
        report: Called after every round of a pruning that looks at pictures.

    Returns:
        The document that ``zostudy space-statistics --json`` prints.

    Raises:
        InputError: The table, the data set or the mask source is not right.
        NumericalError: A score means nothing.
    """
    config = file.config
    table = read(config.evaluate, search_space(config.search_space.name, config.extensions))
    masks = _masks(file, report)
    seeds = config.sweep.seeds
    found = summary(Census.of(table), masks)
    for seed, own in zip(seeds, found["seeds"], strict=True):
        own["seed"] = seed
    return {
        "space": config.search_space.name,
        "table": config.evaluate.path,
        "column": config.evaluate.column,
        "prune": to_document(config.prune),
    } | found


def summary(census: Census, masks: Sequence[OperationMask]) -> Document:
    """What masks keep, each and on the average: mean and sample standard deviation."""
    edges = census.edges()
    each = [census.statistics(mask) for mask in masks]
    histograms = [census.histogram(edges, mask) for mask in masks]
    everything = OperationMask.full(masks[0].space)
    return {
        "architectures": len(census.accuracies),
        "distinct": len(np.unique(census.classes)),
        "top": {"count": int(census.top.sum()), "from": float(census.accuracies[census.top].min())},
        "bins": edges.tolist(),
        "before": census.statistics(everything)
        | {
            "accuracy": distribution(census.accuracies),
            "histogram": census.histogram(edges, everything).tolist(),
        },
        "after": {name: _spread([figures[name] for figures in each]) for name in each[0]}
        | {"histogram": np.mean(histograms, axis=0).tolist()},
        "seeds": [
            figures | {"histogram": histogram.tolist(), "mask": mask.to_dict()["cells"]}
            for figures, histogram, mask in zip(each, histograms, masks, strict=True)
        ],
    }


def _spread(values: Sequence[float]) -> Mapping[str, float | None]:
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None}


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
