"""The distribution of accuracy before and after masking, as a picture."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from zostudy.errors import ConfigError

#: Formats that a picture may be written in.
FORMATS = (".png", ".svg", ".pdf")

_DPI = 150
_BEFORE, _AFTER = "#707070", "#0072B2"


def distribution_figure(document: Mapping[str, Any]) -> Figure:
    """Histograms of the accuracy of all architectures and of those that masks leave.

    On the left all accuracies, shares on a logarithmic scale; on the right the better half. Lines
    are means over the seeds, the band is one standard deviation around them.

    Args:
        document: Statistics of a space.
    """
    figure = Figure(figsize=(9, 3.6), dpi=_DPI, layout="constrained")
    whole, half = figure.subplots(1, 2)
    for axes in (whole, half):
        _draw(axes, document)
        axes.set_xlabel(f"{document['column']}, %", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    whole.set_yscale("log")
    whole.set_ylabel(f"share of the architectures in a bin of {_width(document):g} %", fontsize=8)
    _draw_band(half, document)
    half.set_xlim(document["before"]["accuracy"]["quantiles"]["0.5"], document["bins"][-1])
    whole.legend(fontsize=8, frameon=False, loc="upper left")
    figure.suptitle(_title(document), fontsize=9)
    return figure


def _width(document: Mapping[str, Any]) -> float:
    first, second, *_ = document["bins"]
    return round(float(second - first), 3)


def _title(document: Mapping[str, Any]) -> str:
    options = document["prune"]
    level = f", ξ = {options['xi']:g}" if "xi" in options else ""
    return f"{document['space']}: mask {options['source']}{level}, {len(document['seeds'])} seeds"


def _draw(axes: Axes, document: Mapping[str, Any]) -> None:
    edges = np.array(document["bins"])
    each = np.array([seed["histogram"] for seed in document["seeds"]])
    axes.stairs(
        document["before"]["histogram"], edges, fill=True, color=_BEFORE, alpha=0.35,
        label=f"all {document['architectures']:,}",
    )  # fmt: skip  # one line an argument says no more
    axes.stairs(each.mean(axis=0), edges, color=_AFTER, label="left by the mask", linewidth=1.3)


def _draw_band(axes: Axes, document: Mapping[str, Any]) -> None:
    each = np.array([seed["histogram"] for seed in document["seeds"]])
    mean, spread = each.mean(axis=0), each.std(axis=0, ddof=min(1, len(each) - 1))
    low = np.maximum(mean - spread, 0)
    edges = np.array(document["bins"])
    axes.stairs(mean + spread, edges, baseline=low, fill=True, color=_AFTER, alpha=0.2)


def check_picture(path: Path) -> None:
    """Whether a picture can be written there.

    Raises:
        ConfigError: The format is not known, or there is no such folder.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"--output: {str(path)!r} ends in no format; allowed: {_listed()}")
    if not path.parent.is_dir():
        raise ConfigError(f"--output: {str(path.parent)!r} is no folder")


def _listed() -> str:
    return ", ".join(FORMATS)


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("wb") as file:
            figure.savefig(file, format=path.suffix[1:])
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"--output: {str(path)!r} cannot be written ({error})") from error
    finally:
        new.unlink(missing_ok=True)
