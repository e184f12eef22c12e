"""Architectures and their accuracies from a CSV file, not necessarily of a whole search space."""

import math
from dataclasses import dataclass

import numpy as np

from zostudy.errors import ConfigError, DataError
from zostudy.predictors.predictor import Examples
from zostudy.space import csv_file
from zostudy.space import genotype as genotypes
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace
from zostudy.space.text import shown


@dataclass(frozen=True)
class Source:
    """Where examples stand.

    Attributes:
        path: The CSV file.
        architecture: Its column of architectures, in the search space's notation; or a column for
            each cell type, in the space's order and separated by commas, that holds the cell's
            ``operation:input`` pairs, separated by spaces.
        accuracy: Its column of accuracies in percent; empty where none is read.
        columns: Further columns of numbers.
    """

    path: str
    architecture: str = "ArchitectureString"
    accuracy: str = ""
    columns: tuple[str, ...] = ()


def read(source: Source, space: SearchSpace) -> Examples:
    """Read a table; accuracies are 0 where no column of them is named.

    Raises:
        ConfigError: The file cannot be read, or has no such column.
        DataError: A row is wrong, an architecture is there twice, or there is none.
    """
    cells = source.architecture.split(",")
    if len(cells) not in {1, len(space.cell_types)}:
        raise ConfigError(
            f"--architecture-column: {source.architecture!r} names {len(cells)} columns; needs "
            f"one, or one for each cell type of {space.name!r}: {', '.join(space.cell_types)}"
        )
    wanted = {f"--architecture-column {name}": name for name in cells}
    wanted |= {"--column": source.accuracy} if source.accuracy else {}
    wanted |= {f"--feature {name}": name for name in source.columns}
    content = csv_file.content(source.path, "TABLE")
    lines: dict[Genotype, int] = {}
    accuracies, rows = [], []
    for line, fields in csv_file.records(source.path, content, wanted):
        place = f"{source.path}:{line}"
        texts = [fields[name] for name in cells]
        genotype = _genotype(place, source.architecture, texts, space)
        if lines.setdefault(genotype, line) != line:
            raise DataError(
                f"{place}: {shown(','.join(texts))} is in line {lines[genotype]} too; needs one "
                "row an architecture"
            )
        accuracies.append(
            csv_file.percent(place, source.accuracy, fields[source.accuracy])
            if source.accuracy
            else 0.0
        )
        rows.append([_finite(place, name, fields[name]) for name in source.columns])
    if not lines:
        raise DataError(f"{source.path}: holds no architecture; needs a row an architecture")
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(source.columns))
    return Examples(tuple(lines), np.array(accuracies), columns, source.columns)


def _genotype(place: str, column: str, texts: list[str], space: SearchSpace) -> Genotype:
    if len(texts) == 1 and space.notation is not None:
        return csv_file.architecture(place, column, texts[0], space)

    def of_cells(_: str, space: SearchSpace) -> Genotype:
        return genotypes.of_cells(dict(zip(space.cell_types, texts, strict=True)), space)

    return csv_file.architecture(place, column, ",".join(texts), space, of_cells)


def _finite(place: str, column: str, text: str) -> float:
    value = csv_file.number(place, column, text, "a finite number")
    if not math.isfinite(value):
        raise DataError(f"{place}: {column} {text!r} is not allowed; allowed: a finite number")
    return value
