"""A mask source with its options, and what its declaration says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zostudy import registry
from zostudy.registry import Component


@dataclass(frozen=True)
class MaskSource:
    """The mask source of a trial.

    Attributes:
        component: Its declaration; `zostudy.pruning.mask_sources` has the facts that it may state.
        options: Its options.
    """

    component: Component
    options: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any], extensions: tuple[str, ...]) -> "MaskSource":
        """The mask source of that name.

        Raises:
            ConfigError: There is none.
        """
        return cls(registry.find("mask_source", name, "prune.source", extensions), options)

    @property
    def known(self) -> bool:
        """Whether its mask needs neither pictures nor time."""
        return self.component.facts.get("known") is True

    @property
    def scores(self) -> bool:
        """Whether it says what its mask will be like, because it takes memory and time."""
        return "expected_mask" in self.component.facts

    @property
    def level(self) -> str:
        """The option of which smaller values keep fewer operations; empty where there is none."""
        return str(self.component.facts.get("level", ""))

    @property
    def continues(self) -> tuple[str, ...]:
        """The options that only say how far a trajectory is followed."""
        named = self.component.facts.get("continues", ())
        return named if isinstance(named, tuple) else ()

    @property
    def to_genotype(self) -> str:
        """The setting with which it ends with a genotype; empty where it does not."""
        ends = _ends(self.component)
        if ends is None or any(self.options.get(name) != value for name, value in ends.items()):
            return ""
        setting = (f"prune.{name}: {value!r}" for name, value in ends.items())
        return next(setting, f"prune.source: {self.component.name!r}")

    def check_fit(self, space: object) -> None:
        """Whether its options fit a search space, where it says so without anything else.

        Raises:
            InputError: They do not.
        """
        named = self.component.facts.get("fits")
        if named is not None:
            self.component.sibling(str(named))(space, **self.options)

    def __call__(self, context: object) -> Any:  # noqa: ANN401  # a PruneResult, which imports torch
        """The result of the source in a context."""
        return self.component.load()(context, **self.options)

    def expected(self, context: object) -> Any:  # noqa: ANN401  # an ExpectedMask
        """What its mask will be like, where it `scores`."""
        named = str(self.component.facts["expected_mask"])
        return self.component.sibling(named)(context, **self.options)

    def check(self, context: object) -> None:
        """Run the check that it names, if it names one.

        Raises:
            InputError: It cannot work with these options and this context.
        """
        named = self.component.facts.get("check")
        if named is not None:
            self.component.sibling(str(named))(context, **self.options)


def to_genotype(extensions: tuple[str, ...]) -> str:
    """The mask sources that can end with a genotype, and with which options."""
    found = {
        name: _ends(component)
        for name, component in registry.components("mask_source", extensions).items()
    }
    return " or ".join(
        " with ".join([f"prune.source {name!r}", *(f"{o} {v!r}" for o, v in ends.items())])
        for name, ends in found.items()
        if ends is not None
    )


def _ends(component: Component) -> dict[str, object] | None:
    """The option and its value with which a source ends with a genotype; nothing if it does not."""
    declared = component.facts.get("genotype")
    return declared if isinstance(declared, dict) else None
