"""Classify pictures with the network of this folder: ``python predict.py PICTURE...``.

Needs numpy, Pillow and onnxruntime; where the folder holds no ONNX program, torch in its place.
zostudy itself predicts with this very file.
"""

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

if __package__:
    from zostudy.data import preprocess
else:  # in a bundle, beside it
    import preprocess  # type: ignore[import-not-found,no-redef]

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Run = Callable[[Pixels], Probabilities]

#: Programs in the order in which they are preferred.
PROGRAMS = ("model.onnx", "model.pt2", "model-int8.onnx")

#: The list of checksums, in the format of sha256sum.
CHECKSUMS = "SHA256SUMS"


class Classifier:
    """The network of a bundle.

    Args:
        folder: The bundle.
        program: File name of the program to run; empty for the first of :data:`PROGRAMS` there is.
        threads: Threads that it may use; 0 leaves it to the runtime.
    """

    def __init__(self, folder: Path, program: str = "", threads: int = 0) -> None:
        self.program = program or next(p for p in PROGRAMS if (folder / p).exists())
        self.labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        settings = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
        self._read, self._shape = settings.get("read"), tuple(settings["shape"])
        self.probabilities = opened(folder / self.program, threads)

    def read(self, path: Path) -> Pixels:
        """The pixels of a picture file as training saw them: channels × height × width.

        Pictures that are neither grey nor in colour are arrays of bytes in files of numpy.

        Raises:
            PictureError: The file cannot be read.
        """
        if self._read:
            return preprocess.read(path, **self._read)
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise preprocess.PictureError("it is no array of numpy") from error
        if not isinstance(array, np.ndarray):
            raise preprocess.PictureError("it holds several arrays; allowed: one")
        if array.shape != self._shape or array.dtype != np.uint8:
            raise preprocess.PictureError(
                f"it holds {array.dtype}{list(array.shape)}; allowed: uint8{list(self._shape)}"
            )
        return np.asarray(array, np.uint8)

    def classify(
        self, paths: Iterable[Path], batch: int = 64
    ) -> tuple[dict[Path, Probabilities], dict[Path, str]]:
        """Probabilities by picture, and the reason for each file that cannot be read."""
        answers, reasons, waiting = {}, {}, {}  # type: ignore[var-annotated]

        def answer() -> None:
            if waiting:
                found = self.probabilities(np.stack(list(waiting.values())))
                answers.update(zip(waiting, found, strict=True))
                waiting.clear()

        for path in paths:
            try:
                waiting[path] = self.read(path)
            except preprocess.PictureError as error:
                reasons[path] = str(error)
            if len(waiting) == batch:
                answer()
        answer()
        return answers, reasons


def opened(path: Path, threads: int = 0) -> Run:
    """What a program computes: pictures (batch, channels, height, width) to probabilities."""
    if path.suffix == ".pt2":
        import torch

        if threads:
            torch.set_num_threads(threads)
        with warnings.catch_warnings():  # torch 2.11 warns of how it reads its own file
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            module = torch.export.load(path).module()

        def run_torch(pictures: Pixels) -> Probabilities:
            with torch.inference_mode():
                return module(torch.tensor(pictures)).numpy()  # type: ignore[no-any-return]

        return run_torch
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run_onnx(pictures: Pixels) -> Probabilities:
        return session.run(None, {"images": pictures})[0]  # type: ignore[no-any-return]

    return run_onnx


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """The checksums that a bundle lists, by file name."""
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    return {name: value for value, _, name in (line.partition("  ") for line in lines)}


def damaged(folder: Path) -> list[str]:
    """The files of a bundle that are missing or not as they were written."""
    listed = checksums(folder).items()
    return [
        name
        for name, wanted in listed
        if not (folder / name).is_file() or checksum(folder / name) != wanted
    ]


def main() -> int:
    """Print the class of each picture; the exit code, 1 if one could not be read."""
    folder = Path(__file__).resolve().parent
    changed = damaged(folder)
    if changed or len(sys.argv) < 2:
        text = f"not as it was written: {', '.join(changed)}" if changed else "needs a picture"
        sys.stderr.write(f"error: {text}\n")
        return 2
    classifier = Classifier(folder)
    answers, reasons = classifier.classify(map(Path, sys.argv[1:]))
    for path, found in answers.items():
        best = int(found.argmax())
        label = " ".join(classifier.labels[best].split())
        sys.stdout.write(f"{path}: {label} {100 * found[best]:.1f} %\n")
    for path, reason in reasons.items():
        sys.stderr.write(f"{path}: {reason}\n")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
