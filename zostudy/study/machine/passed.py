"""Which machines have passed: a file for everything that the verdict depends on."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from zostudy import host
from zostudy.config.loading import digest
from zostudy.config.settings import RuntimeSettings
from zostudy.runtime import planned
from zostudy.study.disk.whole_files import write_whole
from zostudy.study.identity.source import engine_digest, extensions_digest
from zostudy.study.machine.cases import Case
from zostudy.study.machine.process import Setting

#: Variables that choose other kernels.
_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
)

Machine = dict[str, str | int]


def machine(runtime: RuntimeSettings) -> Machine:
    """What chooses kernels on this machine: processor or device, versions, variables, settings."""
    device = planned(runtime).device
    found: Machine = {
        "torch": torch.__version__,
        "device": device.type,
        "precision": runtime.precision,
        "threads": runtime.threads,
        "processor": host.kind_of_processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found["cuda_device"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]  # torch's
    return found | {name: os.environ[name] for name in _VARIABLES if name in os.environ}


class Passed:
    """The machines that have passed, for one study's folder.

    Args:
        folder: The study's own folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "machine"

    def known(self, cases: Sequence[Case], setting: Setting) -> bool:
        """Whether this machine has passed in these cases."""
        return self._path(cases, setting).is_file()

    def keep(self, cases: Sequence[Case], setting: Setting) -> None:
        """Remember that it has."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(setting.runtime), "cases": [str(case) for case in cases]}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(self._path(cases, setting), text.encode())

    def _path(self, cases: Sequence[Case], setting: Setting) -> Path:
        determined = {
            "machine": machine(setting.runtime),
            "cases": sorted(json.dumps(asdict(case)) for case in cases),
            "code": [engine_digest(), extensions_digest(setting.extensions)],
        }
        return self._folder / f"{digest(determined)}.json"
