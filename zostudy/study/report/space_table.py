"""What masks keep of a search space, as a table in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_SHARES = {
    "operations_kept": "operations kept",
    "architectures_kept": "architectures kept",
    "distinct_kept": "kept, distinct up to isomorphism",
    "top_kept": "top 1 % kept",
    "top_among_kept": "top 1 % among the kept",
}
_ACCURACIES = {
    "best": "best kept",
    "regret": "its regret",
    "mean": "mean of the kept",
    "median": "median of the kept",
}


def print_statistics(document: Mapping[str, Any], console: Console) -> None:
    """Print what is kept before and after masking, and the spread over the seeds."""
    seeds, before, after = document["seeds"], document["before"], document["after"]
    options = document["prune"]
    level = f", ξ {options['xi']:g}" if "xi" in options else ""
    table = Table(
        title=f"{document['space']}, {document['column']}: mask {options['source']}{level}, "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    )
    for name in ("%", "all", "mean ± sd over seeds", "lowest", "highest"):
        table.add_column(name, justify="left" if name == "%" else "right")
    for names, scale in ((_SHARES, 100.0), (_ACCURACIES, 1.0)):
        for name, shown in names.items():
            values = [scale * seed[name] for seed in seeds]
            mean, spread = scale * after[name]["mean"], after[name]["sd"]
            around = "" if spread is None else f" ± {scale * spread:.2f}"
            table.add_row(
                shown,
                f"{scale * before[name]:.2f}",
                f"{mean:.2f}{around}",
                f"{min(values):.2f}",
                f"{max(values):.2f}",
            )
        table.add_section()
    console.print(table)
    console.print(
        f"{document['architectures']:,} architectures, {document['distinct']:,} distinct up to "
        f"isomorphism; the top 1 % are {document['top']['count']}, from "
        f"{document['top']['from']:.2f} % accuracy",
        markup=False,
        soft_wrap=True,
    )
