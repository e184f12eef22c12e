"""The workers of a study, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zostudy.study.sweep.presence import Worker


def document(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    """Each worker: ``host``, ``process``, ``trial``, ``seeds``, ``point``, ``silent``, ``gone``."""
    return [asdict(worker) for worker in workers]


def print_workers(study: str, workers: Sequence[Worker], to: Console) -> None:
    """Print a row for each worker."""
    if not workers:
        to.print(f"study {study!r}: no worker runs a trial now", markup=False)
        return
    columns = ("host", "process", "trial", "point", "seeds", "last heard of")
    table = Table(*columns, title=f"workers of study {study!r}")
    for worker in workers:
        heard = "never" if worker.silent is None else f"{max(worker.silent, 0):.0f} s ago"
        table.add_row(
            escape(worker.host),
            "" if worker.process is None else str(worker.process),
            str(worker.trial),
            escape(worker.point),
            ", ".join(map(str, worker.seeds)),
            f"{heard}; lost" if worker.gone else heard,
        )
    to.print(table)
