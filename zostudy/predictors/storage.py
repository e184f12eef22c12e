"""Predictors as JSON files: what they were fitted on and how, from which they are fitted again.

Nothing in a file is executed, and fitting again gives the same predictor: models are seeded, and
what the cross-validation has found stands in the file. It also holds what the predictor says of a
few of its examples; where fitting again does not give the same (another version of scikit-learn),
it is refused.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from zostudy.errors import ConfigError, InputError
from zostudy.predictors.encodings import ENCODINGS
from zostudy.predictors.models import MODELS
from zostudy.predictors.predictor import Examples, Predictor, Settings
from zostudy.space import genotype as genotypes
from zostudy.space.search_space import SearchSpace, search_space
from zostudy.space.text import shown

_FORMAT = "zostudy predictor 1"

#: Examples whose predictions are compared, and how far they may lie apart, in percentage points.
_CHECKED, _APART = 16, 0.01


def written(predictor: Predictor) -> bytes:
    """The file of a predictor."""
    examples = predictor.examples
    some = slice(_CHECKED)
    document = {
        "format": _FORMAT,
        "space": examples.space.name,
        "settings": asdict(predictor.settings),
        "weights": dict(predictor.blend.weights),
        "margin": predictor.margin,
        "kendall_tau": predictor.tau,
        "columns": list(examples.names),
        "examples": [
            [genotype.to_dict()["cells"], accuracy, *row]
            for genotype, accuracy, row in zip(
                examples.genotypes,
                examples.accuracies.tolist(),
                examples.columns.tolist(),
                strict=True,
            )
        ],
        "predicted": predictor(
            examples.genotypes[some], examples.columns[some]
        ).accuracies.tolist(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def read(path: Path, extensions: tuple[str, ...] = ()) -> Predictor:
    """Fit the predictor of a file again.

    Args:
        path: The file.
        extensions: Modules that may declare its search space.

    Raises:
        ConfigError: The file cannot be read, is of another format, or does not give the same
            predictor here.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is no predictor: needs JSON that `predictor fit` wrote"
        ) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise ConfigError(
            f"{path}: is no predictor of this version: its format is {shown(str(found))}; "
            f"needs {_FORMAT!r}; fit it again"
        )
    try:
        examples, settings = _parts(document, extensions)
        weights = {str(name): float(weight) for name, weight in document["weights"].items()}
        check(replace(settings, models=tuple(weights)))
        margin, tau = float(document["margin"]), float(document["kendall_tau"])
        predictor = Predictor.again(examples, settings, weights, margin, tau)
        expected = np.array(document["predicted"], dtype=np.float64)
    except InputError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{path}: is damaged ({type(error).__name__}); fit it again") from error
    examples = examples.some(range(min(_CHECKED, len(examples.genotypes))))
    apart = np.abs(predictor(examples.genotypes, examples.columns).accuracies - expected).max()
    if not apart <= _APART:
        raise ConfigError(
            f"{path}: predicts other accuracies here than where it was fitted (by {apart:.2g} "
            "percentage points): versions of scikit-learn or numpy differ; fit it again"
        )
    return predictor


def of_space(path: Path, place: str, space: SearchSpace) -> Predictor:
    """The predictor of a file, for architectures of a space and nothing else known of them.

    Args:
        path: The file.
        place: The setting that names it.
        space: The search space.

    Raises:
        ConfigError: The file cannot be read, or its predictor is for another space or reads
            further columns.
    """
    try:
        predictor = read(path, space.extensions)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    examples = predictor.examples
    if examples.space.name != space.name:
        raise ConfigError(
            f"{place}: {path} predicts architectures of {examples.space.name!r}; the study has "
            f"{space.name!r}"
        )
    if examples.names:
        raise ConfigError(
            f"{place}: {path} reads columns ({', '.join(examples.names)}) that are not known of a "
            "genotype; needs a predictor that was fitted without --feature"
        )
    return predictor


def _parts(document: dict[str, Any], extensions: tuple[str, ...]) -> tuple[Examples, Settings]:
    space = search_space(document["space"], extensions)
    rows = document["examples"]
    names = tuple(str(name) for name in document["columns"])
    given = document["settings"]
    settings = Settings(
        **given | {"encodings": tuple(given["encodings"]), "models": tuple(given["models"])}
    )
    check(settings)
    found = [{"search_space": space.name, "cells": row[0]} for row in rows]
    cells = [genotypes.from_dict(one, extensions) for one in found]
    columns = np.array([row[2:] for row in rows], dtype=np.float64).reshape(len(rows), len(names))
    accuracies = np.array([row[1] for row in rows], dtype=np.float64)
    return Examples(tuple(cells), accuracies, columns, names), settings


def check(settings: Settings) -> None:
    """Whether every encoding and model is known, and there is one of each.

    Raises:
        ConfigError: It is not.
    """
    for option, given, known in (
        ("--encoding", settings.encodings, ENCODINGS),
        ("--model", settings.models, tuple(MODELS)),
    ):
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"{option}: {shown(name)} is not known; allowed: {', '.join(known)}"
                )
        if not given:
            raise ConfigError(f"{option}: needs one at least; allowed: {', '.join(known)}")
