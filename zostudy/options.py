"""Options of components: what their values may be, and how a wrong one is told."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zostudy.errors import ConfigError
from zostudy.paths import PATH_ALLOWED, path_problem

#: Characters of a value that a message shows.
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of a component.

    Attributes:
        name: The parameter's name.
        allowed: What a value may be: names of scalar types, or the literal choices.
        choices: The literal choices; empty where any value of a type is allowed.
        interval: The interval of allowed numbers, such as ``(0, 1]``; empty where all are.
        fields: Of a dictionary, the interval of each of its keys; all are needed.
        default: The default value.
        required: Whether there is no default.
    """

    name: str
    allowed: tuple[str, ...]
    choices: tuple[object, ...] = ()
    interval: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    default: object = None
    required: bool = False

    def check(self, place: str, value: object) -> object:
        """The value, an int widened to float where a float is wanted.

        Raises:
            ConfigError: The value is of another type or no allowed choice.
        """
        if self.choices:
            if not any(value == c and type(value) is type(c) for c in self.choices):
                listed = ", ".join(repr(c) for c in self.choices)
                near = nearest(str(value), [str(c) for c in self.choices])
                raise ConfigError(
                    f"{place}: {shown(value)} is not allowed{near}; allowed: {listed}"
                )
            return value
        kind = type(value).__name__
        if kind == "int" and "float" in self.allowed and "int" not in self.allowed:
            value, kind = _widened(place, value), "float"
        if kind not in self.allowed and not (kind == "list" and "tuple" in self.allowed):
            raise ConfigError(
                f"{place}: {shown(value)} is of type {kind}; allowed: {' or '.join(self.allowed)}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{place}: {value!r} is not allowed; allowed: finite numbers")
        if self.interval and isinstance(value, int | float) and not _inside(self.interval, value):
            raise ConfigError(f"{place}: {shown(value)} is not allowed; allowed: {self.interval}")
        if self.path and isinstance(value, str):
            _check_path(place, value)
        if isinstance(value, dict) and self.fields:
            self._check_fields(place, value)
        return value

    def _check_fields(self, place: str, value: Mapping[str, object]) -> None:
        if set(value) != set(self.fields):
            keys = ", ".join(f"{name}: {interval}" for name, interval in self.fields.items())
            other = f"a number in {self.interval}, or " if self.interval else ""
            raise ConfigError(
                f"{place}: {shown(dict(value))} is not allowed; allowed: {other}{{{keys}}}"
            )
        for name, interval in self.fields.items():
            held = value[name]
            number = isinstance(held, int | float) and not isinstance(held, bool)
            if not number or not _inside(interval, held):  # type: ignore[arg-type]  # a number
                text = f"{place}.{name}: {shown(held)} is not allowed; allowed: {interval}"
                raise ConfigError(text)

    @property
    def path(self) -> bool:
        """Whether it is the path of a file or folder, which its name says."""
        return self.name in ("path", "root") and self.allowed == ("str",)


def _widened(place: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # it is an int
    except OverflowError as error:
        raise ConfigError(
            f"{place}: {shown(value)} is not allowed; allowed: finite numbers"
        ) from error


def _check_path(place: str, value: str) -> None:
    problem = path_problem(value) if value else "is empty"
    if problem:
        raise ConfigError(f"{place}: {shown(value)} {problem}; allowed: {PATH_ALLOWED}")


def bounds(interval: str) -> dict[str, float]:
    """An interval such as ``(0, 1]`` as JSON schema has it."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    found = {"exclusiveMinimum" if interval[0] == "(" else "minimum": low}
    found["exclusiveMaximum" if interval[-1] == ")" else "maximum"] = high
    return {name: end for name, end in found.items() if math.isfinite(end)}


def _inside(interval: str, value: float) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    return above and (value < high if interval[-1] == ")" else value <= high)


def nearest(value: str, allowed: Iterable[str]) -> str:
    """The clause that names the nearest match, or nothing."""
    others = [name for name in allowed if name != value]
    plain = value.strip().casefold()
    same = next((name for name in others if name.strip().casefold() == plain), None)
    if same is not None:
        case = value.strip() != same.strip()
        why = "upper and lower case count" if case else "spaces count"
        return f"; did you mean {same!r}? ({why})"
    match = difflib.get_close_matches(value[:200], others, n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
