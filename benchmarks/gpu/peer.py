"""The search step of a checkout of quark0/darts (first order), run as its own code has it.

``cnn/model_search.py``, ``cnn/architect.py`` and what they import are loaded from the checkout, no
file of it is changed and none is part of this repository. ``train_search.py`` is not loaded: it
was written for torch 0.3 (``async=True``, ``.data[0]``), and its loop of a step is four lines.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import CLASSES, Size, batches
from zostudy.config.search import SearchSettings
from zostudy.networks.memory import Holder
from zostudy.runtime import Runtime

#: What of a checkout is needed, and the modules that it may load.
FILES = ("model_search.py", "architect.py")
_MODULES = ("model_search", "architect", "operations", "genotypes", "utils")


class Published:
    """Steps of DARTS' published search.

    Args:
        checkout: The folder that holds ``cnn``.
        batch_size: Pictures in a batch.
        runtime: The device; with bf16 the passes run under autocast, which is not published.
        size: Size of the supernet.
    """

    def __init__(self, checkout: Path, batch_size: int, runtime: Runtime, size: Size) -> None:
        settings = SearchSettings()
        sgd, adam = settings.weights, settings.architecture
        self._runtime = runtime
        self._clip = sgd.clip_norm
        torch.manual_seed(0)
        with _imported(checkout / "cnn") as (model_search, architect), _alpha_on(runtime.device):
            self._network: Any = model_search.Network(
                size.channels, CLASSES, size.cells, functional.cross_entropy
            ).to(runtime.device)
            self._architect = architect.Architect(
                self._network,
                SimpleNamespace(
                    momentum=sgd.momentum,
                    weight_decay=sgd.weight_decay,
                    arch_learning_rate=adam.learning_rate,
                    arch_weight_decay=adam.weight_decay,
                ),
            )
        self._sgd = torch.optim.SGD(
            self._network.parameters(),
            sgd.learning_rate,
            sgd.momentum,
            weight_decay=sgd.weight_decay,
        )
        self._rate = sgd.learning_rate
        self.batches = batches(batch_size, runtime.device, size)

    def step(self) -> None:
        """One step on α and one on the weights, as in ``train_search.py``."""
        (images, labels), other = self.batches
        with self._runtime.autocast():
            self._architect.step(images, labels, *other, self._rate, self._sgd, unrolled=False)
        self._sgd.zero_grad()
        with self._runtime.autocast():
            loss = functional.cross_entropy(self._network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives no types
        nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        self._sgd.step()

    def held(self) -> tuple[Holder, ...]:
        """What lives from one step to the next."""
        alpha: list[Tensor] = self._network.arch_parameters()
        optimizers = self._sgd, self._architect.optimizer
        return (self._network, *alpha, *optimizers, *self.batches[0], *self.batches[1])


@contextlib.contextmanager
def _imported(folder: Path) -> Iterator[list[Any]]:
    """The checkout's modules, whose names (``utils``) are taken only meanwhile."""
    with mock.patch.dict(sys.modules), mock.patch.object(sys, "path", [str(folder), *sys.path]):
        for name in _MODULES:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        yield [importlib.import_module(Path(name).stem) for name in FILES]


@contextlib.contextmanager
def _alpha_on(device: torch.device) -> Iterator[None]:
    """α is made by ``.cuda()`` as a leaf: let that mean the benchmark's device."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    with mock.patch.object(Tensor, "cuda", moved):
        yield
