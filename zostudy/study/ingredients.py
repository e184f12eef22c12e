"""What a trial is made of beside its settings and seed, and how two such records are compared.

An *ingredient* has a name and a value, which is a digest (SHA-256, hexadecimal) or a word:

============== ====================================================================================
``data``       digest of pixels, labels, names of classes and splits; with splits by seed, of that
               which trials would share, from which those of the seeds follow
a path         of a setting that names a file, such as ``prune.path`` or ``evaluate.path``: its
               content
``extensions`` source of the study's extensions, and of their own modules that these import
``engine``     source of the parts of zostudy that compute
``device``     type of the device that computed: ``cpu`` or ``cuda``
``hardware``   processor, how many are usable, platform and versions of the runtime, where latency
               is measured
============== ====================================================================================

Precision and threads are settings. The last three ingredients are the *machine*; the others are the
*inputs*. An ingredient that is not known has no value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Ingredients = Mapping[str, str]

#: What only a measured latency follows from.
HARDWARE = "hardware"

#: What a latency follows from, and nothing else of a trial.
OF_LATENCY = (HARDWARE, "latency.path")

#: The ingredients that are the machine's.
MACHINE = ("engine", "device", HARDWARE)

_TITLES = {
    "data": "the data (pictures, labels, classes and splits)",
    "extensions": "the source of the extensions",
    "engine": "the engine (zostudy's own source)",
    "device": "the type of device",
    HARDWARE: "the hardware that latency is measured on",
}

#: Digits of a digest that are shown.
_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """An ingredient that has another value than it had.

    Attributes:
        name: Its name.
        then: The value that is recorded; empty where there was none.
        now: The value that it has now; empty where there is none.
    """

    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{title(self.name)} was {shown(self.then)} then and is {shown(self.now)} now"

    @property
    def of_machine(self) -> bool:
        """Whether it is the machine's."""
        return self.name in MACHINE


@dataclass(frozen=True)
class Apart:
    """Complete trials that are not counted, since they are made of something else.

    Attributes:
        trials: Their numbers in the study, ascending.
        differences: What is different.
    """

    trials: tuple[int, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        what = "; ".join(map(str, self.differences))
        one = len(self.trials) == 1
        back = _back([d for d in self.differences if not d.of_machine], "it" if one else "them")
        return (
            f"{trials_named(self.trials)} {'is' if one else 'are'} kept apart, and no mean counts "
            f"{'it' if one else 'them'}: {what}; `zostudy run` runs what is missing now{back}"
        )


def _back(inputs: Sequence[Difference], them: str) -> str:
    if not inputs:
        return ""
    return f", and bringing back what was there then makes {them} count again"


def title(name: str) -> str:
    """An ingredient in words."""
    plain, _, where = name.partition(" ")  # a sampled sweep may have more than one, by a setting
    return f"{_TITLES.get(plain, f'the file that {plain} names')} {where}".rstrip()


def shown(value: str) -> str:
    """A value as it is shown: words, or the first digits of a digest."""
    return (value if " " in value else value[:_SHOWN]) or "not there"


def trials_named(numbers: Sequence[int]) -> str:
    """Trials by their numbers, ranges of three and more in short: ``trials 0–2, 5``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"{'trial' if len(set(numbers)) == 1 else 'trials'} {', '.join(parts)}"


def inputs(made_of: Ingredients) -> dict[str, str]:
    """The ingredients that are not the machine's."""
    return {name: value for name, value in made_of.items() if name not in MACHINE}


def machine(made_of: Ingredients) -> dict[str, str]:
    """The ingredients that are the machine's."""
    return {name: value for name, value in made_of.items() if name in MACHINE}


def differences(
    then: Ingredients, now: Ingredients, names: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """The ingredients whose values are not the same.

    Args:
        then: Those that are recorded.
        now: Those of today; one without a value is not known, and is not compared.
        names: Which are compared; all where none are named.
    """
    compared = list(dict.fromkeys([*then, *now])) if names is None else names
    return tuple(
        Difference(name, then.get(name, ""), now.get(name, ""))
        for name in compared
        if then.get(name, "") != now.get(name, "") and (now.get(name, "") or name not in now)
    )
