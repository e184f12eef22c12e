"""Which operations a study runs, and in which shapes.

The shapes follow from the settings alone: `SearchSpace.layout` gives the cells of a network, and
every cell the channels, sides and strides of its parts. Equal shapes are one case. A batch is cut
to a few pictures, because a kernel is chosen by channels, sides and strides, and a check that takes
minutes is not made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zostudy import registry
from zostudy.config.loading import StudyFile, from_document
from zostudy.config.settings import TrialConfig
from zostudy.data.dataset import Dataset, outline
from zostudy.space.search_space import Position, SearchSpace, search_space
from zostudy.study import points

Network = Literal["supernet", "stand-alone network"]

#: Sections of a study file that change shapes; a sweep may vary them.
_SECTIONS = ("technique", "dataset", "search_space", "supernet", "search", "evaluate")

#: Numbers that the input of a case may have; the batch is cut to that, but keeps two pictures.
_NUMBERS = 2**12

#: Pictures of a batch of ``fit``, which is cut in any case.
_FITTED = 64


@dataclass(frozen=True)
class Case:
    """One part of a network in one shape.

    Attributes:
        network: The network that it is a part of.
        part: ``stem``, ``preprocessing``, ``factorized reduction``, ``residual block``, ``head``,
            ``auxiliary head``, ``classifier``, or the name of an operation in its search space.
        entering: Channels of its input; of an operation, those of the cell's nodes.
        leaving: Channels of its output; of a stem, those of the first cells; classes.
        height: Rows of pixels of its input.
        width: Columns of pixels of its input.
        batch: Pictures.
        space: The search space.
        operation: The name under which an operation is registered; empty for other parts.
        stride: The stride of an operation.
        partial: k of the supernet's partial channels.
        rows: Edges of the supernet whose operations are computed together.
        recompute: What the backward pass of the supernet computes again.
    """

    network: Network
    part: str
    entering: int
    leaving: int
    height: int
    width: int
    batch: int
    space: str
    operation: str = ""
    stride: int = 1
    partial: int = 1
    rows: int = 1
    recompute: Literal["none", "partial", "full"] = "none"

    def __str__(self) -> str:
        if self.operation:
            some = f"{self.entering // self.partial} of " if self.partial > 1 else ""
            channels = f"{some}{self.entering} channels"
        else:
            channels = f"{self.entering} to {self.leaving} channels"
        further = [f"stride {self.stride}"] if self.operation else []
        further += [f"{self.rows} edges"] if self.rows > 1 else []
        further += [f"recompute {self.recompute}"] if self.recompute != "none" else []
        shape = [channels, f"{self.height}×{self.width} pixels", *further, f"batch {self.batch}"]
        kind = "operation " if self.operation else ""
        return f"{kind}{self.part} of the {self.network} ({', '.join(shape)})"


def of_study(file: StudyFile) -> list[Case]:
    """Every case of a study, each once. Of a continuous range the two ends are looked at.

    Args:
        file: The study.

    Raises:
        InputError: Its data set cannot be used.
    """
    first = points.first(file).values
    found: dict[Case, None] = {}
    pictures: dict[str, Dataset] = {}
    for config in points.alternatives(file, first, _SECTIONS):
        key = config.dataset.model_dump_json()
        if key not in pictures:
            pictures[key] = outline(config.dataset, config.extensions)
        found |= dict.fromkeys(of_trial(config, pictures[key]))
    return list(found)


def of_every_space() -> list[Case]:
    """The cases of a usual study in every search space that there is, where no study is given."""
    found: dict[Case, None] = {}
    for name in registry.components("search_space"):
        for partial in (1, 4):
            document = {
                "study": "any",
                "search_space": {"name": name},
                "supernet": {"cells": 4, "channels": 8 * partial, "partial_channels": partial},
                "evaluate": {"cells": 4, "channels": 9},
            }
            found |= dict.fromkeys(of_study(from_document(document)))
    return list(found)


def of_trial(config: TrialConfig, dataset: Dataset) -> Iterator[Case]:
    """The cases of one trial's supernet and of its stand-alone network.

    Args:
        config: The settings of the trial.
        dataset: Its data, or their outline.
    """
    space = search_space(config.search_space.name, config.extensions)
    search, supernet = config.search, config.supernet
    batch = _FITTED if search.batch_size == "fit" else search.batch_size // search.accumulate
    whole = search.strategy == "score"
    yield from _Shapes(space, "supernet", supernet.channels, batch, dataset).cases(
        supernet.cells,
        partial=1 if whole else supernet.partial_channels,
        recompute="none" if whole else search.recompute,
    )
    if not config.evaluate.evaluator.trains:
        return
    evaluate = config.evaluate
    shapes = _Shapes(space, "stand-alone network", evaluate.channels, evaluate.batch_size, dataset)
    yield from shapes.cases(evaluate.cells, auxiliary=evaluate.auxiliary_weight > 0)


@dataclass(frozen=True)
class _Shapes:
    """The shapes of one network.

    Attributes:
        space: The search space.
        network: Which network it is.
        channels: Channels of the first cells.
        batch: Pictures in a batch.
        dataset: The data.
    """

    space: SearchSpace
    network: Network
    channels: int
    batch: int
    dataset: Dataset

    def cases(
        self,
        cells: int,
        *,
        auxiliary: bool = False,
        partial: int = 1,
        recompute: Literal["none", "partial", "full"] = "none",
    ) -> Iterator[Case]:
        """Every case of the network, some more than once."""
        space, data = self.space, self.dataset
        supernet = self.network == "supernet"
        layout = space.layout(cells)
        side = (data.height, data.width)
        yield self._case("stem", data.channels, self.channels, side)
        widths, before = (space.skeleton.stem * self.channels,) * space.inputs, side
        halved, names = False, list(space.operations)
        computed = [name for name in names if name != space.zero]  # whose shape does not matter
        for index, position in enumerate(layout):
            channels = position.width * self.channels
            yield from self._entrance(widths, (before, side), position, halved=halved)
            before = side
            entering, inner = side, _half(side) if position.halves else side
            if not space.projects:
                entering = inner
            operations = {(entering, self._stride(position, 0)), (inner, 1)}
            for place, stride in sorted(operations):
                for rows in sorted({1, space.nodes}) if supernet else (1,):
                    for name in names:
                        case = self._case(name, channels, channels, place)
                        yield replace(
                            case,
                            operation=space.component(name),
                            stride=stride,
                            partial=partial,
                            rows=rows,
                            recompute=recompute,
                        )
                    names = computed
            side, halved = inner, position.halves
            widths = (*widths[1:], channels * space.outputs)
            if auxiliary and index == 2 * len(layout) // 3:
                yield self._case("auxiliary head", widths[-1], len(data.classes), side)
        if space.skeleton.head == "norm":
            yield self._case("head", widths[-1], widths[-1], side)
        yield self._case("classifier", widths[-1], len(data.classes), (1, 1))

    def _entrance(
        self,
        widths: Sequence[int],
        sides: tuple[tuple[int, int], tuple[int, int]],
        position: Position,
        *,
        halved: bool,
    ) -> Iterator[Case]:
        """What brings the inputs of a cell to its channels; see `networks.skeleton.entrance`."""
        channels = position.width * self.channels
        before, side = sides
        if self.space.skeleton.halving == "blocks":
            if position.halves:
                yield self._case("residual block", widths[-1], channels, side)
            return
        yield self._case("preprocessing", widths[-1], channels, side)
        if len(widths) > 1:
            part = "factorized reduction" if halved else "preprocessing"
            yield self._case(part, widths[0], channels, before)

    def _stride(self, position: Position, source: int) -> int:
        return self.space.stride(position.kind, source)

    def _case(self, part: str, entering: int, leaving: int, side: tuple[int, int]) -> Case:
        height, width = side
        most = max(2, _NUMBERS // (entering * height * width))
        batch = min(self.batch, most)
        return Case(self.network, part, entering, leaving, height, width, batch, self.space.name)


def _half(side: tuple[int, int]) -> tuple[int, int]:
    height, width = side
    return -(-height // 2), -(-width // 2)
