"""What is swept, in Optuna's terms: distributions, values as it can hold them, samplers."""

import json
from collections.abc import Container
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from zostudy.config.settings import StudyConfig
from zostudy.config.sweep import RangeSettings


def distributions(config: StudyConfig) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each swept setting.

    The numbers of a grid are held as a range, which may grow later; all else is a choice.
    """
    parameters = config.sweep.parameters
    grid = config.sweep.sampler.name == "grid"
    return {path: distribution(values, grid=grid) for path, values in parameters.items()}


def distribution(values: tuple[Any, ...] | RangeSettings, *, grid: bool) -> BaseDistribution:
    """Optuna's distribution of one setting's values or range."""
    if isinstance(values, RangeSettings):
        numbers = values.numbers if values.step else (values.low, values.high)
        low, high = numbers[0], numbers[-1]
        if all(isinstance(v, int) for v in (low, high, values.step)):
            return IntDistribution(int(low), int(high), log=values.log, step=int(values.step) or 1)
        step = None if grid or not values.step else float(values.step)
        return FloatDistribution(low, high, log=values.log, step=step)
    if grid and _numeric(values):
        whole = all(isinstance(v, int) for v in values)
        return (IntDistribution if whole else FloatDistribution)(min(values), max(values))
    return CategoricalDistribution([held_value(value) for value in values])


def _numeric(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def held_value(value: Any) -> str | int | float | bool | None:  # noqa: ANN401  # any JSON value
    """The value as Optuna can hold it: lists and dictionaries as JSON text."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value)


def given_value(values: tuple[Any, ...] | RangeSettings, held: object) -> Any:  # noqa: ANN401  # any JSON
    """The value as the study file has it."""
    if isinstance(values, RangeSettings):
        return held
    return next(v for v in values if held_value(v) == held and type(held_value(v)) is type(held))


def suggested(trial: optuna.Trial, config: StudyConfig) -> dict[str, Any]:
    """The sampler's proposal for a trial, as the study file has its values."""
    found = {}
    for path, values in config.sweep.parameters.items():
        held = _suggested(trial, path, distribution(values, grid=False))
        found[path] = given_value(values, held)
    return found


def _suggested(trial: optuna.Trial, path: str, among: BaseDistribution) -> object:
    if isinstance(among, IntDistribution):
        return trial.suggest_int(path, among.low, among.high, step=among.step, log=among.log)
    if isinstance(among, FloatDistribution):
        return trial.suggest_float(path, among.low, among.high, step=among.step, log=among.log)
    if isinstance(among, CategoricalDistribution):
        return trial.suggest_categorical(path, among.choices)
    raise TypeError(f"{among} is no distribution of a sweep")


def pruner(config: StudyConfig) -> optuna.pruners.BasePruner:
    """Optuna's name for what decides on early stopping; epochs are its steps."""
    settings = config.sweep.early_stopping
    if settings.name == "median":
        first = settings.warmup_epochs + 1  # epochs are counted from 1
        return optuna.pruners.MedianPruner(settings.startup_trials, first)
    if settings.name == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(settings.first_epochs, settings.reduction)
    return optuna.pruners.NopPruner()


class StudyOfSome(optuna.Study):
    """An Optuna study without some of its trials, for samplers and pruners.

    Args:
        name: Its name.
        storage: Its storage.
        hidden: Numbers of the trials that are not seen.
    """

    def __init__(self, name: str, storage: BaseStorage, hidden: frozenset[int]) -> None:
        super().__init__(name, storage)
        self._hidden = hidden

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that are seen."""
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        found = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in found if trial.number not in self._hidden]


def sampler(config: StudyConfig, ended: int, of: str = "") -> optuna.samplers.BaseSampler:
    """The sampler of the next proposal.

    Args:
        config: The study.
        ended: How many trials have ended, which seeds it.
        of: Names the trials that it sees. NSGA-II keeps generations and parents in the storage,
            under the name of its class: other trials have others.
    """
    settings = config.sweep.sampler
    seed = int(np.random.SeedSequence([settings.seed, ended]).generate_state(1)[0])
    if settings.name == "nsga2":
        kind = optuna.samplers.NSGAIISampler
        named: type[optuna.samplers.NSGAIISampler] = (
            type(f"NSGAIISampler_{of[:12]}", (kind,), {}) if of else kind
        )
        return named(population_size=settings.population, seed=seed)
    if settings.name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)  # a grid's trials all wait with their values
