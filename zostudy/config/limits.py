"""Settings that end a trial before its time: what it may need, and how poor it may be."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from zostudy.config.base import Settings
from zostudy.config.sizes import size
from zostudy.metrics import LIMITED, METRICS


class ConstraintSettings(Settings):
    """A limit of one figure."""

    at_most: int | float | str = Field(union_mode="left_to_right")
    """The largest value allowed: a number above 0, or for bytes also a size such as ``8GiB``."""

    @property
    def most(self) -> float:
        """The limit as a number."""
        return size(self.at_most, "at_most") if isinstance(self.at_most, str) else self.at_most


class EarlyStoppingSettings(Settings):
    """Which trials are stopped because they are poor, by their validation accuracy.

    It is that of the evaluation, after each of its epochs; nothing else is measured so often.
    """

    name: Literal["none", "median", "successive_halving"] = "none"
    """``median`` stops a trial that has never been as good as half of the complete ones were at the
    same epoch; ``successive_halving`` goes on with the best share at epochs that are ever further
    apart (asynchronously, as ASHA)."""
    startup_trials: int = Field(default=5, ge=1, le=1_000_000)
    """Of ``median``: trials that are complete before one is stopped."""
    warmup_epochs: int = Field(default=0, ge=0, le=1_000_000)
    """Of ``median``: epochs in which no trial is stopped."""
    first_epochs: int = Field(default=1, ge=1, le=1_000_000)
    """Of ``successive_halving``: epochs after which trials are compared for the first time."""
    reduction: int = Field(default=4, ge=2, le=1_000_000)
    """Of ``successive_halving``: one trial of so many goes on, for so many times as long."""


def _checked(constraints: dict[str, ConstraintSettings]) -> dict[str, ConstraintSettings]:
    for name, limit in constraints.items():
        if name not in LIMITED:
            raise ValueError(
                f"{name}: is no figure that is known before a trial has been paid for; "
                f"allowed: {', '.join(LIMITED)}; anything else may be an objective"
            )
        if isinstance(limit.at_most, str):
            if METRICS[name].unit != "bytes":
                raise ValueError(f"{name}.at_most: {limit.at_most!r}; needs a number above 0")
            size(limit.at_most, f"{name}.at_most")
        elif limit.at_most <= 0:
            raise ValueError(f"{name}.at_most: {limit.at_most}; needs more than 0")
    return constraints


#: By the name of a figure, its limit.
Constraints = Annotated[dict[str, ConstraintSettings], AfterValidator(_checked)]


def as_document(constraints: dict[str, ConstraintSettings]) -> dict[str, Any]:
    """The constraints as JSON holds them, sizes in bytes."""
    return {name: limit.most for name, limit in sorted(constraints.items())}
