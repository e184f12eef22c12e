"""Architectures of a search space with their accuracies, and those of them that a mask leaves.

They are all of them, where a table knows every accuracy, or a sample whose accuracies are
predicted.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from zostudy.evaluation.table import Table
from zostudy.predictors.predictor import Predictor
from zostudy.space.mask import OperationMask
from zostudy.space.variation import Variation

#: Architectures whose accuracies are predicted at once, so that no more stand in memory.
_AT_ONCE = 50_000

Accuracies = Float64[np.ndarray, " architectures"]


@dataclass(frozen=True, eq=False)
class Kept:
    """What a mask leaves.

    Attributes:
        accuracies: Of the architectures that are left, in percent.
        figures: Further figures, which only some populations know.
    """

    accuracies: Accuracies
    figures: dict[str, float]


class Population(Protocol):
    """Architectures of a search space, and those that a mask leaves."""

    @property
    def accuracies(self) -> Accuracies:
        """Accuracies of the whole space, in percent."""
        ...

    def kept(self, mask: OperationMask, seed: int) -> Kept:
        """What a mask leaves; draws, where there are any, by the seed."""
        ...


@dataclass(frozen=True, eq=False)
class Census:
    """The architectures of a table, arranged so that those under a mask are found at once.

    Attributes:
        accuracies: Test accuracies in percent.
        places: For each architecture, its operations by their place in the mask's rows.
        classes: For each architecture, its class of isomorphic ones.
    """

    accuracies: Accuracies
    places: Int64[np.ndarray, "architectures operations"]
    classes: Int64[np.ndarray, " architectures"]

    @classmethod
    def of(cls, table: Table) -> "Census":
        """The census of a table."""
        space = table.space
        operations = len(space.operations)
        starts = {
            kind: index * len(space.edges) * operations
            for index, kind in enumerate(space.cell_types)
        }
        place = {
            (kind, name, edge): starts[kind] + row * operations + column
            for kind in space.cell_types
            for row, edge in enumerate(space.edges)
            for column, name in enumerate(space.operations)
        }
        places = [
            [
                place[kind, name, (source, target)]
                for kind, source, target, name in genotype.operations()
            ]
            for genotype in table.rows
        ]
        names = [genotype.canonical() for genotype in table.rows]
        classes = np.unique(names, return_inverse=True)[1]
        return cls(table.accuracies, np.array(places), classes)

    @property
    def distinct(self) -> int:
        """Architectures that differ, isomorphic ones taken for one."""
        return int(self.classes.max()) + 1

    def under(self, mask: OperationMask) -> Bool[np.ndarray, " architectures"]:
        """Which architectures a mask leaves."""
        kept = np.array([value for rows in mask.rows.values() for row in rows for value in row])
        found: Bool[np.ndarray, " architectures"] = kept[self.places].all(axis=1)
        return found

    def kept(self, mask: OperationMask, seed: int = 0) -> Kept:
        """What a mask leaves, exactly; nothing is drawn.

        The figures are the shares of the architectures, and of those that differ, that are kept,
        from 0 to 1, and the best accuracy kept and how far it is from the best there is.
        """
        del seed
        under = self.under(mask)
        best = self.accuracies[under].max()
        figures = {
            "architectures_kept": float(under.mean()),
            "distinct_kept": len(np.unique(self.classes[under])) / self.distinct,
            "best": float(best),
            "regret": float(self.accuracies.max() - best),
        }
        return Kept(self.accuracies[under], figures)


@dataclass(frozen=True, eq=False)
class Predicted:
    """Architectures that are drawn, each equally likely, and accuracies that are predicted.

    Attributes:
        accuracies: Of architectures of the whole space, in percent.
        predict: Predicts the accuracies of so many architectures under a mask, drawn by a seed.
        count: Architectures that are drawn under each mask.
    """

    accuracies: Accuracies
    predict: Callable[[OperationMask, int, int], Accuracies]
    count: int

    @classmethod
    def of(cls, predictor: Predictor, samples: int, masks: int) -> "Predicted":
        """A sample of the whole space, and one as large for all masks together.

        Args:
            predictor: Predicts accuracies.
            samples: Architectures of the whole space.
            masks: How many masks there are.
        """

        def predict(mask: OperationMask, count: int, seed: int) -> Accuracies:
            variation = Variation(mask, random.Random(seed))
            genotypes = [variation.random() for _ in range(count)]
            parts = [genotypes[i : i + _AT_ONCE] for i in range(0, count, _AT_ONCE)]
            return np.concatenate([predictor(part).accuracies for part in parts])

        whole = OperationMask.full(predictor.examples.space)
        return cls(predict(whole, samples, 0), predict, -(-samples // masks))

    def kept(self, mask: OperationMask, seed: int) -> Kept:
        """Architectures that are drawn under a mask; of one that keeps all, the whole sample."""
        if mask.level("operations") == 1:
            return Kept(self.accuracies, {})
        return Kept(self.predict(mask, self.count, seed + 1), {})
