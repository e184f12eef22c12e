"""The deployment folder of a trained network: all that its use needs, and where it came from.

Neither the programs nor ``weights.safetensors`` hold anything pickled, and every program is read
back from disk and compared with the network before the folder takes its place.
"""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from zostudy import host
from zostudy.data import preprocess
from zostudy.runtime import environment
from zostudy.study.bundle import formats, latency, predict
from zostudy.study.bundle.card import card
from zostudy.study.bundle.folder import new_folder
from zostudy.study.bundle.formats import FORMATS, Formats
from zostudy.study.bundle.program import PIL_MODES, Bundle, Program
from zostudy.study.bundle.verification import verified
from zostudy.study.pictures.drawing import genotype_figure

#: Timed calls of the latency that a card states.
_RUNS = 20


def export(
    bundle: Bundle, output: Path, chosen: Formats | None = None, *, force: bool = False
) -> list[Path]:
    """Write a deployment folder, whole or not at all.

    Args:
        bundle: What to write.
        output: The folder: new or empty; its parents are made.
        chosen: Which programs; torch's own where None.
        force: Whether an earlier bundle there is replaced.

    Returns:
        The files written.

    Raises:
        ConfigError: The folder holds something or cannot be made, or there are too few pictures
            to calibrate.
        TrialError: The disk is full or cannot be written, or a program that was written does not
            give what the network gives.
    """
    chosen = chosen or Formats()
    if chosen.int8:
        formats.check_calibration(bundle.train)
    versions = _versions(chosen)
    with new_folder(output, force=force) as folder:
        _write(folder / "genotype.json", bundle.genotype.to_json() + "\n")
        genotype_figure(bundle.genotype).savefig(folder / "genotype.png")
        _write(folder / "labels.json", _as_json(bundle.classes))
        _write(folder / "preprocessing.json", _as_json(_preprocessing(bundle)))
        shutil.copyfile(preprocess.__file__, folder / "preprocess.py")
        shutil.copyfile(predict.__file__, folder / "predict.py")
        weights = {name: t.cpu().contiguous() for name, t in bundle.network.state_dict().items()}
        save_file(weights, folder / "weights.safetensors", {"genotype": bundle.genotype.to_json()})
        (folder / "weights.safetensors").chmod(0o644)
        program = Program(bundle)
        formats.write(program, bundle, chosen, folder)
        report = verified(program, bundle, chosen, folder)
        report["latency"] = _latency(bundle, folder, list(report["programs"]))
        _write(folder / "report.json", _as_json(report))
        figures = {"trial": bundle.metrics, "seeds": bundle.spread}
        _write(folder / "metrics.json", _as_json(figures))
        _write(folder / "bundle.json", _as_json({"provenance": bundle.provenance}))
        _write(folder / "versions.json", _as_json(versions))
        _write(folder / "README.md", card(bundle, chosen, report, versions))
    return sorted(output.iterdir())


def _latency(bundle: Bundle, folder: Path, programs: list[str]) -> dict[str, Any]:
    protocol = latency.Protocol(threads=host.processors(), runs=_RUNS)
    found = latency.measured(folder, programs, bundle.shape, protocol)
    return {"hardware": latency.hardware(), "measured": [row.document() for row in found]}


def _versions(chosen: Formats) -> dict[str, str]:
    needed = dict.fromkeys(module for name in chosen.names for module in FORMATS[name][1])
    packages = ("pillow", "safetensors", *needed)
    return environment() | {name: metadata.version(name) for name in packages}


def _preprocessing(bundle: Bundle) -> dict[str, object]:
    channels, height, width = bundle.shape
    mode = PIL_MODES.get(channels)
    reading = {"read": {"mode": mode, "bits": bundle.bits, "size": (width, height)}} if mode else {}
    return reading | {
        "shape": bundle.shape,
        "layout": "batch, channels, height, width",
        "dtype": "uint8",
        "range": [0, 255],
        "resize": "largest centred part of this shape, scaled: preprocess.py does it",
        "mean": bundle.mean,
        "std": bundle.std,
        "normalization": "(picture / 255 - mean) / std for each channel; the programs do it",
    }


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
