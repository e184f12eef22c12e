"""How near a sweep comes to the true front of accuracy and latency, where tables know every cell.

``python -m benchmarks.fronts [--json] [--results FILE] [--seeds 10]``: the cells of NAS-Bench-201
with their test accuracy on CIFAR-10 and their latency on an edge GPU (data: ZOSTUDY_DATA). A cell
is on a front if none is at least as good in both and better in one.

- ``cells``: on the front of accuracy × latency and on that of accuracy × MACs; ``shared``: on both.
- ``hypervolume``: the area that cells dominate in the plane of accuracy and latency, as a share of
  what the true front does, up to the slowest cell and down to the worst accuracy of all.
- ``upper_hypervolume``: the same up to the slowest cell of the true front and down to the median
  accuracy, where cells of use are; nearly any front has most of the whole plane.
- ``nsga2``: what ``studies/hardware_aware.yaml`` proposes with each of ``--seeds`` seeds of its
  sampler, mean, standard deviation and least, beside as many ``random`` cells. Values are looked
  up here; no trial is run.
- ``study``, with ``--results``: the same of what ``zostudy results STUDY --json`` printed.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from jaxtyping import Float64, Int64

from benchmarks.data import there
from benchmarks.document import Row, main
from zostudy.config.loading import StudyFile, load
from zostudy.networks.macs import macs
from zostudy.networks.standalone import StandaloneNetwork
from zostudy.predictors.examples import Source, read
from zostudy.pruning.given import named
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import search_space
from zostudy.study.sweep import proposals

STUDY = Path(__file__).parents[1] / "studies" / "hardware_aware.yaml"
ACCURACIES, ACCURACY = "nasbench201.csv", "CIFAR10TestAccuracy200Epochs"
LATENCIES, LATENCY = "nasbench201_hwnasbench_cifar10.csv", "edgegpu_latency"

Values = Float64[np.ndarray, " n"]
Indices = Int64[np.ndarray, " k"]


def front(gains: Values, costs: Values) -> Indices:
    """Which points no other dominates, from the least cost to the most."""
    kept: list[int] = []
    for index in np.lexsort((-gains, costs)).tolist():
        last = kept[-1] if kept else index
        equal = (gains[index], costs[index]) == (gains[last], costs[last])
        if equal or gains[index] > gains[last]:
            kept.append(index)
    return np.array(kept)


def hypervolume(gains: Values, costs: Values, least: float, most: float) -> float:
    """The area that points dominate above a least gain and below a most cost."""
    area, reached = 0.0, least
    for index in front(gains, costs).tolist():
        if gains[index] > reached and costs[index] < most:
            area += (gains[index] - reached) * (most - costs[index])
            reached = gains[index]
    return float(area)


@dataclass(frozen=True)
class Plane:
    """All cells of the space, by accuracy in percent and latency in milliseconds."""

    index: Mapping[Genotype, int]
    accuracies: Values
    latencies: Values

    def front(self) -> Indices:
        """The true front."""
        return front(self.accuracies, self.latencies)

    def shares(self, cells: Iterable[int]) -> dict[str, float]:
        """The hypervolumes of cells as shares of those of the true front."""
        best, chosen = self.front(), np.array(list(cells))
        corners = {
            "hypervolume": (self.accuracies.min(), self.latencies.max()),
            "upper_hypervolume": (np.median(self.accuracies), self.latencies[best].max()),
        }
        return {name: self._area(chosen, c) / self._area(best, c) for name, c in corners.items()}

    def _area(self, cells: Indices, corner: tuple[float, float]) -> float:
        return hypervolume(self.accuracies[cells], self.latencies[cells], *corner)

    def proposed(self, file: StudyFile, seed: int) -> list[int]:
        """What the sampler of a study proposes, told accuracy and latency of each cell."""
        config = file.config
        space = search_space(config.search_space.name)
        sampler = config.sweep.sampler.model_copy(update={"seed": seed})
        config = config.model_copy(
            update={"sweep": config.sweep.model_copy(update={"sampler": sampler})}
        )
        study = optuna.create_study(directions=[o.direction for o in config.sweep.objectives])
        found = []
        for ended in range(config.sweep.trials):
            study.sampler = proposals.sampler(config, ended)
            trial = study.ask()
            options = file.trial(proposals.suggested(trial, config)).prune.options
            found.append(cell := self.index[named(space, **options)])
            study.tell(trial, [self.accuracies[cell], self.latencies[cell]])
        return found


def counted_macs(cell: Genotype) -> int:
    """Multiply-accumulates of the benchmark's network on CIFAR-10."""
    network = StandaloneNetwork(
        cell, cells=5, channels=16, classes=10, in_channels=3, auxiliary=False
    )
    return macs(network, 3, 32, 32)


def all_macs(cells: Iterable[Genotype]) -> Values:
    """MACs of every cell: the operations of cells with equally many convolutions cost the same."""
    known: dict[tuple[int, int], int] = {}
    found = []
    for cell in cells:
        names = [name for *_, name in cell.operations()]
        key = names.count("nor_conv_3x3"), names.count("nor_conv_1x1")
        if key not in known:
            known[key] = counted_macs(cell)
        found.append(known[key])
    return np.array(found, dtype=np.float64)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result."""
    space, file = search_space("nasbench201"), load(STUDY)
    table = read(Source(str(there(ACCURACIES)), accuracy=ACCURACY), space)
    device = read(Source(str(there(LATENCIES)), columns=(LATENCY,)), space)
    index = {cell: place for place, cell in enumerate(device.genotypes)}
    order = [index[cell] for cell in table.genotypes]
    plane = Plane(
        {cell: place for place, cell in enumerate(table.genotypes)},
        table.accuracies,
        device.columns[order, 0],
    )
    best, lean = plane.front(), front(table.accuracies, all_macs(table.genotypes))
    yield Row("accuracy × latency", "cells", len(best))
    yield Row("accuracy × MACs", "cells", len(lean))
    yield Row("accuracy × MACs", "shared", len(set(best) & set(lean)))
    yield from _shares("accuracy × MACs", plane.shares(lean))
    if arguments.results:
        yield from _study(plane, Path(arguments.results))
    drawn = np.random.default_rng(0)
    for name in ("nsga2", "random"):
        shares = []
        for seed in range(arguments.seeds):
            many = len(index), file.config.sweep.trials
            cells = plane.proposed(file, seed) if name == "nsga2" else drawn.choice(*many, False)
            shares.append(plane.shares(cells))
        yield from _spread(name, shares)


def _study(plane: Plane, path: Path) -> Iterator[Row]:
    """What a study found."""
    every = json.loads(path.read_text(encoding="utf-8"))["trials"]
    trials = [trial for trial in every if trial["state"] == "complete"]
    cells = [plane.index[genotypes.from_dict(trial["genotype"])] for trial in trials]
    yield Row("study", "trials", len(cells))
    yield Row("study", "different cells", len(set(cells)))
    found = front(plane.accuracies[cells], plane.latencies[cells])
    yield Row("study", "cells", len({cells[place] for place in found}))
    yield Row("study", "shared", len({cells[place] for place in found} & set(plane.front())))
    yield from _shares("study", plane.shares(cells))


def _shares(case: str, shares: Mapping[str, float]) -> Iterator[Row]:
    for name, value in shares.items():
        yield Row(case, name, value)


def _spread(case: str, shares: list[dict[str, float]]) -> Iterator[Row]:
    """Mean, standard deviation and least over seeds."""
    for name in shares[0]:
        values = [one[name] for one in shares]
        yield Row(case, name, statistics.fmean(values))
        yield Row(case, f"{name} sd", statistics.stdev(values))
        yield Row(case, f"{name} least", min(values))


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    parser.add_argument("--results", help="what `zostudy results STUDY --json` printed")
    parser.add_argument(
        "--seeds", type=int, default=10, choices=range(2, 1001), metavar="N",
        help="seeds of the sampler, 2 or more (10)",
    )  # fmt: skip  # one line an argument says no more


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main("Fronts of accuracy and latency on NAS-Bench-201.", rows, options)
