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
    "upper_quarter": "a quarter of the kept reach",
    "wasserstein": "Wasserstein distance",
}
_DISTANCES = {"kolmogorov_smirnov": "Kolmogorov–Smirnov distance"}


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
    coin = document.get("against_coin", {})
    if coin:
        table.add_column("coins", justify="right")
        table.add_column("by chance", justify="right")
    for names, scale in ((_SHARES, 100.0), (_ACCURACIES, 1.0), (_DISTANCES, 100.0)):
        for name, shown in names.items():
            if name not in after:
                continue
            values = [scale * seed[name] for seed in seeds]
            mean, spread = scale * after[name]["mean"], after[name]["sd"]
            around = "" if spread is None else f" ± {scale * spread:.2f}"
            table.add_row(
                shown,
                f"{scale * before[name]:.2f}",
                f"{mean:.2f}{around}",
                f"{min(values):.2f}",
                f"{max(values):.2f}",
                *(_coin(coin, name, scale) if coin else ()),
            )
        table.add_section()
    console.print(table)
    console.print(_explanation(document), markup=False, soft_wrap=True)


def _coin(coin: Mapping[str, Any], name: str, scale: float) -> tuple[str, str]:
    if name not in coin:
        return "", ""
    return f"{scale * coin[name]['mean']:.2f}", f"{coin[name]['by_chance']:.3g}"


def _explanation(document: Mapping[str, Any]) -> str:
    top = document["top"]
    best = f"the top 1 % are {top['count']:,}, from {top['from']:.2f} % accuracy"
    count = f"{document['architectures']:,} architectures"
    if "predictor" in document:
        return (
            f"{count}, each equally likely, and as many under all masks together; accuracies are "
            f"predictions (Kendall's τ of the predictor {document['predictor_kendall_tau']:.2f}); "
            f"{best}"
        )
    text = f"{count}, {document['distinct']:,} distinct up to isomorphism; {best}"
    if "against_coin" not in document:
        return text
    return (
        f"{text}. Coins are masks that keep as many operations of each edge, drawn blindly "
        f"({document['against_coin']['coins']:,} for each mask); by chance: the probability that "
        "they do at least as well"
    )
