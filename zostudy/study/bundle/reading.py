"""A bundle on disk: whether it is as it was written, and what it makes of pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zostudy.errors import ConfigError
from zostudy.study.bundle.predict import (
    CHECKSUMS,
    PROGRAMS,
    Classifier,
    Probabilities,
    damaged,
)


@dataclass(frozen=True)
class Row:
    """What a bundle makes of one picture.

    Attributes:
        picture: The file.
        label: Name of its most probable class.
        probability: Of that class.
        second: Name and probability of the next one.
        probabilities: Of every class, in the order of the labels.
    """

    picture: Path
    label: str
    probability: float
    second: tuple[str, float]
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Answers:
    """What a bundle makes of pictures.

    Attributes:
        program: File of the program that was run.
        labels: Names of the classes.
        found: Probabilities by picture.
        unreadable: The reason for each file that cannot be read.
    """

    program: str
    labels: Sequence[str]
    found: Mapping[Path, Probabilities]
    unreadable: Mapping[Path, str]

    def rows(self) -> Iterator[Row]:
        """One a picture that could be read."""
        for path, chances in self.found.items():
            order = np.argsort(-chances, kind="stable")
            best, second = int(order[0]), int(order[1])
            yield Row(
                path,
                self.labels[best],
                float(chances[best]),
                (self.labels[second], float(chances[second])),
                [float(chance) for chance in chances],
            )

    def document(self) -> dict[str, Any]:
        """As ``zostudy predict --json`` prints it."""
        return {
            "program": self.program,
            "labels": list(self.labels),
            "pictures": [
                {
                    "picture": str(row.picture),
                    "label": row.label,
                    "probability": row.probability,
                    "probabilities": list(row.probabilities),
                }
                for row in self.rows()
            ],
            "unreadable": [
                {"picture": str(path), "reason": reason} for path, reason in self.unreadable.items()
            ],
        }


def answers(bundle: Path, pictures: Sequence[Path], program: str = "") -> Answers:
    """Classify pictures.

    Args:
        bundle: The folder.
        pictures: Picture files.
        program: File of the program to run; empty for ONNX where it can be run, else torch's.

    Raises:
        ConfigError: The folder is no bundle or not as it was written, or the program is not in it
            or cannot be run.
    """
    classifier = Classifier(bundle, programs(bundle, program)[0])
    found, unreadable = classifier.classify(pictures)
    return Answers(classifier.program, classifier.labels, found, unreadable)


def programs(bundle: Path, wanted: str = "") -> list[str]:
    """The programs of a bundle that can be run here, or the wanted one.

    Raises:
        ConfigError: There is none, or the folder is no bundle or not as it was written.
    """
    _check(bundle)
    held = [name for name in PROGRAMS if (bundle / name).is_file()]
    if wanted and wanted not in held:
        raise ConfigError(f"--program: {wanted!r} is not in {bundle}; allowed: {', '.join(held)}")
    runnable = [
        name
        for name in ([wanted] if wanted else held)
        if name.endswith(".pt2") or find_spec("onnxruntime") is not None
    ]
    if not runnable:
        raise ConfigError(
            f"{bundle}: {wanted or held[0]} needs onnxruntime, which cannot be imported; "
            "pip install 'zostudy[onnx]' installs it"
        )
    return runnable


def shape(bundle: Path) -> tuple[int, ...]:
    """Channels, height and width of a bundle's pictures."""
    settings = json.loads((bundle / "preprocessing.json").read_text(encoding="utf-8"))
    return tuple(settings["shape"])


def _check(bundle: Path) -> None:
    """Whether a folder is a bundle, and as it was written.

    Raises:
        ConfigError: It is not.
    """
    if not (bundle / CHECKSUMS).is_file():
        raise ConfigError(
            f"{bundle}: is no bundle, which holds {CHECKSUMS}; zostudy export writes one"
        )
    try:
        changed = damaged(bundle)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{bundle}: cannot be read ({error})") from error
    if changed or not any((bundle / name).is_file() for name in PROGRAMS):
        raise ConfigError(
            f"{bundle}: not as it was written: {', '.join(changed) or 'it has no program'}; export "
            "it again"
        )
