"""The ways to find the accuracy of a genotype, each declared once.

The section ``evaluate`` of a study file names one. Which of its settings have an effect, which of
them are files, what a study can select by, and what is planned, checked, exported or compared with
random choice follow from these declarations. A new way is declared here and computed by
`zostudy.study.trial.phases`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Evaluator:
    """A way to find the accuracy of a genotype.

    Attributes:
        name: Its name in study files, ``evaluate.by``.
        own: Settings of the section that no other way follows. ``by`` is among those of every way
            but training, whose results are kept under the settings of a training alone.
        shared: Of the rest, the settings that it follows; all where none is named.
        needs: Settings of its own that must not be empty.
        files: Settings of its own that name files.
        trains: Whether it trains the genotype's network, which takes pictures and memory, and
            gives weights.
        knows_all: Whether it knows the accuracy of every architecture of the search space.
        selects_by: The setting without which there are no accuracies to select by; empty where
            there are none whatever is set.
        selection: What that setting must be, to follow "needs" in a message.
    """

    name: Literal["training", "table", "predictor"]
    own: tuple[str, ...]
    shared: tuple[str, ...]
    needs: tuple[str, ...]
    files: tuple[str, ...]
    trains: bool
    knows_all: bool
    selects_by: str
    selection: str


EVALUATORS = {
    evaluator.name: evaluator
    for evaluator in (
        Evaluator(
            "training",
            own=(),
            shared=(),
            needs=(),
            files=(),
            trains=True,
            knows_all=False,
            selects_by="dataset.validation_fraction",
            selection="dataset.validation_fraction above 0",
        ),
        Evaluator(
            "table",
            own=("by", "path", "column", "validation_column", "architecture_column"),
            shared=("cells", "channels"),
            needs=("path", "column", "architecture_column"),
            files=("path",),
            trains=False,
            knows_all=True,
            selects_by="evaluate.validation_column",
            selection="evaluate.validation_column where evaluate.by is 'table'",
        ),
        Evaluator(
            "predictor",
            own=("by", "path"),
            shared=("cells", "channels"),
            needs=("path",),
            files=("path",),
            trains=False,
            knows_all=False,
            selects_by="",
            selection="",
        ),
    )
}

#: Settings that say where accuracies come from, and so what can be compared.
SOURCES = tuple(dict.fromkeys(name for one in EVALUATORS.values() for name in one.own))


def followed(evaluator: Evaluator, names: Sequence[str]) -> list[str]:
    """Of the settings of the section ``evaluate``, those that a way follows."""
    shared = evaluator.shared or [name for name in names if name not in SOURCES]
    return [name for name in names if name in evaluator.own or name in shared]
