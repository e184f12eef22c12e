"""Accuracy without training: a table that holds it for every architecture of a search space.

Symbols:
    n       architectures of the table, all of the search space
    a_i     test accuracy of architecture i, percent
    a*      the best, max a_i
    regret      a* − a_i, percentage points
    rank        1 + how many architectures are better than i; the best has 1, equals share theirs
    percentile  share of the table that is worse than i, in percent; equals, itself among them,
                count half, so that the mean over all architectures is 50
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from zostudy.config.settings import EvaluateSettings
from zostudy.errors import ArchitectureError, DataError
from zostudy.options import shown
from zostudy.space import csv_file, enumeration
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace

#: Said where a table is not there.
_SOURCE = (
    "the accuracies of NAS-Bench-201 can be had from NATS-Bench, "
    "https://github.com/D-X-Y/NATS-Bench (see docs/tutorials/nasbench201.md)"
)


class Row(NamedTuple):
    """What the table says of an architecture.

    Attributes:
        line: The line in the file that says so first.
        test: Test accuracy in percent.
        validation: Validation accuracy in percent, where the table has it.
    """

    line: int
    test: float
    validation: float | None


@dataclass(frozen=True)
class Lookup:
    """An architecture's place in the table.

    Attributes:
        test_accuracy: Percent.
        validation_accuracy: Percent; None where the table has none.
        regret: Best test accuracy of the table less this one, percentage points.
        rank: Architectures that are better, and 1.
        percentile: Percent of the table that is worse, equals counted half.
    """

    test_accuracy: float
    validation_accuracy: float | None
    regret: float
    rank: int
    percentile: float


@dataclass(frozen=True, eq=False)
class Table:
    """The accuracies of every architecture of a search space.

    Attributes:
        space: The search space.
        rows: Every architecture and what is said of it, in the order of the file.
        digest: SHA-256 of the file, in hexadecimal.
    """

    space: SearchSpace
    rows: Mapping[Genotype, Row] = field(repr=False)
    digest: str

    @functools.cached_property
    def accuracies(self) -> Float64[np.ndarray, " architectures"]:
        """Test accuracies in percent, in the order of the rows."""
        return np.array([found.test for found in self.rows.values()])

    @functools.cached_property
    def _sorted(self) -> Float64[np.ndarray, " architectures"]:
        return np.sort(self.accuracies)

    def __call__(self, genotype: Genotype) -> Lookup:
        """The place of an architecture.

        Raises:
            ArchitectureError: It is of another search space.
        """
        if genotype.space.name != self.space.name:
            raise ArchitectureError(
                f"genotype: is of the search space {genotype.space.name!r}; the table holds "
                f"architectures of {self.space.name!r}"
            )
        _, test, validation = self.rows[genotype]
        return Lookup(
            test_accuracy=test,
            validation_accuracy=validation,
            regret=float(self._sorted[-1]) - test,
            rank=len(self.rows) - int(np.searchsorted(self._sorted, test, side="right")) + 1,
            percentile=float(self.percentiles(np.array([test]))[0]),
        )

    def percentiles(self, accuracies: Float64[np.ndarray, " some"]) -> Float64[np.ndarray, " some"]:
        """For each accuracy, the percent of the table that is worse, equals counted half."""
        worse = np.searchsorted(self._sorted, accuracies, side="left")
        not_better = np.searchsorted(self._sorted, accuracies, side="right")
        return 50 * (worse + not_better) / len(self.rows)


def read(settings: EvaluateSettings, space: SearchSpace) -> Table:
    """Read and check a whole table.

    Args:
        settings: Where it lies and which of its columns count.
        space: The search space; every architecture of it must be there.

    Raises:
        ConfigError: The file cannot be read, or has no such column.
        DataError: A row is wrong, or an architecture is missing; the line and the value are named.
    """
    content = csv_file.content(settings.path, "evaluate.path", _SOURCE)
    names = ("architecture_column", "column", "validation_column")
    columns = {f"evaluate.{name}": getattr(settings, name) for name in names}
    columns = {place: column for place, column in columns.items() if column}
    rows: dict[Genotype, Row] = {}
    for line, fields in csv_file.records(settings.path, content, columns):
        place = f"{settings.path}:{line}"
        column = settings.architecture_column
        genotype = csv_file.architecture(place, column, fields[column], space)
        row = Row(line, *_accuracies(place, fields, settings))
        first = rows.setdefault(genotype, row)
        if row[1:] != first[1:]:
            raise DataError(
                f"{place}: {shown(fields[column])} has {_shown(row)} here and "
                f"{_shown(first)} in line {first.line}; needs one accuracy"
            )
    check_complete(settings.path, rows, space)
    _check_percent(settings, rows.values())
    return Table(space, rows, hashlib.sha256(content).hexdigest())


def _accuracies(
    place: str, fields: Mapping[str, str], settings: EvaluateSettings
) -> tuple[float, float | None]:
    validation = settings.validation_column
    return (
        csv_file.percent(place, settings.column, fields[settings.column]),
        csv_file.percent(place, validation, fields[validation]) if validation else None,
    )


def _check_percent(settings: EvaluateSettings, rows: Iterable[Row]) -> None:
    """Whether accuracies are in percent, and not shares of 1.

    Raises:
        DataError: The best of a column is 1 at most, which no table's best is in percent.
    """
    found = list(rows)
    for name, best in (
        (settings.column, max(row.test for row in found)),
        (settings.validation_column, max(row.validation or 0.0 for row in found)),
    ):
        if name:
            csv_file.check_no_fractions(settings.path, name, best)


def _shown(row: Row) -> str:
    return " and ".join(f"{value:.10g}" for value in row[1:] if value is not None)


def check_complete(path: str, rows: Mapping[Genotype, Any], space: SearchSpace) -> None:
    """Whether a table holds every architecture of a search space.

    Args:
        path: What the file is called in messages.
        rows: What it says, by architecture.
        space: The search space.

    Raises:
        DataError: It does not; one that is missing is named.
    """
    full = OperationMask.full(space)
    wanted = enumeration.count(full)
    if len(rows) < wanted:
        missing = next(g for g in enumeration.genotypes(full) if g not in rows)
        raise DataError(
            f"{path}: a row is missing: holds {len(rows):,} of the {wanted:,} "
            f"architectures of {space.name!r}, and not {missing.to_notation()!r}; needs all"
        )
