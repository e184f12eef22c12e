"""How the supernet mixes at each moment of a search: relaxation, perturbation, auxiliary, drops.

Everything that is drawn comes from one generator on the CPU, a number a step, so that repeated
passes of a step see the same draw: finite differences would else measure the draw. Micro-batches
share the mixing weights, and each has drops of its own.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zostudy.config.search import SearchSettings
from zostudy.networks.mixing import Active, Mixing, PathDrop, masked_softmax
from zostudy.networks.supernet import Supernet
from zostudy.search.perturbations import Ascent
from zostudy.search.relaxations import uniform_path

#: The operation of the auxiliary column.
AUXILIARY = "skip_connect"


def auxiliary_operations(settings: SearchSettings) -> tuple[str, ...]:
    """The operations that every edge has outside α."""
    return () if settings.auxiliary_skip == "none" else (AUXILIARY,)


class Mixer:
    """Makes the mixing of every pass of a search.

    Args:
        supernet: The supernet, on its device.
        settings: The search.
        draw: Draws a number a step.
        order: Operations by preference, where paths are not to be drawn: each edge takes the first
            that the mask leaves. Without it, paths are drawn on ``meta`` as `uniform_path` does.
    """

    def __init__(
        self,
        supernet: Supernet,
        settings: SearchSettings,
        draw: torch.Generator,
        order: Sequence[int] = (),
    ) -> None:
        self._supernet = supernet
        self._settings = settings
        self._draw = draw
        self._order = tuple(order)
        space = supernet.space
        self._relaxation = space.find(
            "relaxation", settings.relaxation.name, "search.relaxation.name"
        )
        self._perturbation = space.find(
            "perturbation", settings.perturbation.name, "search.perturbation.name"
        ).load()
        self._relax = self._relaxation.load()
        strength = self._relaxation.facts.get("strength")
        self._strength = self._relaxation.sibling(str(strength)) if strength else masked_softmax
        self.paths = bool(self._relaxation.facts.get("paths"))
        self._draws = settings.relaxation.name != "softmax" or self._drops
        self._epoch = 0
        self._seed = 0
        self._perturbed: dict[str, Tensor] = {}

    @property
    def _drops(self) -> bool:
        return self._settings.drop_path > 0 or self._settings.drop_skip > 0

    @property
    def progress(self) -> float:
        """How far the search is: 0 in its first epoch, 1 in its last."""
        return self._epoch / max(1, self._settings.epochs - 1)

    def begin(self, epoch: int) -> None:
        """Begin a step of an epoch, from 0: what follows has a draw of its own."""
        self._epoch = epoch
        self._perturbed = {}
        if self._draws:
            self._seed = int(torch.randint(2**62, (), generator=self._draw))

    def perturb(self, ascent: Ascent) -> None:
        """Move the mixing weights of this step, as the settings want it."""
        if self._settings.perturbation.name == "none":
            return
        weights = {kind: own.detach() for kind, own in self._relaxed().items()}
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=self._draw)))
        options = self._settings.perturbation.options
        self._perturbed = dict(self._perturbation(weights, self.progress, draw, ascent, **options))

    def mixing(
        self,
        offsets: Sequence[Tensor] = (),
        weights: dict[str, Tensor] | None = None,
        part: int = 0,
    ) -> Mixing:
        """The mixing of a pass.

        Args:
            offsets: What is added to the weights of each cell; see `Mixing`.
            weights: Mixing weights of the operations in place of those of α.
            part: The micro-batch, from 0.
        """
        operations = weights or self._perturbed or self._relaxed()
        active = {}
        if self.paths:
            active = {k: self._active(taken) for k, taken in self._drawn(operations).items()}
        if auxiliary_operations(self._settings):
            operations = {
                kind: _with_column(own, self._auxiliary()) for kind, own in operations.items()
            }
            offsets = [_with_column(offset, 0.0) for offset in offsets]
        return Mixing(operations, self._supernet.edge_weights(), active, offsets, self._drop(part))

    def strengths(self) -> Mixing:
        """How strong each operation and each edge is, which a genotype is chosen by."""
        supernet = self._supernet
        operations = {
            kind: self._strength(alpha, supernet.mask_of(kind))
            for kind, alpha in supernet.alpha.items()
        }
        return Mixing(operations, supernet.edge_weights())

    def _relaxed(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self._seed)
        supernet = self._supernet
        return {
            kind: self._relax(
                alpha,
                supernet.mask_of(kind),
                self.progress,
                generator,
                **self._settings.relaxation.options,
            )
            for kind, alpha in supernet.alpha.items()
        }

    def _drawn(self, weights: Mapping[str, Tensor]) -> dict[str, list[int]]:
        """The operation that each edge takes, by cell type."""
        rows = self._supernet.mask.rows
        if self._order:
            return {
                kind: [next(column for column in self._order if row[column]) for row in rows[kind]]
                for kind in weights
            }
        if any(own.is_meta for own in weights.values()):
            draw = torch.Generator().manual_seed(self._seed)
            kept = {kind: torch.tensor(rows[kind]) for kind in weights}
            weights = {
                kind: uniform_path(torch.zeros(own.shape), own, self.progress, draw)
                for kind, own in kept.items()
            }
        return {kind: own.detach().argmax(dim=1).tolist() for kind, own in weights.items()}

    def _active(self, taken: Sequence[int]) -> Active:
        columns = range(len(self._supernet.space.operations))
        extra = (True,) * len(auxiliary_operations(self._settings))
        return tuple((*(column == chosen for column in columns), *extra) for chosen in taken)

    def _auxiliary(self) -> float:
        """The weight of the auxiliary skip connection (DARTS-, section 3.3; Chu et al. 2021)."""
        if self._settings.auxiliary_skip == "linear":
            return 1 - self.progress
        return (1 + math.cos(math.pi * self.progress)) / 2

    def _drop(self, part: int) -> PathDrop | None:
        if not self._drops:
            return None
        space = self._supernet.space
        path = self._settings.drop_path * self.progress
        skip = self._settings.drop_skip * (1 - self.progress)
        rates = [
            skip if name == space.identity else path if space.learns(name) else 0.0
            for name in space.operations
        ]
        rates += [0.0] * len(auxiliary_operations(self._settings))
        return PathDrop(rates, hash((self._seed, part)))


def _with_column(weights: Tensor, value: float) -> Tensor:
    """The weights with a column of one value behind them."""
    return torch.cat([weights, weights.new_full((len(weights), 1), value)], dim=1)
