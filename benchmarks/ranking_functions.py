"""How well every ranking function tells good architectures from bad ones, where the truth is known.

``python -m benchmarks.ranking_functions [--json]``: 300 random cells of NAS-Bench-201, each scored
once without training, against its true test accuracy on CIFAR-10 (data: ZOSTUDY_DATA).

- A cell is scored in a network of its own: a supernet of 8 channels and one cell a stage (16 and 5
  in the benchmark) whose mask leaves this one architecture; the same seed initializes every cell.
- One batch of 40 real pictures, 4 of each class, the same for every cell.
- Spearman's ρ and Kendall's τ-b, in which ties count as ties, times the function's sign: 1 is
  perfect. Where a function refuses a cell (``NumericalError``, or a score that is not finite) the
  cell is tied below all others; ``refused`` counts them.
- ``_low`` and ``_high`` bound the middle 95 % of 1,000 bootstrap samples of the cells.
- ``parameters`` and ``macs`` are those of the benchmark's own network, as rankings to be beaten.

References are published values for CIFAR-10 over all 15,625 cells, with the full networks: Akhauri
et al. 2022, "EZNAS", section 6.1, as a public summary of it has them; there the ρ of gradient-based
functions and of jacob_cov are those of Abdelfattah et al. 2021, "Zero-cost proxies for lightweight
NAS". Where none is given, none was found that could be checked.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import kendalltau, spearmanr

from benchmarks.data import cifar10, there
from benchmarks.document import Row, main
from zostudy import registry
from zostudy.config.settings import EvaluateSettings, SupernetSettings
from zostudy.errors import NumericalError
from zostudy.evaluation import cost, table
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.pruning.scoring import uniform_mixing, values
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

CELLS, SEED, BOOTSTRAPS = 300, 0, 1000
PICTURES = 40
SIZE = SupernetSettings(cells=1, channels=8)
COLUMN = "CIFAR10TestAccuracy200Epochs"

#: Published correlations by ranking function.
SPEARMAN = {
    "gradient_norm": 0.58,
    "snip": 0.58,
    "grasp": 0.48,
    "fisher": 0.36,
    "synflow": 0.74,
    "jacobian_covariance": 0.73,
    "parameters": 0.75,
    "macs": 0.75,
}
KENDALL = {"naswot": 0.57, "parameters": 0.56, "macs": 0.56}

Scores = Float64[np.ndarray, " cells"]


def rankings() -> list[Ranking]:
    """Every registered ranking function with its default options."""
    space = search_space("nasbench201")
    return [
        Ranking.of({"name": name} | registry.resolve_options(component, name, {}), space)
        for name, component in registry.components("ranking_function").items()
    ]


def network(genotype: Genotype) -> Supernet:
    """A supernet that holds this one architecture, freshly initialized."""
    space = genotype.space
    kept = {
        (kind, source, target, name)
        for kind, nodes in genotype.cells.items()
        for target, node in zip(space.targets, nodes, strict=True)
        for name, source in node
    }
    rows = {
        kind: tuple(
            tuple((kind, *edge, name) in kept for name in space.operations) for edge in space.edges
        )
        for kind in space.cell_types
    }
    made = Supernet(space, OperationMask(space, rows), SIZE, in_channels=3, classes=10)
    made.kaiming_normal_(torch.Generator().manual_seed(SEED))
    return made.requires_grad_(requires_grad=False)


def score(genotype: Genotype, ranking: Ranking, batch: ProxyInputs) -> float:
    """The signed score of an architecture; NaN where it means nothing."""
    made = network(genotype)
    try:
        (value,) = values(made, uniform_mixing(made), [ranking], batch, twice=False)
    except NumericalError:
        return math.nan
    found = ranking.sign * float(value.detach())
    return found if math.isfinite(found) else math.nan


def size(genotype: Genotype) -> tuple[int, int]:
    """Parameters and MACs of the benchmark's network of an architecture."""
    made = StandaloneNetwork(
        genotype, cells=5, channels=16, classes=10, in_channels=3, auxiliary=False
    )
    return cost.parameters(made), cost.macs(made, 3, 32, 32)


def scored(genotypes: Sequence[Genotype]) -> tuple[dict[str, Scores], dict[str, float]]:
    """Scores of all architectures by ranking function, and its seconds an architecture."""
    batch, functions = cifar10(PICTURES, SEED), rankings()
    found = {ranking.name: np.full(len(genotypes), math.nan) for ranking in functions}
    seconds = dict.fromkeys(found, 0.0)
    for index, genotype in enumerate(genotypes):
        for ranking in functions:
            started = time.perf_counter()
            found[ranking.name][index] = score(genotype, ranking, batch)
            seconds[ranking.name] += (time.perf_counter() - started) / len(genotypes)
        if index % 50 == 49:
            print(f"{index + 1} of {len(genotypes)} cells", file=sys.stderr, flush=True)
    sizes = np.array([size(genotype) for genotype in genotypes], dtype=float).T
    return found | dict(zip(("parameters", "macs"), sizes, strict=True)), seconds


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


def rows() -> Iterator[Row]:
    """Every result."""
    settings = EvaluateSettings(by="table", path=str(there("nasbench201.csv")), column=COLUMN)
    truth = table.read(settings, search_space("nasbench201"))
    everything = list(truth.rows)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(SEED))
    chosen = [everything[index] for index in order[:CELLS].tolist()]
    accuracies = np.array([truth.rows[genotype].test for genotype in chosen])
    scores, seconds = scored(chosen)
    published: Mapping[str, Mapping[str, float]] = {"spearman": SPEARMAN, "kendall": KENDALL}
    for name, own in scores.items():
        whole = with_refused_last(own)
        for measure, function in (("spearman", spearmanr), ("kendall", kendalltau)):
            for metric, value in correlation(measure, function, whole, accuracies):
                yield Row(name, metric, float(value), published.get(metric, {}).get(name))
        yield Row(name, "refused", float(np.isnan(own).sum()))
        if name in seconds:
            yield Row(name, "seconds_a_cell", seconds[name])


if __name__ == "__main__":
    main("Ranking functions against the true accuracies of NAS-Bench-201.", rows)
