"""Sizes, lengths of time and counts, as people write and read them."""

import re

#: Bytes of each unit of a size.
_UNITS = {"B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate(("K", "M", "G", "T"), start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}


def size(text: str, place: str, also: str = "") -> int:
    """Bytes of a size such as ``8GiB``.

    Args:
        text: A number and a unit.
        place: Where it stands, for the message.
        also: What else is allowed there, for the message.

    Raises:
        ValueError: The text is no size.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([KMGT]?i?B)", text, re.ASCII)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise ValueError(
            f"{place}: {text!r} is no size; allowed: {also}a number above 0 and one of "
            f"{', '.join(_UNITS)}, such as 8GiB"
        )
    return int(float(match[1]) * _UNITS[match[2]])


#: Seconds of each unit of a length of time.
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str, place: str) -> float:
    """Seconds of a length of time such as ``12h``.

    Args:
        text: A number and a unit.
        place: Where it stands, for the message.

    Raises:
        ValueError: The text is no length of time.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError(
            f"{place}: {text!r} is no length of time; allowed: a number and one of "
            f"{', '.join(_TIMES)}, such as 12h"
        )
    return float(match[1]) * _TIMES[match[2]]


def shown_bytes(count: float) -> str:
    """Bytes in GiB from one GiB on, else in MB of 2^20 bytes."""
    if count >= 2**30:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:.1f} MB"


def counted(count: int, thing: str) -> str:
    """A number of things: ``1 trial``, ``12 trials``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
