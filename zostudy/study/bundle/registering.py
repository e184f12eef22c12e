"""A bundle in the model registry of a study's MLflow store."""

import json
from pathlib import Path
from typing import Any

from zostudy.study.bundle import mlflow_loader
from zostudy.study.bundle.card import plain
from zostudy.study.bundle.predict import PROGRAMS
from zostudy.study.delivery.registry import Registered, Registry


def register(bundle: Path, registry: Registry) -> str:
    """Make a bundle the next version of a registered model; the version.

    Args:
        bundle: The folder, as export has written it.
        registry: Where it goes.

    Raises:
        TrialError: The store does not take it.
    """
    return registry.register(registered(bundle))


def registered(bundle: Path) -> Registered:
    """What the registry is told of a bundle."""
    origin: dict[str, Any] = _json(bundle, "bundle.json")["provenance"]
    labels: list[str] = _json(bundle, "labels.json")
    accuracy: float = _json(bundle, "report.json")["accuracy"]
    shape = tuple(_json(bundle, "preprocessing.json")["shape"])
    versions: dict[str, str] = _json(bundle, "versions.json")
    program = next(name for name in PROGRAMS if (bundle / name).is_file())
    runtime = "torch" if program.endswith(".pt2") else "onnxruntime"
    size = "×".join(map(str, shape))
    study = plain(origin["study"])
    names = ", ".join(plain(label) for label in labels)
    return Registered(
        folder=bundle,
        loader=Path(mlflow_loader.__file__),
        shape=shape,
        labels=labels,
        requirements=[
            f"{name}=={versions[name].partition('+')[0]}" for name in (runtime, "numpy", "pillow")
        ],
        description=(
            f"A classifier of {size} pictures (channels × height × width; bytes) into "
            f"{len(labels)} classes, of zostudy's study {study}. It gives the probability of "
            f"every class: {names}"
        ),
        version_description=(
            f"Trial {plain(origin['trial'])} of the study {study}: {accuracy:.2f} % of the test "
            f"pictures. It runs `{program}`; the files of its bundle are in `data/bundle`, of "
            "which `README.md` tells more."
        ),
        tags={f"zostudy.{name}": str(value) for name, value in origin.items()}
        | {"zostudy.test_accuracy": str(accuracy), "zostudy.program": program},
    )


def _json(bundle: Path, name: str) -> Any:  # noqa: ANN401  # plain values of any kind
    return json.loads((bundle / name).read_text(encoding="utf-8"))
