"""What values are counted in, and how people read them."""

from typing import Literal

#: What a value is counted in, as it is stored.
Unit = Literal[
    "percent",
    "percentile",
    "points",
    "bytes",
    "seconds",
    "milliseconds",
    "count",
    "macs",
    "fraction",
    "ratio",
    "flag",
]

#: How values are shown: what they are divided by, and their format.
SHOWN: dict[Unit, tuple[float, str]] = {
    "percent": (1, ".2f"),
    "percentile": (1, ".1f"),
    "points": (1, ".2f"),
    "bytes": (2**20, ".1f"),
    "seconds": (1, ".1f"),
    "milliseconds": (1, ".2f"),
    "count": (1, ",.0f"),
    "macs": (1e6, ".2f"),
    "fraction": (1, ".2f"),
    "ratio": (1, ".2f"),
    "flag": (1, ".2f"),
}

#: By the end of a metric's name, the unit that people compare it in, and what divides its value.
READABLE = {"bytes": ("MB", 2**20), "seconds": ("minutes", 60)}
