"""A data set, split and measured: what every stage of a trial is given."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from zostudy import host
from zostudy.config.settings import DatasetSettings
from zostudy.config.sizes import shown_bytes
from zostudy.data.sources import Pictures, Reading, Source
from zostudy.data.splits import stratified
from zostudy.errors import DataError
from zostudy.registry import find, resolve_options

#: Streams of the split seed, one a split.
_TEST, _VALIDATION, _ARCHITECTURE = "data/test", "data/validation", "data/architecture"

#: Smallest side of a picture in pixels: two reductions leave 2×2 of it.
SMALLEST_SIDE = 8

#: How often all pictures are in memory while they are split: as they were read, and by parts.
_COPIES = 2


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures of a study, in host memory; only batches go to the device.

    Attributes:
        name: Name of the data set.
        classes: Names of the classes, in the order of the labels.
        train: Training part, without validation.
        validation: What selection is based on; None where the validation fraction is 0.
        test: Test part, measured once a trial.
        mean: For each channel, mean of the training part's pixels, on a scale of 0 to 1.
        std: For each channel, their standard deviation, at least one grey level (1/255).
        seed: Seed of the splits.
        of_trial: The seed of the trial whose own split this is; empty where all trials share it.
        splits: For ``train``, ``validation`` and ``test``, ascending positions in the data set's
            training pictures (for ``test``: in its own test part where it has one).
        digest: SHA-256 of pixels, labels, class names and splits, in hexadecimal.
        shared_digest: The same for all trials of a study: ``digest`` as it is with the split that
            trials share; empty where this is that split.
        reading: How files became pictures.
    """

    name: str
    classes: tuple[str, ...]
    train: Pictures
    validation: Pictures | None
    test: Pictures
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    splits: Mapping[str, tuple[int, ...]]
    digest: str
    reading: Reading = field(default_factory=Reading)
    of_trial: tuple[int, ...] = ()
    shared_digest: str = ""

    @property
    def study_digest(self) -> str:
        """The digest that is the same for all trials of a study."""
        return self.shared_digest or self.digest

    @property
    def channels(self) -> int:
        """Channels of a picture: 1 for grey, 3 for colour."""
        return self.train.images.shape[1]

    @property
    def height(self) -> int:
        """Height of a picture in pixels."""
        return self.train.images.shape[2]

    @property
    def width(self) -> int:
        """Width of a picture in pixels."""
        return self.train.images.shape[3]

    def outline(self) -> "Dataset":
        """The same parts and labels, with pixels that have a shape and no values."""
        return replace(
            self,
            train=self.train.outline(),
            validation=self.validation and self.validation.outline(),
            test=self.test.outline(),
        )

    def search_parts(self, architecture_fraction: float) -> tuple[Pictures, Pictures]:
        """The training part, split for the search.

        Args:
            architecture_fraction: Share that trains α, in [0, 1); 0 trains both on everything.

        Returns:
            The pictures that train the weights, and those that train the architecture.
        """
        if architecture_fraction == 0:
            return self.train, self.train
        weights, architecture = self._search_indices(architecture_fraction)
        return self.train.select(weights), self.train.select(architecture)

    def record(self, architecture_fraction: float) -> dict[str, list[int]]:
        """Every split by name, ``weights`` and ``architecture`` in the numbering of :attr:`splits`.

        Args:
            architecture_fraction: As in :meth:`search_parts`.
        """
        train = self.splits["train"]
        parts = {"weights": list(train), "architecture": list(train)}
        if architecture_fraction:
            indices = self._search_indices(architecture_fraction)
            parts = {
                name: [train[index] for index in chosen.tolist()]
                for name, chosen in zip(parts, indices, strict=True)
            }
        return parts | {name: list(positions) for name, positions in self.splits.items()}

    def _search_indices(
        self, fraction: float
    ) -> tuple[Int64[Tensor, " weights"], Int64[Tensor, " architecture"]]:
        return stratified(
            self.train.labels,
            fraction,
            (self.seed, _ARCHITECTURE, *self.of_trial),
            part="architecture",
            classes=self.classes,
        )


def load(
    settings: DatasetSettings, extensions: tuple[str, ...] = (), seed: int | None = None
) -> Dataset:
    """Read a data set, split it and measure its training part.

    Args:
        settings: Which data set, and how it is split.
        extensions: Modules that may declare further data sets.
        seed: The seed of a trial, which has a split of its own if the settings say so; without one
            the split is that which trials share.

    Raises:
        ConfigError: The data set or an option is unknown.
        DataError: The data set is missing, damaged, too small, or larger than the memory.
    """
    component = find("dataset", settings.name, "dataset.name", extensions)
    options = resolve_options(component, "dataset", settings.options)
    if declared := component.facts.get("outline"):
        _check_memory(settings.name, options, component.sibling(str(declared))(**options))
    source = component.load()(**options)
    if not isinstance(source, Source):
        raise TypeError(f"data set {settings.name!r} must give a Source, not {type(source)}")
    own = () if seed is None or settings.splits == "shared" else (seed,)
    dataset = _assembled(source, settings, own)
    mean, std = _statistics(dataset.train)
    dataset = replace(dataset, mean=mean, std=std)
    if not own:
        return replace(dataset, digest=_digest(source, dataset.splits))
    shared = _digest(source, _positions(_split(source, settings)))
    digest = hashlib.sha256(json.dumps([shared, seed, dataset.splits], sort_keys=True).encode())
    return replace(dataset, digest=digest.hexdigest(), shared_digest=shared)


def outline(settings: DatasetSettings, extensions: tuple[str, ...] = ()) -> Dataset:
    """A data set as `load` gives it, but for its pixels: these have a shape and no values.

    Where the data set declares its outline, no picture is read or downloaded. Mean, standard
    deviation and digest then say nothing.

    Args:
        settings: Which data set, and how it is split.
        extensions: Modules that may declare further data sets.

    Raises:
        ConfigError: The data set or an option is unknown.
        DataError: The data set is missing, damaged, too small, or larger than the memory.
    """
    component = find("dataset", settings.name, "dataset.name", extensions)
    declared = component.facts.get("outline")
    if declared is None:
        return load(settings, extensions).outline()
    options = resolve_options(component, "dataset", settings.options)
    source = component.sibling(str(declared))(**options)
    _check_memory(settings.name, options, source)
    return _assembled(source, settings)


def _assembled(
    source: Source, settings: DatasetSettings, of_trial: tuple[int, ...] = ()
) -> Dataset:
    """The data set of a source, checked and split, with nothing measured yet."""
    _check(settings.name, source)
    indices = _split(source, settings, of_trial)
    validation = source.train.select(indices["validation"]) if "validation" in indices else None
    channels = source.train.images.shape[1]
    return Dataset(
        name=settings.name,
        classes=source.classes,
        train=source.train.select(indices["train"]),
        validation=validation,
        test=source.test or source.train.select(indices["test"]),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        seed=settings.seed,
        splits=_positions(indices),
        digest="",
        reading=source.reading,
        of_trial=of_trial,
    )


def _positions(indices: Mapping[str, Int64[Tensor, " part"]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(chosen.tolist()) for name, chosen in indices.items()}


def _check_memory(name: str, options: Mapping[str, Any], source: Source) -> None:
    """Whether the memory of this process holds the pictures of an outline.

    Raises:
        DataError: It does not.
    """
    count = len(source.train) + (len(source.test) if source.test else 0)
    channels, height, width = source.train.images.shape[1:]
    needed, there = _COPIES * count * channels * height * width, host.memory()
    if needed <= there:
        return
    side = math.isqrt(there // (_COPIES * count * channels))
    several = there // (_COPIES * channels * height * width)
    option = next((o for o in ("resize", "root") if options.get(o)), "")
    place = f"dataset.{option}: {options[option]}" if option else f"dataset.name: {name}"
    resized = "resize" in options and side >= SMALLEST_SIDE
    smaller = f"dataset.resize from {SMALLEST_SIDE} to {side}, or " if resized else ""
    raise DataError(
        f"{place}: {count:,} pictures of {width}×{height} pixels in {channels} channels need "
        f"{shown_bytes(needed)} of memory to be read and split, and this process may use "
        f"{shown_bytes(there)}; allowed: {smaller}up to {several:,} of them"
    )


def _check(name: str, source: Source) -> None:
    """What every data set must hold, an extension's too."""
    shape = source.train.images.shape[1:]
    if min(shape[1:]) < SMALLEST_SIDE:
        raise DataError(
            f"dataset: pictures of {name!r} have {shape[2]}×{shape[1]} pixels; "
            f"needs at least {SMALLEST_SIDE}×{SMALLEST_SIDE}"
        )
    for part, pictures in (("training", source.train), ("test", source.test)):
        if pictures is None:
            continue
        if pictures.images.shape != (len(pictures), *shape) or not len(pictures):
            raise DataError(
                f"dataset: {part} part of {name!r} has shape {tuple(pictures.images.shape)} and "
                f"{len(pictures)} labels; needs one label a picture, each {tuple(shape)}"
            )
        low, high = int(pictures.labels.min()), int(pictures.labels.max())
        if low < 0 or high >= len(source.classes):
            raise DataError(
                f"dataset: {part} part of {name!r} has label {low if low < 0 else high}; "
                f"allowed: 0 to {len(source.classes) - 1}"
            )
    counts = torch.bincount(source.train.labels, minlength=len(source.classes))
    if len(source.classes) < 2 or int(counts.min()) < 2:
        rarest = source.classes[int(counts.argmin())]
        raise DataError(
            f"dataset: {name!r} has {len(source.classes)} classes, {rarest!r} with "
            f"{int(counts.min())} training pictures; needs at least 2 of each"
        )


def _split(
    source: Source, settings: DatasetSettings, of_trial: tuple[int, ...] = ()
) -> dict[str, Int64[Tensor, " part"]]:
    """Positions of the parts; training keeps two pictures of each class, for a search to split."""
    labels, classes = source.train.labels, source.classes
    train = torch.arange(len(labels))
    parts = {}
    if source.test is None:
        train, parts["test"] = stratified(
            labels,
            settings.test_fraction,
            (settings.seed, _TEST),
            part="test",
            classes=classes,
            leave=3 if settings.validation_fraction else 2,
        )
    else:
        parts["test"] = torch.arange(len(source.test))
    if settings.validation_fraction:
        rest, chosen = stratified(
            labels[train],
            settings.validation_fraction,
            (settings.seed, _VALIDATION, *of_trial),
            part="validation",
            classes=classes,
            leave=2,
        )
        train, parts["validation"] = train[rest], train[chosen]
    return {"train": train, **parts}


def _statistics(pictures: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, exactly, from counts of the 256 levels."""
    level = np.arange(256) / 255
    means, stds = [], []
    for channel in pictures.images.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).numpy()
        mean = np.average(level, weights=counts)
        means.append(float(mean))
        stds.append(max(float(np.average((level - mean) ** 2, weights=counts)) ** 0.5, 1 / 255))
    return tuple(means), tuple(stds)


def _digest(source: Source, splits: Mapping[str, tuple[int, ...]]) -> str:
    digest = hashlib.sha256(json.dumps([source.classes, splits], sort_keys=True).encode())
    for pictures in (source.train, source.test):
        if pictures is not None:
            digest.update(repr(tuple(pictures.images.shape)).encode())
            digest.update(pictures.images.contiguous().numpy().data)
            digest.update(pictures.labels.contiguous().numpy().data)
    return digest.hexdigest()
