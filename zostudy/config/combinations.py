"""What cannot be combined in a search, and why; said before any compute and without torch.

Components declare what they need as facts of their decorators: ``needs`` holds ``"skip"`` for a
search space with skip connections, ``"pictures"`` for pictures that train α alone,
``"every operation"`` for a pass that computes every operation, ``"first order"`` for an
architecture gradient that is that of the loss, and ``"partial channels"`` for operations that act
on a part of the channels. A relaxation with ``paths: True``
computes one operation an edge, and one with ``trains: False`` leaves α as it is, so that nothing
can be chosen by it. A schedule may name a ``check``, ``(epochs, *, options) -> problem``.
"""

from collections.abc import Iterator
from typing import Any

from zostudy import registry
from zostudy.config.search import SearchSettings
from zostudy.config.settings import TrialConfig
from zostudy.errors import ConfigError
from zostudy.registry import Component, Kind


def check_search(config: TrialConfig) -> None:
    """Refuse settings of a search that do not go together.

    Raises:
        ConfigError: With the setting, its value, why not, and what to set instead.
    """
    _check_split(config)
    _check_splits_by_seed(config)
    search = config.search
    if not search.trains_supernet:
        return
    found = {kind: _component(kind, section, config) for kind, section in _SECTIONS.items()}
    relaxation = found["relaxation"]
    for place, value, need in _needs(search, found):
        problem = _unmet(need, config, relaxation)
        if problem:
            raise ConfigError(f"{place}: {value!r} {problem}")
    by_strength = found["selection"].facts.get("by_strength")
    if by_strength and relaxation.facts.get("trains") is False:
        others = [
            name
            for name, one in registry.components("selection", config.extensions).items()
            if not one.facts.get("by_strength")
        ]
        raise ConfigError(
            f"search.selection.name: {search.selection.name!r} chooses by α, which the relaxation "
            f"{relaxation.name!r} does not train; allowed: {', '.join(others)}"
        )
    schedule = found["search_schedule"]
    check = schedule.facts.get("check")
    if check:
        problem = schedule.sibling(str(check))(search.epochs, **search.schedule.options)
        if problem:
            raise ConfigError(f"search.schedule.{problem}")


def check_source(config: TrialConfig) -> None:
    """Refuse options of a mask source that do not fit the search space.

    Raises:
        InputError: They do not.
    """
    name, extensions = config.search_space.name, config.extensions
    space = registry.find("search_space", name, "search_space.name", extensions)
    config.mask_source.check_fit(space.load()())


def _check_split(config: TrialConfig) -> None:
    """Refuse a channel split where all channels go through the operations."""
    supernet, place = config.supernet, "supernet.channel_split.name"
    name = supernet.channel_split.name
    found = registry.find("channel_split", name, place, config.extensions)
    needs = found.facts.get("needs", ())
    if isinstance(needs, tuple) and "partial channels" in needs and supernet.partial_channels == 1:
        raise ConfigError(
            f"{place}: {name!r} chooses the channels that operations act on, and with "
            "supernet.partial_channels 1 they act on all; allowed: 'first', or partial_channels "
            "above 1, such as 4"
        )


def _check_splits_by_seed(config: TrialConfig) -> None:
    """Refuse splits by seed where nothing but the test part is split off."""
    if (
        config.dataset.splits == "by_seed"
        and not config.dataset.validation_fraction
        and not config.search.architecture_fraction
    ):
        raise ConfigError(
            "dataset.splits: 'by_seed' has no effect where dataset.validation_fraction and "
            "search.architecture_fraction are 0; allowed: 'shared', or one of them above 0"
        )


#: Kinds of component that a search has one of, and its section.
_SECTIONS: dict[Kind, str] = {
    "relaxation": "relaxation",
    "perturbation": "perturbation",
    "freezing": "freezing",
    "search_schedule": "schedule",
    "selection": "selection",
}


def _component(kind: Kind, section: str, config: TrialConfig) -> Component:
    name = getattr(config.search, section).name
    return registry.find(kind, name, f"search.{section}.name", config.extensions)


def _needs(search: SearchSettings, found: dict[Kind, Component]) -> Iterator[tuple[str, Any, str]]:
    """The settings that need something: their place, their value and what they need."""
    for kind, section in _SECTIONS.items():
        needs = found[kind].facts.get("needs", ())
        for need in needs if isinstance(needs, tuple) else ():
            yield f"search.{section}.name", found[kind].name, need
    if search.order == "harmonized":
        yield "search.order", search.order, "every operation"
    if search.auxiliary_skip != "none":
        yield "search.auxiliary_skip", search.auxiliary_skip, "skip"
    if search.drop_skip:
        yield "search.drop_skip", search.drop_skip, "skip"
    if search.eigenvalue:
        yield "search.eigenvalue", True, "pictures"


def _unmet(need: str, config: TrialConfig, relaxation: Component) -> str:
    """Why a need is not met; empty if it is."""
    if need == "every operation" and relaxation.facts.get("paths"):
        return (
            f"needs every operation in a pass, and the relaxation {relaxation.name!r} computes one "
            "an edge; set another search.relaxation.name, such as softmax"
        )
    if need == "pictures" and config.search.architecture_fraction == 0:
        return (
            "needs pictures that train α alone, and search.architecture_fraction is 0; "
            "allowed: a fraction above 0"
        )
    if need == "first order" and config.search.order != "first":
        return (
            "needs the gradient of the loss itself in the architecture step, and search.order is "
            f"{config.search.order!r}; allowed: 'first'"
        )
    if need == "skip":
        name = config.search_space.name
        space = registry.find("search_space", name, "search_space.name", config.extensions)
        if space.load()().identity is None:
            return f"needs skip connections, and the search space {name!r} has none"
    return ""
