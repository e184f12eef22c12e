"""Whether zero-shot pruning is better than a coin, on NAS-Bench-201, where every accuracy is known.

``python -m benchmarks.coin [--json] [--functions NAME …] [--repeats 1 16] [--levels 0.5]
[--seeds 5]``: for every ranking function, number of repeats and level ξ, the masks of some seeds,
and beside each 999 coins: masks that keep as many operations of each edge, drawn blindly
(`zostudy.study.analysis.coin`). Pictures are real ones of CIFAR-10, and accuracies the table's
(data: ZOSTUDY_DATA); the supernet has one cell a stage and 8 channels.

A case is ``FUNCTION-REPEATS-LEVEL``. Of each:

- ``top_kept``: the share of the best 1 % of the architectures that a mask keeps, mean over the
  seeds; its reference is that of coins.
- ``best`` and ``mean``: the best and the mean test accuracy that is kept, percent; likewise.
- ``…_by_chance``: the probability that coins do as well; 1 / 1,000 is the least that can be seen.
  With so many functions, a few small values are chance: Holm's correction is ``…_holm``, over all
  cases of a run.

The functions that only ``exact`` can use have 1 repeat. A case takes one to two minutes on a busy
core.
"""

import argparse
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data import there
from benchmarks.document import Row, main
from zostudy import registry
from zostudy.config import loading
from zostudy.study.analysis.significance import holm
from zostudy.study.analysis.space_statistics import by_table

COLUMN = "CIFAR10TestAccuracy200Epochs"
FIGURES = ("top_kept", "best", "mean")
COINS = 999


def functions() -> dict[str, bool]:
    """Every registered ranking function, and whether the first-order scorer can use it."""
    found = registry.components("ranking_function")
    return {name: own.facts.get("differentiable") is not False for name, own in found.items()}


def document(
    name: str, repeats: int, level: float, pictures: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """What the masks of a ranking function keep."""
    first_order = functions()[name]
    study = {
        "study": "coin",
        "search_space": {"name": "nasbench201"},
        "dataset": {
            "name": "image_folder",
            "root": str(pictures),
            "resize": 16,
            "validation_fraction": 0.0,
        },
        "supernet": {"cells": 1, "channels": 8},
        "prune": {
            "source": "zero_shot",
            "xi": level,
            "ranking": [name],
            "images": arguments.pictures,
            "batch_size": arguments.pictures,
            "repeats": repeats,
            "scorer": "first_order" if first_order else "exact",
        },
        "evaluate": {"by": "table", "path": str(there("nasbench201.csv")), "column": COLUMN},
        "sweep": {"seeds": list(range(arguments.seeds)), "objectives": []},
    }
    return by_table(loading.from_document(study), COINS, lambda _: None)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every result."""
    chances: dict[str, list[tuple[str, float]]] = {figure: [] for figure in FIGURES}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(there("cifar10_jpeg_15k.tar.gz")) as archive:
            archive.extractall(folder, filter="data")
        for name in arguments.functions or functions():
            for repeats in arguments.repeats if functions()[name] else (1,):
                for level in arguments.levels:
                    pictures = Path(folder) / "cifar10_jpeg"
                    found = document(name, repeats, level, pictures, arguments)
                    case = f"{name}-{repeats}-{level:g}"
                    for figure in FIGURES:
                        coins = found["against_coin"][figure]
                        chances[figure].append((case, coins["by_chance"]))
                        yield Row(case, figure, found["after"][figure]["mean"], coins["mean"])
                        yield Row(case, f"{figure}_by_chance", coins["by_chance"])
    for figure, own in chances.items():
        for (case, _), corrected in zip(own, holm([p for _, p in own]), strict=True):
            yield Row(case, f"{figure}_holm", corrected or 0.0)


def options(parser: argparse.ArgumentParser) -> None:
    """Options of its own."""
    parser.add_argument("--functions", nargs="+", default=[], choices=list(functions()))
    parser.add_argument("--repeats", type=int, nargs="+", default=[1, 16], help="repeats (1 16)")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.5], help="ξ (0.5)")
    parser.add_argument("--seeds", type=int, default=5, help="masks a case (5)")
    parser.add_argument("--pictures", type=int, default=64, help="pictures of a repeat (64)")


if __name__ == "__main__":
    main("Zero-shot pruning against a coin.", rows, options)
