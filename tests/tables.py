"""A made-up table of a search space with 27 architectures, for tests that need one."""

import csv
import io
import random
from pathlib import Path

from benchmarks.data import FOLDER
from zostudy.config.settings import EvaluateSettings
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.space.notation import EdgeNotation
from zostudy.space.search_space import SearchSpace, Skeleton, search_space
from zostudy.space.variation import Variation

SPACE = SearchSpace(
    name="tiny",
    cell_types=("normal",),
    reduction_types=(),
    inputs=1,
    nodes=2,
    operations=("none", "skip_connect", "nor_conv_1x1"),
    zero="none",
    kept_edges="all",
    keeps_zero=True,
    identity="skip_connect",
    output="last",
    skeleton=Skeleton(halving="blocks", stem=1, head="norm"),
    notation=EdgeNotation("normal"),
)

#: The real table, where it is there.
NASBENCH201 = FOLDER / "nasbench201.csv"


def made_up(space: SearchSpace = SPACE) -> list[list[str]]:
    """Header and rows: test accuracies from 10 up in equal steps, validation a little lower."""
    found = list(enumeration.genotypes(OperationMask.full(space)))
    step = 80 / (len(found) - 1)
    rows = [
        [genotype.to_notation(), repr(10 + index * step), repr(9 + index * step)]
        for index, genotype in enumerate(found)
    ]
    return [["ArchitectureString", "test", "validation"], *rows]


def darts(count: int, name: str = "predicted_accuracy") -> list[list[str]]:
    """Header and rows of random cells of the DARTS space; accuracies grow with convolutions."""
    space = search_space("darts")
    rows = []
    variation = Variation(OperationMask.full(space), random.Random(0))
    for genotype in (variation.random() for _ in range(count)):
        cells = [
            " ".join(f"{name}:{source}" for node in genotype.cells[kind] for name, source in node)
            for kind in space.cell_types
        ]
        convolutions = sum("conv" in operation for *_, operation in genotype.operations())
        rows.append([*cells, str(80 + convolutions)])
    return [["normal", "reduce", name], *rows]


def write(path: Path, rows: list[list[str]]) -> Path:
    """A CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue())
    return path


def settings(path: Path, **changes: str | int) -> EvaluateSettings:
    """Settings of an evaluation by that table."""
    return EvaluateSettings(**{"by": "table", "path": str(path), "column": "test"} | changes)
