"""Settings that end trials: what they may need, how poor they may be, how much time there is."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from zostudy.config.base import Settings
from zostudy.config.sizes import size
from zostudy.metrics import COSTS, LIMITED, METRICS


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


class BudgetSettings(Settings):
    """The time that a study has, after which no trial goes on; it can be gone on with later."""

    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours in which workers may be busy with trials, each on its device, CPU or GPU; those of all
    workers and all runs of the study together."""
    until: str = ""
    """Time when it ends, such as ``2026-12-01T08:00``, by the clock and in the time zone of the
    machine unless it names one (``2026-12-01T08:00+01:00``)."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.gpu_hours is None and not self.until:
            raise ValueError("says nothing; needs gpu_hours, such as 40, or until, or both")
        if self.until:
            try:
                _ = self.end
            except (ValueError, OverflowError, OSError) as error:
                raise ValueError(
                    f"until: {self.until!r} is no time; allowed: one such as 2026-12-01T08:00"
                ) from error
        return self

    @property
    def end(self) -> datetime | None:
        """The time when it ends, with its time zone; nothing where there is none."""
        return datetime.fromisoformat(self.until).astimezone() if self.until else None


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


def _checked_costs(constraints: dict[str, ConstraintSettings]) -> dict[str, ConstraintSettings]:
    for name in constraints:
        if name not in COSTS:
            raise ValueError(
                f"{name}: does not follow from an architecture alone; allowed: {', '.join(COSTS)}"
            )
    return _checked(constraints)


#: By the name of a figure that follows from an architecture alone, its limit.
CostConstraints = Annotated[dict[str, ConstraintSettings], AfterValidator(_checked_costs)]

#: By the name of a figure, its limit.
Constraints = Annotated[dict[str, ConstraintSettings], AfterValidator(_checked)]


def as_document(constraints: dict[str, ConstraintSettings]) -> dict[str, Any]:
    """The constraints as JSON holds them, sizes in bytes."""
    return {name: limit.most for name, limit in sorted(constraints.items())}
