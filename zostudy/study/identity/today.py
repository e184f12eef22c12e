"""What the points of a study are made of today (:mod:`zostudy.study.ingredients`)."""

import hashlib
import importlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zostudy import host, registry
from zostudy.config.settings import TrialConfig
from zostudy.registry import Kind
from zostudy.study.identity.data import data_digest
from zostudy.study.identity.source import engine_digest, extensions_digest
from zostudy.study.ingredients import HARDWARE


@dataclass(frozen=True)
class Today:
    """Gives the ingredients of settings; what they have in common is looked at once.

    Attributes:
        folder: The study's own folder.
        device: The device of the trials, ``study`` for that of the settings; empty where none is
            run, which leaves its type unknown.
    """

    folder: Path
    device: str = ""
    _data: dict[str, str] = field(default_factory=dict)

    def __call__(self, config: TrialConfig) -> dict[str, str]:
        """The ingredients; one that is not here has an empty value."""
        key = f"{config.extensions} {config.dataset.model_dump_json()}"
        if key not in self._data:
            self._data[key] = data_digest(config.dataset, config.extensions, self.folder)
        return made_of(config, self._data[key], self._device_type(config))

    def _device_type(self, config: TrialConfig) -> str:
        if not self.device:
            return ""
        name = config.runtime.device if self.device == "study" else self.device
        if name != "auto":
            return name.partition(":")[0]
        from zostudy.runtime import planned  # it imports torch

        return planned(config.runtime.model_copy(update={"device": name})).device.type


def made_of(config: TrialConfig, data: str, device: str) -> dict[str, str]:
    """The ingredients of settings.

    Args:
        config: The settings.
        data: Digest of their data set.
        device: Type of the device; empty where nothing is run.
    """
    found = {"data": data, **files(config), "engine": engine_digest(), "device": device}
    if config.latency.by == "measured":
        found[HARDWARE] = _hardware(config.latency.runtime) if device else ""
    extensions = extensions_digest(config.extensions)
    return found | ({"extensions": extensions} if extensions else {})


def _hardware(runtime: str) -> str:
    """What a measured latency follows from beside network and settings, in words."""
    libraries = (runtime,) if runtime == "torch" else (runtime, "torch", "onnxscript")
    return ", ".join(
        (
            host.kind_of_processor(),
            *(f"{name} {_version(name)}" for name in libraries),
            f"{host.processors()} usable processors",
            f"{platform.system()} {platform.machine()}",
        )
    )


def _version(library: str) -> str:
    """That of the module, which distributions of other names may bring."""
    try:
        return str(importlib.import_module(library).__version__)
    except (ImportError, AttributeError):
        return "of no known version"


def files(config: TrialConfig) -> dict[str, str]:
    """The content of every file that settings name, by the path of the setting, but for data.

    These are those of the evaluation and the latency, and each option of a mask source, score or
    regularizer that is a text and names a file or a folder that is there. A component whose
    decorator says ``files=(…)`` reads only those of its options. A file that is missing where one
    is needed has an empty value.
    """
    evaluate = config.evaluate
    found = {
        f"evaluate.{name}": content(Path(getattr(evaluate, name)))
        for name in evaluate.evaluator.files
    }
    if config.latency.reads:
        found["latency.path"] = content(Path(config.latency.path))
    prune, regularizer = config.prune, config.search.regularizer
    for option, path in _named("mask_source", prune.source, prune.options, config.extensions):
        found[f"prune.{option}"] = content(path)
    if config.search.strategy == "score":
        score = config.search.score
        for option, path in _named(
            "architecture_score", score.name, score.options, config.extensions
        ):
            found[f"search.score.{option}"] = content(path)
    if config.search.trains_supernet:
        own = regularizer.options
        for option, path in _named("regularizer", regularizer.name, own, config.extensions):
            found[f"search.regularizer.{option}"] = content(path)
    return found


def _named(
    kind: Kind, name: str, options: Mapping[str, Any], extensions: tuple[str, ...]
) -> Iterator[tuple[str, Path]]:
    component = registry.find(kind, name, kind, extensions)
    declared = component.facts.get("files")
    for option in component.options:
        if isinstance(declared, tuple) and option.name not in declared:
            continue
        value = options.get(option.name)
        if isinstance(value, str) and value and not option.choices:
            path = Path(value)
            if option.name == "path" or path.exists():
                yield option.name, path


def content(path: Path) -> str:
    """Digest of a file, or of all files in a folder with their names; empty if it is not there."""
    try:
        if not path.is_dir():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        parts = [
            [str(file.relative_to(path)), hashlib.sha256(file.read_bytes()).hexdigest()]
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
