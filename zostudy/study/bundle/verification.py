"""Whether the programs of a bundle, read back from disk, give what the trained network gives."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zostudy.errors import TrialError
from zostudy.study.bundle.formats import INT8, Formats
from zostudy.study.bundle.predict import Run, opened
from zostudy.study.bundle.program import Bundle, Program

Array = npt.NDArray[np.float32]

#: Most by which a probability of a program may differ from the network's.
TOLERANCE = 1e-4

#: Where the two highest probabilities are closer than this, rounding decides which is higher.
_TIE = 1e-6

_BATCH = 256


def verified(program: Program, bundle: Bundle, chosen: Formats, folder: Path) -> dict[str, Any]:
    """Compare every program with the network, on all test pictures.

    Returns:
        The report: ``test_pictures``, ``tolerance``, the network's ``accuracy`` in percent, and
        for every file under ``programs`` its ``accuracy``, ``different_labels``,
        ``largest_difference`` of a probability, and size in ``bytes``.

    Raises:
        TrialError: A program gives another label or probability; a quantized one may.
    """
    wanted = _probabilities(program.run, bundle)
    report: dict[str, Any] = {
        "test_pictures": len(bundle.test),
        "tolerance": TOLERANCE,
        "accuracy": _accuracy(wanted, bundle),
        "programs": {},
    }
    for name in (*chosen.files, *([INT8] if chosen.int8 else [])):
        run = opened(folder / name)
        given = _probabilities(run, bundle)
        single = run(bundle.test.images[:1].numpy())
        row = {
            "accuracy": _accuracy(given, bundle),
            "different_labels": int(_different(given, wanted).sum()),
            "largest_difference": float(np.abs(given - wanted).max()),
            "bytes": (folder / name).stat().st_size,
        }
        report["programs"][name] = row
        if name != INT8:
            off = max(row["largest_difference"], float(np.abs(single - wanted[:1]).max()))
            _check(name, off, int(row["different_labels"]))
    return report


def _check(name: str, off: float, labels: int) -> None:
    """End where a program does not give what the network gives.

    Raises:
        TrialError: It does not; a probability that is not finite differs too.
    """
    if not off <= TOLERANCE or labels:
        raise TrialError(
            f"export: {name} differs from the network by up to {off:.3g} in a probability and in "
            f"{labels} labels; allowed: {TOLERANCE:g} and 0"
        )


def _probabilities(run: Run, bundle: Bundle) -> Array:
    parts = [run(images.numpy()) for images in torch.split(bundle.test.images, _BATCH)]
    return np.concatenate(parts)


def _accuracy(probabilities: Array, bundle: Bundle) -> float:
    """Percent of the test pictures whose class is the most probable one."""
    return (
        100 * int((probabilities.argmax(1) == bundle.test.labels.numpy()).sum()) / len(bundle.test)
    )


def _different(given: Array, wanted: Array) -> npt.NDArray[np.bool_]:
    """Pictures with another label, but for ties."""
    highest = np.sort(wanted, 1)[:, -2:]
    clear = highest[:, 1] - highest[:, 0] > _TIE
    return np.asarray((given.argmax(1) != wanted.argmax(1)) & clear)
