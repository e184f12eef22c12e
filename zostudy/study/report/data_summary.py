"""What was read as a data set, and what was not: in sentences and as JSON holds it."""

from typing import Any

from zostudy.config.sizes import counted
from zostudy.data.dataset import Dataset

_COLOURS = {1: "grey", 3: "colour"}


def sentences(dataset: Dataset) -> list[str]:
    """How many pictures and classes were read, which files were ignored, and what to know."""
    parts = {name: count for name, count in _parts(dataset).items() if count}
    colours = _COLOURS.get(dataset.channels, f"{dataset.channels} channels")
    read = (
        f"data set {dataset.name}: {sum(parts.values()):,} pictures of "
        f"{dataset.width}×{dataset.height} pixels ({colours}) in {len(dataset.classes)} classes; "
        + ", ".join(f"{count:,} {name}" for name, count in parts.items())
    )
    ignored = dataset.reading.ignored
    total = sum(ignored.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in ignored.items())
    verb = "was" if total == 1 else "were"
    lines = [f"{counted(total, 'file')} {verb} ignored: {reasons}"] if total else []
    return [read, *(f"  {line}" for line in (*lines, *dataset.reading.remarks))]


def document(dataset: Dataset) -> dict[str, Any]:
    """The same as JSON holds it."""
    return {
        "name": dataset.name,
        "pictures": sum(_parts(dataset).values()),
        "classes": len(dataset.classes),
        "parts": _parts(dataset),
        "channels": dataset.channels,
        "height": dataset.height,
        "width": dataset.width,
        "ignored": dict(dataset.reading.ignored),
        "remarks": list(dataset.reading.remarks),
    }


def _parts(dataset: Dataset) -> dict[str, int]:
    """Pictures of each part."""
    validation = 0 if dataset.validation is None else len(dataset.validation)
    return {"train": len(dataset.train), "validation": validation, "test": len(dataset.test)}
