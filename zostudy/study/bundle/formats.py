"""The formats of an exported program, and what each needs installed.

``pt2`` is torch's own; ``onnx`` is written by torch with onnxscript and run by ONNX Runtime. The
int8 program is the ONNX program after static quantization: int8 weights with a scale for each
output channel, activations with scales that training pictures calibrate.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from zostudy.data.sources import Pictures
from zostudy.errors import ConfigError
from zostudy.evaluation.programs import ONNX, as_onnx, lacking
from zostudy.study.bundle.program import Bundle, Program, exported

if TYPE_CHECKING:
    import onnx

#: File of a program and the modules that it needs beside torch, by format.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pt2": ("model.pt2", ()),
    "onnx": ("model.onnx", ONNX),
}

#: The quantized program.
INT8 = "model-int8.onnx"

#: Fewest and most training pictures that calibrate; more hardly move a range.
LEAST_CALIBRATION, MOST_CALIBRATION = 32, 512

_CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Formats:
    """Which programs a bundle holds.

    Attributes:
        names: Formats, each a key of :data:`FORMATS`.
        int8: Whether there is a quantized program too.
    """

    names: tuple[str, ...] = ("pt2",)
    int8: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Files of the programs that give what the network gives."""
        return tuple(FORMATS[name][0] for name in self.names)


def formats(text: str, *, int8: bool = False) -> Formats:
    """The formats of ``--format`` and ``--int8``, before anything is trained or written.

    Raises:
        ConfigError: A format is unknown, what it needs is not installed, or there is nothing to
            quantize.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"--format: {name!r} is unknown; allowed: {', '.join(FORMATS)}")
        if what := lacking(FORMATS[name][1]):
            raise ConfigError(f"--format: {name} {what}")
    if int8 and "onnx" not in names:
        raise ConfigError(
            f"--int8: quantizes the ONNX program, and --format is {text}; allowed with it: "
            f"--format {','.join((*names, 'onnx'))}"
        )
    return Formats(names, int8)


def check_calibration(train: Pictures) -> None:
    """Whether there are training pictures enough to calibrate.

    Raises:
        ConfigError: There are too few.
    """
    if len(train) < LEAST_CALIBRATION:
        raise ConfigError(
            f"--int8: {len(train)} training pictures are too few to calibrate; needs at "
            f"least {LEAST_CALIBRATION}"
        )


def write(program: Program, bundle: Bundle, chosen: Formats, folder: Path) -> None:
    """Write the programs into a folder."""
    graph = exported(program, bundle)
    for name in chosen.names:
        if name == "pt2":
            torch.export.save(graph, folder / "model.pt2")
        else:
            _save(as_onnx(graph, "images", ["probabilities"]), folder / "model.onnx")
    if chosen.int8:
        _quantize(folder / "model.onnx", bundle, folder / INT8)


def _save(model: "onnx.ModelProto", path: Path) -> None:
    """Write an ONNX program without what it says of the code that it came from."""
    held = [model.graph, *model.graph.node, *model.graph.input, *model.graph.output]
    for part in [model, *held, *model.graph.value_info, *model.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    used = {node.domain for node in model.graph.node}
    versions = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Calibration:
    """Training pictures in batches, as ONNX Runtime asks for them."""

    def __init__(self, bundle: Bundle) -> None:
        step = max(1, len(bundle.train) / MOST_CALIBRATION)
        count = min(len(bundle.train), MOST_CALIBRATION)
        chosen = [int(index * step) for index in range(count)]
        self._batches: Iterator[torch.Tensor] = iter(
            torch.split(bundle.train.images[chosen], _CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}


def _quantize(source: Path, bundle: Bundle, path: Path) -> None:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to do what is done here
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folded = Path(folder) / "folded.onnx"
            quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
            quantized = Path(folder) / "quantized.onnx"
            quantization.quantize_static(
                str(folded),
                str(quantized),
                _Calibration(bundle),
                per_channel=True,
                op_types_to_quantize=_QUANTIZED,
                extra_options={"ForceQuantizeNoInputCheck": False},
            )
            _save(onnx.load(quantized), path)
    finally:
        logging.root.setLevel(level)


#: What is computed in int8: all but the first steps (bytes to float) and the softmax.
_QUANTIZED: Sequence[str] = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "Concat")
