"""Intervals of allowed numbers, written as in mathematics: ``(0, 1]``."""

import math


def bounds(interval: str) -> dict[str, float]:
    """An interval such as ``(0, 1]`` as JSON schema has it."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    found = {"exclusiveMinimum" if interval[0] == "(" else "minimum": low}
    found["exclusiveMaximum" if interval[-1] == ")" else "maximum"] = high
    return {name: end for name, end in found.items() if math.isfinite(end)}


def inside(interval: str, value: float) -> bool:
    """Whether a number is in an interval."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    return above and (value < high if interval[-1] == ")" else value <= high)
