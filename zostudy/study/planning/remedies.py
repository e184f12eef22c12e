"""Settings that a phase's memory follows, and how they are changed so that it fits."""

from collections.abc import Callable, Sequence
from typing import Any

from zostudy.config.settings import TrialConfig

#: From the least to the most that is computed again.
_RECOMPUTE = ("none", "partial", "full")

#: Path of a setting, its values of rising need, and the settings with one of them.
Remedy = tuple[str, Sequence[Any], Callable[[Any], TrialConfig]]


def changes_of(config: TrialConfig, phase: str) -> list[Remedy]:
    """Settings that a phase's memory follows: path, values of rising need, and how to set one."""
    if phase == "prune":
        return []

    def with_xi(value: float) -> TrialConfig:
        return with_settings(config, "prune", options={**config.prune.options, "xi": value})

    def with_batch(value: int) -> TrialConfig:
        return with_settings(config, phase, batch_size=value)

    accumulate = config.search.accumulate if phase == "search" else 1
    sizes = batch_sizes(getattr(config, phase).batch_size - 1, accumulate)
    found: list[Remedy] = [(f"{phase}.batch_size", sizes, with_batch)]
    if phase == "search":
        xi = config.prune.options.get("xi", 0.0)
        shares = [step / 20 for step in range(1, 20) if step / 20 < xi]
        stronger = _RECOMPUTE[_RECOMPUTE.index(config.search.recompute) + 1 :]
        found += [
            ("prune.xi", shares, with_xi),
            (
                "search.recompute",
                stronger[::-1],
                lambda value: with_settings(config, "search", recompute=value),
            ),
        ]
    return found


def smallest_of(config: TrialConfig, phase: str) -> TrialConfig:
    """The smallest batch, and in a search the most recomputation."""
    if phase == "evaluate":
        return with_settings(config, phase, batch_size=2)
    sizes = batch_sizes(config.search.pictures_at_once, config.search.accumulate)
    size = sizes[0] if sizes else config.search.pictures_at_once
    return with_settings(config, phase, batch_size=size, recompute="full")


def batch_sizes(most: int, accumulate: int) -> list[int]:
    """Powers of two up to a number, of at least two, that the micro-batches divide."""
    powers = (1 << power for power in range(1, max(most, 1).bit_length()))
    return [size for size in powers if size % accumulate == 0]


def with_settings(config: TrialConfig, section: str, **values: Any) -> TrialConfig:  # noqa: ANN401  # settings
    """The settings with some of one section replaced."""
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})
