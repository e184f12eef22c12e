"""How well every ranking function tells good architectures from bad ones, where the truth is known.

``python -m benchmarks.ranking_functions [--json]``: 60 random cells of NAS-Bench-201 in networks of
the benchmark's size, each scored once without training, against its true test accuracy on CIFAR-10
and, cell by cell, against the values that others published (data: ZOSTUDY_DATA).

- A cell is scored in a network of its own: a supernet of 16 channels and 5 cells a stage whose mask
  leaves this one architecture, with torch's default initialization; the same seed initializes every
  cell. ``--cells-a-stage 1 --channels 8`` are the small networks; what they say is of small ones.
- One batch of random real pictures, the same for every cell and as many of each class.
- Cells are drawn from those that were published, none of which has unreachable operations;
  ``--unreachable`` draws from all others instead, whose ``published`` correlations do not exist.
- ``spearman`` and ``kendall``: rank correlation with accuracy, in which ties count as ties, times
  the function's sign: 1 is perfect. Where a function refuses a cell (``NumericalError``, or a score
  that is not finite) the cell is tied below all others; ``refused`` counts them.
- ``_low`` and ``_high`` bound the middle 95 % of 1,000 bootstrap samples of the cells.
- ``published``: Spearman's ρ with the published column, cell by cell.
- ``beyond_convolutions``: Spearman's partial ρ with accuracy, given the numbers of 1×1 and of 3×3
  convolutions: what a function knows beyond that count.
- ``parameters``, ``macs`` and ``convolutions`` are those of the cell, as rankings to be beaten.

References of ``spearman`` are those of the published columns over the 4,723 cells of the file.
"""

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import kendalltau, rankdata, spearmanr

from benchmarks.data import cifar10, there
from benchmarks.document import Row, main
from zostudy import registry
from zostudy.config.settings import EvaluateSettings, SupernetSettings
from zostudy.errors import NumericalError
from zostudy.evaluation import cost, table
from zostudy.networks.macs import macs
from zostudy.networks.mixing import Mixing
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.networks.supernet import Supernet
from zostudy.predictors.encodings import live_edges
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import stand_alone, values
from zostudy.space.genotype import Genotype, parse
from zostudy.space.search_space import SearchSpace, search_space

SEED, BOOTSTRAPS = 0, 1000
COLUMN = "CIFAR10TestAccuracy200Epochs"
PUBLISHED = "nasbench201_zerocost_cifar10_half.csv"

#: The published columns, by the names of ranking functions.
COLUMNS = {
    "gradient_norm": "grad_norm",
    "snip": "snip",
    "grasp": "grasp",
    "fisher": "fisher",
    "synflow": "synflow",
    "jacobian_covariance": "jacov",
    "naswot": "nwot",
    "zen": "zen",
    "parameters": "params",
    "macs": "flops",
}

Scores = Float64[np.ndarray, " cells"]


def rankings() -> list[Ranking]:
    """Every registered ranking function with its default options."""
    space = search_space("nasbench201")
    return [
        Ranking.of({"name": name} | registry.resolve_options(component, name, {}), space)
        for name, component in registry.components("ranking_function").items()
    ]


def network(genotype: Genotype, size: SupernetSettings) -> tuple[Supernet, Mixing]:
    """A network of this one architecture, freshly initialized, and its mixing."""
    torch.manual_seed(SEED)
    return stand_alone(genotype, size, in_channels=3, classes=10)


def score(made: Supernet, mixing: Mixing, ranking: Ranking, batch: ProxyInputs) -> float:
    """The signed score of a network; NaN where it means nothing."""
    try:
        (value,) = values(made, mixing, [ranking], batch, twice=False)
    except NumericalError:
        return math.nan
    found = ranking.sign * float(value.detach())
    return found if math.isfinite(found) else math.nan


def size(genotype: Genotype) -> tuple[int, int]:
    """Parameters and MACs of the benchmark's network of an architecture."""
    made = StandaloneNetwork(
        genotype, cells=5, channels=16, classes=10, in_channels=3, auxiliary=False
    )
    return cost.parameters(made), macs(made, 3, 32, 32)


def scored(
    genotypes: Sequence[Genotype], arguments: argparse.Namespace
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Scores of all architectures by ranking function, and its seconds an architecture."""
    batch = cifar10(arguments.pictures, SEED)
    functions = [r for r in rankings() if r.name in arguments.functions or not arguments.functions]
    settings = SupernetSettings(cells=arguments.cells_a_stage, channels=arguments.channels)
    found = {ranking.name: np.full(len(genotypes), math.nan) for ranking in functions}
    seconds = dict.fromkeys(found, 0.0)
    for index, genotype in enumerate(genotypes):
        made, mixing = network(genotype, settings)
        for ranking in functions:
            started = time.perf_counter()
            found[ranking.name][index] = score(made, mixing, ranking, batch)
            seconds[ranking.name] += (time.perf_counter() - started) / len(genotypes)
        line = " ".join(f"{name}={own[index]:.6g}" for name, own in found.items())
        print(f"{index + 1} of {len(genotypes)}: {line}", file=sys.stderr, flush=True)
    sizes = np.array([size(genotype) for genotype in genotypes], dtype=float).T
    named = dict(zip(("parameters", "macs"), sizes, strict=True))
    return found | named | {"convolutions": convolutions(genotypes).sum(axis=1)}, seconds


def convolutions(genotypes: Sequence[Genotype]) -> Float64[np.ndarray, "cells 2"]:
    """How many 1×1 and 3×3 convolutions cells have."""
    texts = [genotype.to_notation() for genotype in genotypes]
    counts = [[text.count(f"nor_conv_{side}x{side}") for side in (1, 3)] for text in texts]
    return np.array(counts, dtype=np.float64)


def beyond(scores: Scores, accuracies: Scores, given: Float64[np.ndarray, "cells 2"]) -> float:
    """Spearman's partial ρ of scores and accuracies, given other numbers of the cells."""
    ranks = np.column_stack([np.ones(len(given)), *map(rankdata, given.T)])
    left = [
        rankdata(values) - ranks @ np.linalg.lstsq(ranks, rankdata(values), rcond=None)[0]
        for values in (scores, accuracies)
    ]
    return float(np.corrcoef(*left)[0, 1])


def published(space: SearchSpace) -> dict[Genotype, dict[str, str]]:
    """What others published of each cell, by column."""
    with there(PUBLISHED).open(encoding="utf-8", newline="") as file:
        return {parse(row["ArchitectureString"], space): row for row in csv.DictReader(file)}


def with_refused_last(scores: Scores) -> Scores:
    """Scores in which those that mean nothing are tied below all others."""
    known = scores[~np.isnan(scores)]
    lowest = known.min() - 1 if len(known) else 0.0
    return np.where(np.isnan(scores), lowest, scores)


def correlation(
    name: str, measure: Callable[..., Any], scores: Scores, accuracies: Scores
) -> Iterator[tuple[str, float]]:
    """A correlation and the ends of the middle 95 % of its bootstrap distribution."""
    generator = np.random.default_rng(SEED)
    drawn = generator.integers(0, len(scores), (BOOTSTRAPS, len(scores)))
    samples = [measure(scores[rows], accuracies[rows]).statistic for rows in drawn]
    low, high = np.nanquantile(samples, (0.025, 0.975))
    yield from (
        (name, measure(scores, accuracies).statistic),
        (f"{name}_low", low),
        (f"{name}_high", high),
    )


def chosen_from(
    everything: Sequence[Genotype], known: Collection[Genotype], arguments: argparse.Namespace
) -> list[Genotype]:
    """Random cells of those that were published, or of those with unreachable operations."""
    if arguments.unreachable:
        pool = [g for g in everything if len(live_edges(g, "normal")) < operations(g)]
    else:
        pool = [genotype for genotype in everything if genotype in known]
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(SEED))
    return [pool[index] for index in order[: arguments.cells].tolist()]


def operations(genotype: Genotype) -> int:
    """How many edges of a cell have an operation."""
    return sum(name != "none" for node in genotype.cells["normal"] for name, _ in node)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result."""
    space = search_space("nasbench201")
    settings = EvaluateSettings(by="table", path=str(there("nasbench201.csv")), column=COLUMN)
    truth, known = table.read(settings, space), published(space)
    chosen = chosen_from(list(truth.rows), known, arguments)
    accuracies = np.array([truth.rows[genotype].test for genotype in chosen])
    of_known = np.array([truth.rows[genotype].test for genotype in known])
    scores, seconds = scored(chosen, arguments)
    for name, own in scores.items():
        whole, column = with_refused_last(own), COLUMNS.get(name)
        reference = None
        if column:
            everywhere = [float(row[column]) for row in known.values()]
            reference = float(spearmanr(everywhere, of_known).statistic)
        for measure, function in (("spearman", spearmanr), ("kendall", kendalltau)):
            for metric, value in correlation(measure, function, whole, accuracies):
                yield Row(name, metric, float(value), reference if metric == "spearman" else None)
        yield Row(name, "beyond_convolutions", beyond(whole, accuracies, convolutions(chosen)))
        if column and not arguments.unreachable:
            theirs = [float(known[genotype][column]) for genotype in chosen]
            yield Row(name, "published", float(spearmanr(whole, theirs).statistic))
        yield Row(name, "refused", float(np.isnan(own).sum()))
        if name in seconds:
            yield Row(name, "seconds_a_cell", seconds[name])


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    parser.add_argument("--cells", type=int, default=60, help="cells that are scored (60)")
    parser.add_argument("--cells-a-stage", type=int, default=5, help="of each network (5)")
    parser.add_argument("--channels", type=int, default=16, help="of the first stage (16)")
    parser.add_argument("--pictures", type=int, default=60, help="a multiple of 10 (60)")
    parser.add_argument("--functions", nargs="*", default=(), help="only these")
    parser.add_argument(
        "--unreachable", action="store_true", help="cells with operations that lead nowhere"
    )


if __name__ == "__main__":
    main("Ranking functions against the true accuracies of NAS-Bench-201.", rows, options)
