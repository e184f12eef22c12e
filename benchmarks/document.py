"""The one form in which every benchmark prints its results, and how it takes times."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        case: What was measured.
        metric: Its name, with its unit.
        value: What was measured of zostudy.
        reference: The same of what it is compared with; nothing where nothing is.
    """

    case: str
    metric: str
    value: float
    reference: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value over the reference."""
        return None if self.reference is None else self.value / self.reference


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1
) -> dict[str, float]:
    """The median time of each function, run in turns so that all see the same machine.

    Args:
        functions: What to run, by name.
        repeats: Timed turns.
        warm_up: Turns before them.

    Returns:
        Seconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def machine() -> dict[str, str | int]:
    """The machine, in words."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123  # no file of the project
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def main(
    description: str,
    rows: Callable[..., Iterator[Row]],
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Run a benchmark as a command: a line a result on stderr, the document at the end.

    Args:
        description: What it measures, for ``--help``.
        rows: Gives its results as they come; it is given the arguments where it has options.
        options: Adds the options of its own to the command.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    if options is not None:
        options(parser)
    arguments = parser.parse_args()
    found = []
    for row in rows() if options is None else rows(arguments):
        found.append(row)
        print(f"{row.case} {row.metric}: {row.value:.4g}", file=sys.stderr, flush=True)
    if arguments.json:
        document = {
            "machine": machine(),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("zostudy", "torch", "numpy")},
            "rows": [asdict(row) | {"ratio": row.ratio} for row in found],
        }
        print(json.dumps(document, indent=2))
        return
    from rich.console import Console  # who prints no table does without
    from rich.table import Table

    table = Table("case", "metric", "value", "reference", "ratio")
    for row in found:
        figures = (row.value, row.reference, row.ratio)
        table.add_row(row.case, row.metric, *("" if f is None else f"{f:.4g}" for f in figures))
    Console().print(table)
