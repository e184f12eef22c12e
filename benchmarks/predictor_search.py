"""Search on NAS-Bench-201 with the table as its score: regret after so many queries.

``python -m benchmarks.predictor_search [--json] [--runs 50] [--queries 200] [--algorithms …]``:
each algorithm of `search.algorithm`, with default options, asks the table for the test accuracy of
one architecture after the other (CIFAR-10, mean of 200 epochs; data: ZOSTUDY_DATA), each at most
once.

- ``regret``: how far the best of all that were asked for lies below the best of the table, in
  percentage points, mean over the runs; ``regret_low`` and ``regret_high`` are its 95 % interval
  (normal), ``regret_worst`` the largest of a run.
- The search sees the very accuracies that it is judged by, as in the literature on such tables. So
  regret says how well an algorithm searches, not how well it would with accuracies to select by.

The reference of every algorithm is random search with as many queries.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.data import there
from benchmarks.document import Row, main
from zostudy import registry
from zostudy.config.search import AlgorithmSettings, SearchSettings
from zostudy.config.settings import EvaluateSettings
from zostudy.evaluation import table
from zostudy.evaluation.table import Table
from zostudy.search.scored import proposals
from zostudy.search.scores import Score
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

COLUMN = "CIFAR10TestAccuracy200Epochs"


def regret(truth: Table, algorithm: str, queries: int, seed: int) -> float:
    """The regret of one run."""
    component = registry.find("search_algorithm", algorithm, "--algorithms")
    options = registry.resolve_options(component, algorithm, {})
    settings = SearchSettings(algorithm=AlgorithmSettings(name=algorithm, options=options))
    score = Score(("accuracy",), lambda genotype: (truth.rows[genotype].test,))
    for genotype in proposals(OperationMask.full(truth.space), settings, score, seed, queries):
        score(genotype)
    return truth(score.best()).regret


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result, random search first."""
    settings = EvaluateSettings(by="table", path=str(there("nasbench201.csv")), column=COLUMN)
    truth = table.read(settings, search_space("nasbench201"))
    reference = None
    for algorithm in dict.fromkeys(("random", *arguments.algorithms)):
        found = []
        for seed in range(arguments.runs):
            found.append(regret(truth, algorithm, arguments.queries, seed))
            print(f"{algorithm}, run {seed}: {found[-1]:.4f}", file=sys.stderr, flush=True)
        mean, spread = float(np.mean(found)), 1.96 * float(np.std(found)) / len(found) ** 0.5
        case = f"{algorithm}-{arguments.queries}"
        yield Row(case, "regret", mean, reference)
        yield Row(case, "regret_low", mean - spread)
        yield Row(case, "regret_high", mean + spread)
        yield Row(case, "regret_worst", max(found))
        reference = mean if reference is None else reference


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    known = list(registry.components("search_algorithm"))
    parser.add_argument("--runs", type=int, default=50, help="runs with other seeds (50)")
    parser.add_argument("--queries", type=int, default=200, help="architectures of a run (200)")
    parser.add_argument("--algorithms", nargs="+", default=known, choices=known, help="only these")


if __name__ == "__main__":
    main("Search with the table of NAS-Bench-201 as the score.", rows, options)
