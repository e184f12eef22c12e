"""How well predictors rank the rest of NAS-Bench-201, and whether their intervals hold the truth.

``python -m benchmarks.predictors [--json] [--draws 10] [--sizes 128 1024]``: a predictor with
default settings is fitted on 128 or 1,024 random cells (CIFAR-10, mean test accuracy of 200 epochs;
data: ZOSTUDY_DATA) and predicts all others. Values are means over the draws; of each draw, the line
on stderr tells.

- ``kendall_tau``: τ-b of predictions and accuracies. ``kendall_tau_cv``: what the predictor's own
  nested cross-validation says, without any of the others.
- ``coverage_90``: share of the others whose accuracy lies in the 90 % interval.

References are a plain random forest on zero-cost proxies and graph features.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from scipy.stats import kendalltau

from benchmarks.data import there
from benchmarks.document import Row, main
from zostudy.predictors.examples import Source, read
from zostudy.predictors.predictor import Examples, Predictor, Settings
from zostudy.space.search_space import search_space

COLUMN = "CIFAR10TestAccuracy200Epochs"
REFERENCES = {128: 0.795, 1024: 0.863}
COVERAGE = 0.9


def draw(everything: Examples, count: int, seed: int) -> dict[str, float]:
    """Fit on random cells and compare with all others."""
    order = np.random.default_rng(seed).permutation(len(everything.genotypes))
    rest = everything.some(order[count:])
    predictor = Predictor.fit(everything.some(order[:count]), Settings())
    found, truth = predictor(rest.genotypes), rest.accuracies
    return {
        "kendall_tau": float(kendalltau(found.scores, truth).statistic),
        "kendall_tau_cv": predictor.tau,
        "coverage_90": float(np.mean((found.low <= truth) & (truth <= found.high))),
    }


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result."""
    source = Source(str(there("nasbench201.csv")), accuracy=COLUMN)
    everything = read(source, search_space("nasbench201"))
    for count in arguments.sizes:
        draws = []
        for seed in range(arguments.draws):
            draws.append(draw(everything, count, seed))
            print(f"{count} cells, draw {seed}: {draws[-1]}", file=sys.stderr, flush=True)
        references = {"kendall_tau": REFERENCES[count], "coverage_90": COVERAGE}
        for metric in draws[0]:
            mean = float(np.mean([one[metric] for one in draws]))
            yield Row(f"nasbench201-{count}", metric, mean, references.get(metric))


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    sizes = list(REFERENCES)
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, choices=sizes, help="cells")
    parser.add_argument("--draws", type=int, default=10, help="random draws of cells (10)")


if __name__ == "__main__":
    main("Predictors on NAS-Bench-201.", rows, options)
