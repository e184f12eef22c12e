"""How long phases take on a device, from a few steps of each distinct shape.

Each phase is run by its own code, with its own settings but for the number of epochs (or repeats),
on so few pictures that an epoch is one step, and then a few. What an epoch of more steps takes
longer is the steps; what is left is what an epoch takes beside them. A phase takes its counts
times these rates.
"""

import io
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import torch

from zostudy.config.loading import digest, to_document
from zostudy.config.search import SearchSettings
from zostudy.config.settings import TrialConfig
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.evaluation import training
from zostudy.pruning.mask_sources import PruneContext
from zostudy.pruning.trajectory import Repeats
from zostudy.runtime import Runtime
from zostudy.search import bilevel
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.stage import Progress, StageContext, StoppedEarly
from zostudy.study.planning.outlook import PHASES, Outlook, some_genotype
from zostudy.study.planning.peak_memory import search_part_sizes

#: Seconds by what takes them, and how often a phase does that.
Rates = Mapping[str, float]

#: Steps, and epochs at first, whose memory is watched; it takes time elsewhere than on CUDA.
_WATCHED = 2

#: Epochs without that, of which the median counts, and steps in one of the longer epochs.
_PLAIN, _STEPS = 3, 4

#: Settings that change how much is computed, or which numbers, but not how long a step takes.
_UNTIMED = ("epochs", "warmup_epochs", "weights", "architecture")


@dataclass(frozen=True)
class Task:
    """A phase of a point, of which the time is wanted.

    Attributes:
        phase: Its name.
        key: What its rates follow from, as a digest.
        counts: How often it does what takes time.
        config: The settings.
        subject: The mask that is searched or the genotype that is trained; nothing of a pruning.
    """

    phase: str
    key: str
    counts: Rates
    config: TrialConfig
    subject: OperationMask | Genotype | None = None

    def seconds(self, rates: Rates) -> float:
        """How long it takes."""
        return sum(rates[name] * count for name, count in self.counts.items())


def tasks(outlook: Outlook, cuda: bool) -> dict[str, list[Task]]:
    """The phases of a point, each once for every mask that is expected.

    Args:
        outlook: What is known of the point.
        cuda: Whether they run on CUDA, where watching memory takes no time.
    """
    config, dataset = outlook.config, outlook.dataset
    there = {phase.name for phase in PHASES if phase.steps(outlook)}
    watched = 0 if cuda else _WATCHED
    found: dict[str, list[Task]] = {}
    if "prune" in there:
        options = config.mask_source.options
        fraction = config.search.architecture_fraction
        key = _key("prune", [config.prune.source, options, fraction], config, dataset)
        found["prune"] = [Task("prune", key, {"start": 1.0, "repeat": _repeats(options)}, config)]
    if "search" in there:
        own = config.search
        pictures, _ = search_part_sizes(dataset, own.architecture_fraction)
        steps, searched = pictures / own.pictures_at_once, own.epochs - own.warmup_epochs
        counts = {
            "start": 1.0,
            "epoch": float(own.epochs),
            "warmup_step": own.warmup_epochs * steps,
            "step": searched * steps,
            "watched": float(min(watched, -(-pictures // own.pictures_at_once)))
            * min(_WATCHED, searched),
        }
        found["search"] = [
            Task("search", _key("search", [mask.digest(), _timed(own)], config, dataset),
                 counts, config, mask)
            for mask in (one.mask for one in outlook.expected)
        ]  # fmt: skip
    if "evaluate" in there:
        settings, genotype = config.evaluate, some_genotype(outlook.expected[0].mask)
        steps = len(dataset.train) / settings.batch_size
        validated = len(dataset.validation) if dataset.validation is not None else 0
        counts = {
            "start": 1.0,
            "epoch": float(settings.epochs),
            "step": settings.epochs * steps,
            "watched": min(watched, -(-steps // 1)) * min(_WATCHED, settings.epochs),
            "picture": float(settings.epochs * validated + len(dataset.test)),
        }
        key = _key("evaluate", [genotype.to_dict(), _timed(settings)], config, dataset)
        found["evaluate"] = [Task("evaluate", key, counts, config, genotype)]
    return found


def _timed(settings: Any) -> dict[str, Any]:  # noqa: ANN401  # a section
    return {k: v for k, v in to_document(settings).items() if k not in _UNTIMED}


def _key(phase: str, own: Sequence[Any], config: TrialConfig, dataset: Dataset) -> str:
    pictures = [*dataset.train.images.shape[1:], len(dataset.classes)]
    return digest([phase, own, to_document(config.supernet), config.search_space.name, pictures])


def _repeats(options: Mapping[str, Any]) -> float:
    return float(Repeats.of(options["repeats"]).at_most) if "repeats" in options else 1.0


@dataclass
class Stopwatch:
    """Measures tasks on a device.

    Attributes:
        runtime: Where they run.
        limit: Seconds for all of them.
        clock: Gives seconds.
    """

    runtime: Runtime
    limit: float
    clock: Callable[[], float] = time.perf_counter

    def measure(
        self, wanted: Sequence[Task], loaded: Callable[[TrialConfig], Dataset]
    ) -> dict[str, Rates]:
        """The rates of tasks by their keys, each shape once, in an equal share of the time.

        Args:
            wanted: The tasks.
            loaded: Gives the data set of a task, read.
        """
        distinct = {task.key: task for task in wanted}
        data = {key: loaded(task.config) for key, task in distinct.items()}
        end, found = self._now() + self.limit, dict[str, Rates]()
        for place, (key, task) in enumerate(distinct.items()):
            now = self._now()
            until = now + (end - now) / (len(distinct) - place)
            found[key] = getattr(self, f"_{task.phase}")(task, data[key], until)
        return found

    def _now(self) -> float:
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize(self.runtime.device)
        return self.clock()

    def _laps(
        self, work: Callable[[StageContext], object], until: float
    ) -> tuple[list[float], float]:
        """Seconds between the reports of a phase, up to a time, and the share that was done."""
        times, share = [self._now()], [1.0]

        def report(progress: Progress) -> None:
            times.append(self._now())
            share[0] = progress.done / progress.total
            if times[-1] >= until:
                raise StoppedEarly("enough is known")

        try:
            work(StageContext(self.runtime, 0, _InMemory(), report))
        except StoppedEarly:
            pass
        else:
            times.append(self._now())
        return [b - a for a, b in itertools.pairwise(times)], share[0]

    def _prune(self, task: Task, dataset: Dataset, until: float) -> Rates:
        """The whole course with one repeat and with two, or the part that there was time for."""
        source = task.config.mask_source

        def seconds(repeats: int) -> tuple[float, float]:
            fewer = {"repeats": repeats} if "repeats" in source.options else {}
            own = replace(source, options={**source.options, **fewer})
            laps, share = self._laps(
                lambda stage: own(PruneContext.of(task.config, dataset, stage)), until
            )
            return sum(laps) / max(share, 1e-9), share

        once, share = seconds(1)
        if share < 1 or self._now() + 2 * once > until or "repeats" not in source.options:
            return {"start": 0.0, "repeat": once}
        twice, share = seconds(2)
        repeat = min(max(twice - once, once / 4), once) if share == 1 else once
        return {"start": once - repeat, "repeat": repeat}

    def _search(self, task: Task, dataset: Dataset, until: float) -> Rates:
        own, mask = task.config.search, task.subject
        assert isinstance(mask, OperationMask)  # as it was made
        parts = dataset.search_parts(own.architecture_fraction)
        warmup = 2 if own.warmup_epochs else 0
        short = own.model_copy(
            update={
                "epochs": warmup + _WATCHED + _PLAIN,
                "warmup_epochs": warmup,
                "schedule": SearchSettings().schedule,
            }
        )

        def epochs(steps: int) -> list[float]:
            cut = _Cut.of(dataset, parts, steps * own.pictures_at_once)
            return self._laps(
                lambda stage: bilevel.search(mask, cut, task.config.supernet, short, stage), until
            )[0]

        most = min(map(len, parts)) // own.pictures_at_once
        return self._rates(epochs, short.epochs, warmup, most, until)

    def _evaluate(self, task: Task, dataset: Dataset, until: float) -> Rates:
        settings, genotype = task.config.evaluate, task.subject
        assert isinstance(genotype, Genotype)  # as it was made
        short = settings.model_copy(update={"epochs": _WATCHED + _PLAIN})
        size = settings.batch_size
        plain = replace(dataset, validation=None, test=_first(dataset.test, size))

        def epochs(steps: int) -> list[float]:
            cut = replace(plain, train=_first(dataset.train, steps * size))
            return self._laps(lambda stage: training.evaluate(genotype, cut, short, stage), until)[
                0
            ]

        network = training.standalone(genotype, dataset, settings)
        network = network.to(memory_format=torch.channels_last).to(self.runtime.device)
        seconds = []
        for part in (plain.test, _first(dataset.test, _STEPS * size)):
            before = self._now()
            training.accuracy(network, dataset, part, size, self.runtime)
            seconds.append((self._now() - before) / len(part))
        rates = self._rates(epochs, short.epochs, 0, len(dataset.train) // size, until)
        return {**rates, "picture": min(seconds)}

    def _rates(
        self,
        epochs: Callable[[int], list[float]],
        count: int,
        warmup: int,
        most: int,
        until: float,
    ) -> Rates:
        """Rates from epochs of one step and of several.

        Args:
            epochs: Runs epochs of so many steps; gives the seconds of each, fewer without time.
            count: How many there are.
            warmup: How many of them are without architecture steps.
            most: Steps that an epoch has pictures for.
            until: When there is no more time.
        """
        one = epochs(1)
        plain = _plain(one, count)
        step, steps = plain, min(_STEPS, most)
        many = epochs(steps) if steps > 1 and self._now() < until and len(one) >= count else []
        if len(many) >= count:
            longer = (_plain(many, count) - plain) / (steps - 1)
            step = min(max(longer, plain / _STEPS), plain)
        beside = plain - step
        second = (many or one)[:2][-1]  # of the warm-up, if there is one
        warmup_step = max(second - beside, 0.0) / (steps if many else 1) if warmup else step
        watched = max(one[warmup + 1] - plain, 0.0) if len(one) > warmup + 1 else 0.0
        start = max(one[0] - (one[1] if warmup and len(one) > 1 else plain + watched), 0.0)
        return {
            "start": start,
            "epoch": beside,
            "step": step,
            "warmup_step": warmup_step,
            "watched": watched,
        }


def _plain(laps: Sequence[float], count: int) -> float:
    """Seconds of an epoch in which no memory is watched, or of the last that there was time for."""
    return median(laps[count - _PLAIN : count]) if len(laps) >= count else laps[-1]


def _first(pictures: Pictures, count: int) -> Pictures:
    return pictures.select(torch.arange(min(count, len(pictures))))


@dataclass(frozen=True, eq=False)
class _Cut(Dataset):
    """A data set of which a search sees few pictures."""

    parts: tuple[Pictures, Pictures] | None = None

    @classmethod
    def of(cls, dataset: Dataset, parts: tuple[Pictures, Pictures], count: int) -> "_Cut":
        """One that trains weights and architecture on the first pictures of each part."""
        weights, architecture = (_first(part, count) for part in parts)
        return cls(**vars(dataset), parts=(weights, architecture))

    def search_parts(self, architecture_fraction: float) -> tuple[Pictures, Pictures]:
        """The few pictures."""
        return self.parts or super().search_parts(architecture_fraction)


class _InMemory:
    """A checkpoint that takes the time of writing one, and keeps nothing."""

    def load(self) -> None:
        """Nothing."""

    def save(self, state: dict[str, Any]) -> None:
        """Write it to memory."""
        torch.save(state, io.BytesIO())


def seconds(found: Mapping[str, Sequence[Task]], rates: Mapping[str, Rates]) -> dict[str, float]:
    """Seconds of each phase of a point, the mean over its masks."""
    return {name: fmean(t.seconds(rates[t.key]) for t in own) for name, own in found.items()}
