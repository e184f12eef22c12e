"""Torch's own convolutions put back in place of ours: the fault that some processors show.

On a processor whose best instructions are AVX2, or under `AVX2` below, a skip connection of
stride 2 is then computed wrongly, or ends the process.
"""

import contextlib
from pathlib import Path
from unittest import mock

from torch import nn

from zostudy.networks.convolution import Conv2d, Convolution

#: Limits a new process to AVX2; torch and oneDNN read it when they are loaded.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

_ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def old_formulation():
    """In the body, this process and those that it forks convolve as torch does."""
    ours = mock.patch.object(Convolution, "_skips_pixels", return_value=False)
    layers = mock.patch.object(Conv2d, "_conv_forward", nn.Conv2d._conv_forward)
    with ours, layers:
        yield


def old_formulation_environment(folder):
    """Environment variables under which every new Python process convolves as torch does.

    Args:
        folder: An empty folder, for a file that Python runs at its start.
    """
    started = (
        "from tests.convolutions import old_formulation",
        "kept = old_formulation()  # else it would end here",
        "kept.__enter__()",
    )
    (folder / "sitecustomize.py").write_text("\n".join(started), encoding="utf-8")
    return AVX2 | {"PYTHONPATH": f"{folder}:{_ROOT}"}
