"""What a sweep allows its points to need, and which do not keep to it.

Peak memory is decided from the plan, before any compute: exactly where the mask is known by then,
else by a mask like it. Parameters, MACs and latency are decided as soon as there is a genotype,
before it is evaluated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from zostudy import metrics
from zostudy.config.limits import ConstraintSettings
from zostudy.config.settings import TrialConfig
from zostudy.config.sizes import shown_bytes
from zostudy.data.dataset import Dataset
from zostudy.errors import ConfigError
from zostudy.evaluation import cost
from zostudy.evaluation.training import standalone
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import SearchSpace


@dataclass(frozen=True)
class Limited:
    """A figure beside its limit.

    Attributes:
        name: The figure.
        value: Its value, in bytes or milliseconds or as a count.
        most: The limit.
        exact: Whether the value is exact, and not an estimate.
    """

    name: str
    value: float
    most: float
    exact: bool = True

    @property
    def excess(self) -> float:
        """By which part of the limit the value is above it; 0 or less where it keeps to it."""
        return self.value / self.most - 1

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        return f"{self.name} is {about}{self._shown(self.value)}, above {self._shown(self.most)}"

    def _shown(self, value: float) -> str:
        unit = metrics.METRICS[self.name].unit
        if unit == "bytes":
            return shown_bytes(value)
        return f"{value:,.2f} ms" if unit == "milliseconds" else f"{value:,.0f}"


def limited(
    constraints: Mapping[str, ConstraintSettings], values: Mapping[str, tuple[float, bool]]
) -> tuple[Limited, ...]:
    """The figures that have a limit.

    Args:
        constraints: The limits.
        values: Figures by name, and whether they are exact.
    """
    return tuple(
        Limited(name, values[name][0], limit.most, values[name][1])
        for name, limit in constraints.items()
        if name in values
    )


def costs(
    constraints: Mapping[str, ConstraintSettings],
    genotype: Genotype,
    dataset: Dataset,
    config: TrialConfig,
) -> tuple[Limited, ...]:
    """The metrics of a genotype's network that have a limit."""
    if not {metric.name for metric in metrics.of("genotype")} & set(constraints):
        return ()
    with torch.device("meta"):
        network = standalone(genotype, dataset, config.evaluate)
    found = cost.of_genotype(genotype, network, dataset)
    return limited(constraints, {name: (value, True) for name, value in found.items()})


def check_limits(config: TrialConfig, space: SearchSpace, costs: cost.Costs) -> None:
    """Whether some architecture of the search space may keep to the limits of a search.

    Args:
        config: The trial.
        space: Its search space.
        costs: What architectures cost in the network that it trains.

    Raises:
        ConfigError: A limit is below what every architecture needs.
    """
    least = costs.least(OperationMask.full(space))
    for name, most in config.search.limits.items():
        if name in least and most < least[name]:
            raise ConfigError(
                f"search.constraints.{name}.at_most: {most:,.0f} is below the least that an "
                f"architecture of {space.name!r} needs with evaluate.cells "
                f"{config.evaluate.cells} and evaluate.channels {config.evaluate.channels}; "
                f"allowed: {least[name]:,} or more"
            )


def named(figures: tuple[Limited, ...]) -> dict[str, float]:
    """The values of figures by their names."""
    return {figure.name: figure.value for figure in figures}


def broken(figures: tuple[Limited, ...]) -> str:
    """Which limits are not kept to, in one line; empty where all are."""
    above = "; ".join(str(figure) for figure in figures if figure.excess > 0)
    return above and f"sweep.constraints: {above}"
