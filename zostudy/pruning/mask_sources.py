"""Mask sources: where a pruning mask comes from.

A mask source is ``(context, *, options) -> PruneResult``. Its fact ``check`` names a function
beside it, ``(context, *, options) -> None``, that refuses bad input before anything is computed;
``fits`` names one, ``(space, *, options)``, that is asked as soon as the settings are read, so that
its module imports no torch.
Options in its fact ``continues`` only say how far a trajectory is followed: one that is kept serves
them all. For a plan, ``known=True`` says that the source needs no pictures and no time, so that its
mask is known beforehand; ``expected_mask`` names a function beside it, ``(context, *, options) ->
ExpectedMask``, that says of any other what its mask will be like. Neither is needed; the full mask
stands for one that nothing is known of. ``level`` names the option of which smaller values keep
fewer operations, and ``genotype`` has the option and the value with which a source ends with a
genotype, so that nothing is left to search; it is empty where the source always does.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from zostudy.config.settings import SupernetSettings, TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.errors import ArchitectureError, ConfigError
from zostudy.pruning import greedy
from zostudy.registry import mask_source
from zostudy.runtime import seeded
from zostudy.space import genotype as genotypes
from zostudy.space import mask as masks
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask, Place
from zostudy.space.search_space import SearchSpace, search_space
from zostudy.space.text import json_value
from zostudy.stage import Progress, StageContext

#: Stream of the trial's seed that random masks are drawn from.
_RANDOM_MASK = "prune/random mask"


@dataclass(frozen=True)
class PruneContext:
    """What a mask source is given.

    Attributes:
        space: The search space.
        supernet: Size of the supernet that zero-shot scores are computed on.
        dataset: The data set.
        pictures: The pictures that train the weights; zero-shot scores see only these.
        stage: Device, seed, checkpoint and report.
    """

    space: SearchSpace
    supernet: SupernetSettings
    dataset: Dataset
    pictures: Pictures
    stage: StageContext

    @classmethod
    def of(cls, config: TrialConfig, dataset: Dataset, stage: StageContext) -> "PruneContext":
        """What the mask source of a trial is given."""
        pictures, _ = dataset.search_parts(config.search.architecture_fraction)
        space = search_space(config.search_space.name, config.extensions)
        return cls(space, config.supernet, dataset, pictures, stage)


@dataclass(frozen=True)
class PruneResult:
    """A mask and how it came about.

    Attributes:
        mask: The mask; a genotype exists under it.
        added: Operations brought back so that a genotype exists, beyond what the source left.
        rounds: The trajectory, where there is one.
        genotype: The genotype, where pruning ran to the end.
        seconds: Time it took, earlier sessions counted in.
        peak_bytes: Most live tensor bytes.
        metrics: Further metrics to record.
        edge_scores: Scores of the edges, by cell type and edge, where pruning ranked them.
        edge_errors: Their standard errors; empty after one repeat.
    """

    mask: OperationMask
    added: tuple[Place, ...] = ()
    rounds: Sequence[greedy.Round] = ()
    genotype: Genotype | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    edge_scores: Mapping[tuple[str, int], float] = field(default_factory=dict)
    edge_errors: Mapping[tuple[str, int], float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as a record keeps them."""
        names = self.mask.space.operations
        return {
            "mask": self.mask.to_dict(),
            "added": [[kind, edge, names[column]] for kind, edge, column in self.added],
            "rounds": [done.to_dict() for done in self.rounds],
            "edges": [
                [kind, edge, score, self.edge_errors.get((kind, edge))]
                for (kind, edge), score in self.edge_scores.items()
            ],
            "genotype": self.genotype.to_dict() if self.genotype else None,
            "operations": self.mask.count(),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "figures": dict(self.metrics),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], space: SearchSpace) -> "PruneResult":
        """A result from what `to_dict` gave."""
        mask = masks.from_dict(data["mask"], space)
        column, genotype, edges = space.operations.index, data["genotype"], data["edges"]
        return cls(
            mask,
            added=tuple((kind, edge, column(name)) for kind, edge, name in data["added"]),
            rounds=[greedy.Round.of(done, mask) for done in data["rounds"]],
            genotype=genotypes.from_dict(genotype, space.extensions) if genotype else None,
            seconds=data["seconds"],
            peak_bytes=data["peak_bytes"],
            metrics=data["figures"],
            edge_scores={(kind, edge): score for kind, edge, score, _ in edges},
            edge_errors={
                (kind, edge): error for kind, edge, _, error in edges if error is not None
            },
        )


@dataclass(frozen=True)
class ExpectedMask:
    """What is known of a pruning before it is run.

    Attributes:
        mask: A mask that keeps as many operations on each edge.
        steps: Batches that go through the network.
        to_genotype: Whether it ends with a genotype.
    """

    mask: OperationMask
    steps: int
    to_genotype: bool = False


def repaired(
    mask: OperationMask,
    preference: Mapping[Place, float],
    **facts: Any,  # noqa: ANN401  # fields
) -> PruneResult:
    """The result of a mask, with the least added that makes a genotype exist."""
    added = mask.repairs(preference)
    return PruneResult(mask.changed(add=added), added, **facts)


@mask_source("none", known=True)
def none(context: PruneContext) -> PruneResult:
    """Keep everything."""
    return PruneResult(OperationMask.full(context.space))


@mask_source("random", known=True, level="xi")
def random(context: PruneContext, *, xi: Annotated[float, "(0, 1]"]) -> PruneResult:
    """Keep each operation with probability ξ, at least one on every edge.

    Args:
        context: What is pruned.
        xi: Probability to keep an operation.

    References:
        The paper, section 5.2; docs/method.md, section 5.
    """
    started = time.perf_counter()
    space = context.space
    generator = seeded("cpu", context.stage.seed, _RANDOM_MASK)
    shape = (len(space.edges), len(space.operations))
    rows, preference = {}, {}
    for kind in space.cell_types:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        kept = drawn < xi
        kept[torch.arange(shape[0]), drawn.argmin(dim=1)] = True
        rows[kind] = tuple(tuple(bool(value) for value in row) for row in kept)
        for edge in range(shape[0]):
            for column in range(shape[1]):
                preference[kind, edge, column] = -float(drawn[edge, column])
    result = repaired(OperationMask(space, rows), preference, seconds=time.perf_counter() - started)
    context.stage.report(Progress("prune", 1, 1, {"level": result.mask.level("operations")}))
    return result


def check_file(context: PruneContext, *, path: str) -> None:
    """Whether the file holds a mask of the search space under which a genotype exists.

    Raises:
        InputError: It does not.
    """
    read_mask(path, context.space)


@mask_source("file", check="check_file", known=True)
def file(context: PruneContext, *, path: str) -> PruneResult:
    """A mask from a JSON file, as every prune run logs one.

    Args:
        context: What is pruned.
        path: The file.

    Raises:
        ConfigError: The file cannot be read.
        ArchitectureError: It holds no mask of the search space, or one that leaves no genotype.
    """
    return PruneResult(read_mask(path, context.space))


def read_mask(path: str, space: SearchSpace) -> OperationMask:
    """The mask in a JSON file, checked.

    Raises:
        ConfigError: The file cannot be read.
        ArchitectureError: It holds no mask of the search space, or one that leaves no genotype.
    """
    try:
        data = json_value(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"prune.path: {path!r} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"prune.path: {path!r} is no JSON ({error})") from error
    mask = masks.from_dict(data, space)
    for (kind, target), lacking in mask.missing_edges().items():
        raise ArchitectureError(
            f"prune.path: {path!r} leaves no genotype: {kind} node {target - space.inputs} lacks "
            f"{lacking} incoming edges with an operation other than {space.zero!r}"
        )
    return mask
