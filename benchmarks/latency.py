"""How well the latency of a device is learned from 20 cells that were measured on it.

``python -m benchmarks.latency [--json] [--draws 10] [--cells 20] [--limit]``: for each of the 27
settings of devices in HELP's table of NAS-Bench-201 (data: ZOSTUDY_DATA), the model of
`zostudy.predictors.latency` is fitted on random cells and predicts all others. Nothing of other
devices is used. Values are means over the draws.

- ``spearman`` of predicted and measured latencies, beside the 0.97 that are wanted.
- ``median_error``: median of |predicted − measured| / measured, percent, beside 5.
- ``limit_spearman``, ``limit_error``, with ``--limit``: the same of boosted trees that are fitted
  on 12,000 cells and predict the other 3,625. What they miss is mostly noise of the table, which no
  predictor from the architecture alone can know.
- ``settings``: how many settings have both, and how many have both at the limit.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.data import there
from benchmarks.document import Row, main
from zostudy.predictors.encodings import Encoder
from zostudy.predictors.examples import Source, read
from zostudy.predictors.latency import LatencyModel
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space

TABLE = "nasbench201_latency_help_27devices.csv"
SPEARMAN, ERROR = 0.97, 5.0

#: Cells that the boosted trees are fitted on.
_MANY = 12_000

Latencies = Float64[np.ndarray, " n"]
Figures = tuple[float, float]


def figures(predicted: Latencies, measured: Latencies) -> Figures:
    """Spearman's rank correlation, and the median error in percent."""
    error = float(np.median(np.abs(predicted / measured - 1)))
    return float(spearmanr(predicted, measured).statistic), 100 * error


def draw(cells: Sequence[Genotype], latencies: Latencies, count: int, seed: int) -> Figures:
    """Fit on random cells and compare with all others."""
    order = np.random.default_rng(seed).permutation(len(cells))
    some, rest = order[:count], order[count:]
    model = LatencyModel.fit([cells[i] for i in some], latencies[some])
    return figures(model([cells[i] for i in rest]), latencies[rest])


def limit(features: Float64[np.ndarray, "n d"], latencies: Latencies) -> Figures:
    """What boosted trees reach from many cells."""
    order = np.random.default_rng(0).permutation(len(latencies))
    some, rest = order[:_MANY], order[_MANY:]
    trees = HistGradientBoostingRegressor(max_iter=200, random_state=0)
    trees.fit(features[some], np.log(latencies[some]))
    return figures(np.exp(trees.predict(features[rest])), latencies[rest])


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result."""
    path = there(TABLE)
    with path.open(encoding="utf-8") as file:
        devices = tuple(file.readline().strip().split(",")[2:])
    table = read(Source(str(path), columns=devices), search_space("nasbench201"))
    cells = table.genotypes
    features = Encoder.of(cells, ("adjacency", "graph"))(cells) if arguments.limit else None
    met = {"": 0, "limit_": 0}
    for index, device in enumerate(devices):
        latencies = table.columns[:, index]
        draws = [draw(cells, latencies, arguments.cells, s) for s in range(arguments.draws)]
        rho, error = np.mean(draws, axis=0).tolist()
        found = {"": (rho, error)}
        if features is not None:
            found["limit_"] = limit(features, latencies)
        for prefix, (rho, error) in found.items():
            met[prefix] += rho >= SPEARMAN and error <= ERROR
            yield Row(device, f"{prefix}spearman", rho, SPEARMAN)
            yield Row(device, f"{prefix}median_error", error, ERROR)
    for prefix in found:
        yield Row("settings", f"{prefix}both", met[prefix], len(devices))


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    parser.add_argument("--draws", type=int, default=10, help="random draws of cells (10)")
    parser.add_argument("--cells", type=int, default=20, help="measured cells (20)")
    parser.add_argument("--limit", action="store_true", help="also what many cells would give")


if __name__ == "__main__":
    main("Latency of 27 devices from few measured cells of NAS-Bench-201.", rows, options)
