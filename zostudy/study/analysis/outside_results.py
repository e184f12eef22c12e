"""Results from elsewhere: a CSV file with a row for each run of a method on a data set.

Columns, in any order: ``dataset``, ``method``, ``accuracy`` (percent), and ``run`` or ``seed``.
Runs are only numbered; a seed is shared, so that rows of one data set with the same seed are a
pair. Where there is a column ``counterpart``, it names the method that a row's method is to be
compared with. Other columns are left out.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zostudy.errors import ConfigError, DataError
from zostudy.options import nearest, shown
from zostudy.space import csv_file

#: What counts the rows of a method on a data set; the second one is shared by methods.
RUN, SEED = "run", "seed"

_COLUMNS = ("dataset", "method", "accuracy")
_COUNTERPART = "counterpart"
_NEEDED = "a header with dataset, method, run or seed, and accuracy, and a row a run"


@dataclass(frozen=True)
class OutsideResults:
    """The accuracies of methods on data sets.

    Attributes:
        name: What the file is called, without its ending.
        shared_seeds: Whether runs with the same number are pairs.
        accuracies: For each data set and method, percent by the run's number, as it is written.
        counterparts: For each data set and method, the method it is compared with, where named.
        ignored: Columns that were left out.
    """

    name: str
    shared_seeds: bool
    accuracies: Mapping[tuple[str, str], Mapping[str, float]]
    counterparts: Mapping[tuple[str, str], str]
    ignored: tuple[str, ...]

    @property
    def datasets(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(dataset for dataset, _ in self.accuracies))

    def methods(self, dataset: str = "") -> list[str]:
        """Those of a data set, or all, in the order of the file."""
        known = (method for own, method in self.accuracies if dataset in ("", own))
        return list(dict.fromkeys(known))


def read(path: Path) -> OutsideResults:
    """Read and check a table.

    Raises:
        ConfigError: The file cannot be read, or lacks a column.
        DataError: A row is wrong; its line and the value are named.
    """
    content = csv_file.content(str(path), "--table")
    header: list[str] = []

    def check(found: list[str]) -> None:
        header.extend(name.strip().lower() for name in found)
        _check_header(path, header)

    accuracies: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    counterparts: dict[tuple[str, str], str] = {}
    for line, named in csv_file.rows(str(path), content, check, _NEEDED):
        place, fields = f"{path}:{line}", dict(zip(header, named.values(), strict=True))
        run = _field(place, fields, SEED if SEED in header else RUN)
        key = (_field(place, fields, "dataset"), _field(place, fields, "method"))
        if run in accuracies[key]:
            raise DataError(
                f"{place}: {shown(key[1])} on {shown(key[0])} has run {shown(run)} twice; "
                "needs one row a run"
            )
        accuracies[key][run] = csv_file.percent(place, "accuracy", fields["accuracy"])
        named_counterpart = fields.get(_COUNTERPART, "").strip()
        if counterparts.setdefault(key, named_counterpart) != named_counterpart:
            raise DataError(
                f"{place}: {shown(key[1])} on {shown(key[0])} has the counterparts "
                f"{shown(counterparts[key])} and {shown(named_counterpart)}; needs one"
            )
    if not accuracies:
        raise DataError(f"{path}: has no row; needs {_NEEDED}")
    best = max(value for runs in accuracies.values() for value in runs.values())
    csv_file.check_no_fractions(str(path), "accuracy", best)
    return OutsideResults(
        name=path.stem,
        shared_seeds=SEED in header,
        accuracies=dict(accuracies),
        counterparts={key: name for key, name in counterparts.items() if name},
        ignored=tuple(n for n in header if n not in (*_COLUMNS, RUN, SEED, _COUNTERPART)),
    )


def _check_header(path: Path, header: list[str]) -> None:
    other = csv_file.other_separator(header)
    if other:
        raise ConfigError(f"{path}: its fields are separated by {other}, and need commas")
    for name in header:
        if header.count(name) > 1:
            raise ConfigError(f"{path}: has {header.count(name)} columns {shown(name)}; needs one")
    for name in _COLUMNS:
        if name not in header:
            hint = nearest(name, header) or f"; columns: {', '.join(header)[:300]}"
            raise ConfigError(f"{path}: has no column {name!r}{hint}")
    if (RUN in header) == (SEED in header):
        has = "both columns" if RUN in header else "neither a column"
        word = "and" if RUN in header else "nor"
        raise ConfigError(
            f"{path}: has {has} {RUN!r} {word} {SEED!r}; needs one: {SEED} where methods share "
            f"them, {RUN} where runs are only numbered"
        )


def _field(place: str, fields: Mapping[str, str], column: str) -> str:
    text = fields[column].strip()
    if not text or not text.isprintable():
        raise DataError(
            f"{place}: {column} {shown(text)} is not allowed; allowed: text of one line"
        )
    return text
