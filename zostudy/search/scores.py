"""Scores of single architectures, by which a search finds its way without training anything.

A score is ``(context, *, options) -> Score``. Its fact ``check`` names a function beside it,
``(context, *, options) -> None``, that refuses bad input before anything is computed; ``networks``
says that it builds a network of each architecture, which takes memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from scipy.stats import rankdata

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.batches import normalized
from zostudy.data.dataset import Dataset
from zostudy.errors import ConfigError, NumericalError
from zostudy.networks.memory import PeakMemory
from zostudy.predictors import storage
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import stand_alone, values
from zostudy.registry import Component, architecture_score
from zostudy.runtime import Runtime, seed_everything, seeded
from zostudy.space.genotype import Genotype
from zostudy.space.search_space import SearchSpace

#: Streams of the trial's seed, one a use.
_WEIGHTS, _IMAGES = "search/score weights", "search/score images"

#: What a score found for an architecture: a value for each of its names, larger being better.
Values = tuple[float, ...]

#: How the values of a score become one.
Combined = Literal["ranks", "log_ranks", "shares"]


@dataclass(frozen=True)
class ScoreContext:
    """What a score is given.

    Attributes:
        space: The search space.
        size: Cells and channels of the networks that are built.
        dataset: The data set.
        settings: The search.
        runtime: Device and precision.
        seed: The trial's seed.
        memory: Measures what a network takes.
    """

    space: SearchSpace
    size: SupernetSettings
    dataset: Dataset
    settings: SearchSettings
    runtime: Runtime
    seed: int
    memory: PeakMemory


@dataclass(frozen=True)
class Score:
    """Scores architectures.

    Attributes:
        names: What its values are.
        of: The values of an architecture.
        combined: How several values become one: the mean of their ``ranks``, the sum of the logs of
            their ranks as shares of the largest (``log_ranks``), or the sum of their ``shares`` of
            the largest size that each has among the architectures compared.
        known: Values by architecture; nothing for one that has none.
        reasons: Why architectures that were scored now have none.
    """

    names: tuple[str, ...]
    of: Callable[[Genotype], Values]
    combined: Combined = "ranks"
    known: dict[Genotype, Values | None] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def __call__(self, genotype: Genotype) -> Values | None:
        """The values of an architecture, known from now on; nothing where it has none."""
        found: Values | None = None
        try:
            values = self.of(genotype)
        except NumericalError as error:
            self.reasons.append(str(error))
        else:
            if np.isfinite(values).all():
                found = values
            else:
                self.reasons.append(f"{', '.join(self.names)}: {values}")
        self.known[genotype] = found
        return found

    def fitness(self, genotypes: Sequence[Genotype]) -> list[float]:
        """How good each of some known architectures is among them; −∞ for one without values."""
        held = [self.known[genotype] for genotype in genotypes]
        rows = [row for row in held if row is not None]
        if not rows or len(self.names) == 1:
            return [-np.inf if row is None else row[0] for row in held]
        columns = np.array(rows).T
        ranks = np.array([rankdata(column) for column in columns])
        if self.combined == "ranks":
            combined = iter(ranks.mean(axis=0).tolist())
        elif self.combined == "log_ranks":
            combined = iter(np.log(ranks / len(rows)).sum(axis=0).tolist())
        else:
            largest = np.abs(columns).max(axis=1, keepdims=True)
            shares = np.divide(columns, largest, out=np.zeros_like(columns), where=largest > 0)
            combined = iter(shares.sum(axis=0).tolist())
        return [-np.inf if row is None else next(combined) for row in held]

    def best(self) -> Genotype:
        """The best of the known architectures; of equal ones the first."""
        known = list(self.known)
        return known[int(np.argmax(self.fitness(known)))]


def check_proxies(context: ScoreContext, **options: Any) -> None:  # noqa: ANN401  # any option
    """Whether there are pictures enough.

    Raises:
        ConfigError: There are fewer than are asked for.
    """
    pictures, _ = context.dataset.search_parts(context.settings.architecture_fraction)
    images = options["images"]
    if images > len(pictures):
        raise ConfigError(
            f"search.score.images: {images} is more than the {len(pictures)} pictures that train "
            f"the weights; allowed: 2 to {len(pictures)}"
        )


@architecture_score(
    "proxies",
    networks=True,
    components={"ranking": "ranking_function"},
    check="check_proxies",
)
def proxies(
    context: ScoreContext,
    *,
    ranking: tuple[str, ...] = ("naswot",),
    combined: Literal["ranks", "log_ranks", "shares"] = "ranks",
    images: Annotated[int, "[2, 1000000]"] = 64,
    repeats: Annotated[int, "[1, 1000000]"] = 1,
    skip_reach: bool = False,
) -> Score:
    """Zero-cost proxies of the architecture's own network, untrained.

    The network has ``supernet.cells`` and ``supernet.channels``; every architecture sees the same
    pictures, those that train weights in a one-shot search, and the same seed of its weights.

    Args:
        context: What is scored.
        ranking: Ranking functions.
        combined: How several become one: the mean of their ``ranks`` among the architectures
            compared, the sum of the logs of these (``log_ranks``, AZ-NAS), in which a low rank
            weighs more, or the sum of their ``shares`` of the largest size that each has there.
        images: Pictures in a network's one batch.
        repeats: Initializations and draws of pictures that values are averaged over.
        skip_reach: Whether the mean number of nodes that skip connections leap is a value more
            (FreeREA).
    """
    named = [{"name": one} if isinstance(one, str) else one for one in ranking]
    rankings = [Ranking.of(one, context.space) for one in named]
    signs = np.array([one.sign for one in rankings])
    draws = [_drawn(context, images, number) for number in range(repeats)]

    def of(genotype: Genotype) -> Values:
        found = [_values(context, genotype, rankings, *draw) for draw in draws]
        return (*(signs * np.mean(found, axis=0)).tolist(), *([_reach(genotype)] * skip_reach))

    names = (*(one.name for one in rankings), *(["skip_reach"] * skip_reach))
    return Score(names, of, combined)


def _reach(genotype: Genotype) -> float:
    """The mean number of nodes between the ends of a skip connection; 0 without any."""
    identity = genotype.space.identity
    leaps = [
        target - source - 1 for _, source, target, name in genotype.operations() if name == identity
    ]
    return sum(leaps) / len(leaps) if leaps else 0.0


def _drawn(context: ScoreContext, images: int, number: int) -> tuple[int, ProxyInputs]:
    """The seed of the weights, and pictures, of a repeat."""
    pictures, _ = context.dataset.search_parts(context.settings.architecture_fraction)
    generator = seeded("cpu", context.seed, _IMAGES, number)
    chosen = torch.randperm(len(pictures), generator=generator)[:images]
    device = context.runtime.device
    batch = ProxyInputs(
        normalized(pictures.images[chosen].to(device), context.dataset),
        pictures.labels[chosen].to(device),
        int(torch.randint(2**62, (), generator=generator)),
    )
    return seeded("cpu", context.seed, _WEIGHTS, number).initial_seed(), batch


def _values(
    context: ScoreContext,
    genotype: Genotype,
    rankings: Sequence[Ranking],
    seed: int,
    batch: ProxyInputs,
) -> list[float]:
    seed_everything(seed)
    dataset = context.dataset
    network, mixing = stand_alone(
        genotype,
        context.size,
        in_channels=dataset.channels,
        classes=len(dataset.classes),
        device=context.runtime.device,
    )
    with context.memory.sample(network, batch.images, batch.labels), torch.no_grad():
        found = values(network, mixing, rankings, batch, twice=False)
    return [float(value.detach()) for value in found]


def check_predictor(context: ScoreContext, *, path: str) -> None:
    """Whether the file holds a predictor for the search space that reads architectures alone.

    Raises:
        ConfigError: It does not.
    """
    storage.of_space(Path(path), "search.score.path", context.space)


@architecture_score("predictor", check="check_predictor")
def predictor(context: ScoreContext, *, path: str) -> Score:
    """The accuracy that a predictor says, from the file of ``zostudy predictor fit``.

    Args:
        context: What is scored.
        path: The file.
    """
    predict = storage.of_space(Path(path), "search.score.path", context.space)
    return Score(("predicted",), lambda genotype: (float(predict([genotype]).scores[0]),))


def score_of(context: ScoreContext) -> Score:
    """The score that the settings name."""
    chosen = context.settings.score
    found: Score = _component(context).load()(context, **chosen.options)
    return found


def check_score(context: ScoreContext) -> None:
    """Run the check that the score names, if it names one.

    Raises:
        ConfigError: It cannot work with its options and this context.
    """
    component, options = _component(context), context.settings.score.options
    check = component.facts.get("check")
    if check is not None:
        component.sibling(str(check))(context, **options)


def builds_networks(context: ScoreContext) -> bool:
    """Whether the score builds a network of each architecture."""
    return bool(_component(context).facts.get("networks"))


def _component(context: ScoreContext) -> Component:
    return context.space.find(
        "architecture_score", context.settings.score.name, "search.score.name"
    )
