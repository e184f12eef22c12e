"""What the doctor finds: something that is wrong, and how it is put right."""

from collections.abc import Callable
from dataclasses import dataclass


class CannotRepairError(Exception):
    """Something stays wrong; the text says why, in one line."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: Where it is wrong: ``optuna``, ``mlflow``, ``artifact``, ``journal``, ``cache``,
            ``checkpoint``, ``file`` or ``lock``.
        what: What is wrong, in one line.
        remedy: What a repair does.
        repair: Does it; gives what could not be brought back, in one line, or nothing.
    """

    kind: str
    what: str
    remedy: str
    repair: Callable[[], str]


def nothing_to_do(reason: str) -> Callable[[], str]:
    """The repair of what can only be put right by hand."""

    def repair() -> str:
        raise CannotRepairError(reason)

    return repair
