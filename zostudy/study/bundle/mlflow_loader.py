"""A bundle as MLflow's pyfunc model; shipped verbatim with a model of the registry.

Needs what the bundle's own ``predict.py`` needs, by which it classifies, and not zostudy.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

#: Modules of a bundle, the one that is imported by the other last.
_MODULES = ("predict", "preprocess")


class Model:
    """What MLflow serves.

    Args:
        folder: The bundle.

    Raises:
        RuntimeError: A file of it is not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        module = _own_predict(folder)
        changed = module.damaged(folder)
        if changed:
            raise RuntimeError(f"{folder}: not as it was written: {', '.join(changed)}")
        self._classifier = module.Classifier(folder)

    def predict(self, pictures: npt.NDArray[np.uint8]) -> list[dict[str, float]]:
        """For each picture the probability of every label, in the order of the labels.

        Args:
            pictures: Bytes; batch, channels, height, width.
        """
        found = self._classifier.probabilities(pictures).tolist()
        return [dict(zip(self._classifier.labels, row, strict=True)) for row in found]


def _load_pyfunc(data_path: str) -> Model:
    return Model(Path(data_path))


def _own_predict(folder: Path) -> ModuleType:
    """The bundle's ``predict.py``, whatever else is imported under the names of its modules."""
    others = {name: sys.modules.pop(name) for name in _MODULES if name in sys.modules}
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("predict")
    finally:
        sys.path.remove(str(folder))
        for name in _MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(others)
