"""What a study will cost: hours, energy, money and disk, from the time of its phases.

A calibration is what was measured on one machine, as a file, for a plan on another.
"""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from zostudy.config.loading import StudyFile, digest
from zostudy.config.settings import TrialConfig
from zostudy.errors import ConfigError
from zostudy.evaluation import training
from zostudy.runtime import planned, prepare
from zostudy.study.disk.whole_files import write_whole
from zostudy.study.identity.data import loaded
from zostudy.study.planning import timing
from zostudy.study.planning.outlook import Outlook, some_genotype
from zostudy.study.planning.plan import Planner
from zostudy.study.planning.timing import Rates, Stopwatch, Task
from zostudy.study.points import Point, Standing

_CALIBRATION = 1


@dataclass(frozen=True)
class Wanted:
    """What is asked of an expense.

    Attributes:
        limit: Seconds for measuring.
        workers: Trials at a time.
        price: Of an hour of one device, in any currency; nothing where it is not asked for.
        watts: Power of one device; nothing where it is not asked for.
        save: Where the calibration is written; nothing for nowhere.
        calibration: The calibration that is used; nothing to measure.
    """

    limit: float = 30.0
    workers: int = 1
    price: float | None = None
    watts: float | None = None
    save: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Expense:
    """What is left of a study will cost.

    Attributes:
        machine: Where it was measured.
        phases: For each point, the seconds of each phase of a trial.
        device_seconds: Of all trials left.
        seconds: From the beginning to the end.
        disk_bytes: Of what is kept of the trials left, and of their checkpoints while they run.
        wanted: What was asked.
    """

    machine: Mapping[str, Any]
    phases: Sequence[tuple[Point, Mapping[str, float]]]
    device_seconds: float
    seconds: float
    disk_bytes: int
    wanted: Wanted

    def document(self) -> dict[str, Any]:
        """As JSON holds it; seconds, hours, kWh, the currency of the price, bytes."""
        hours, wanted = self.device_seconds / 3600, self.wanted
        return {
            "measured_on": dict(self.machine),
            "configurations": [
                {"params": dict(point.values), "seconds": dict(own)} for point, own in self.phases
            ],
            "workers": wanted.workers,
            "hours": self.seconds / 3600,
            "device_hours": hours,
            "kilowatt_hours": None if wanted.watts is None else hours * wanted.watts / 1000,
            "cost": None if wanted.price is None else hours * wanted.price,
            "disk_bytes": self.disk_bytes,
        }


def hourly(text: str) -> float:
    """The price of an hour, from ``2.5/h`` or ``2.5``.

    Raises:
        ConfigError: It is no price.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(?:/h)?", text, re.ASCII)
    if match is None:
        raise ConfigError(f"--price: {text!r} is no price; allowed: one of an hour, such as 2.5/h")
    return float(match[1])


def expense(
    file: StudyFile, standing: Standing, points: Sequence[Point], wanted: Wanted
) -> Expense:
    """What is left of a study will cost; of a sampled one, as if all points were like the first.

    Args:
        file: The study.
        standing: Where it stands.
        points: Its points, or one like them.
        wanted: What is asked.

    Raises:
        ZostudyError: The data is not here, or the calibration does not fit.
    """
    planner, cuda = Planner.of(file), planned(file.config.runtime).device.type == "cuda"
    looks = [
        Outlook(p.config, planner.outline(p.config.dataset), planner.predictions, planner.seeds)
        for p in points
    ]
    tasks = [timing.tasks(look, cuda) for look in looks]
    every = [task for own in tasks for phase in own.values() for task in phase]
    if wanted.calibration is not None:
        machine, rates = read(wanted.calibration, file)
        _check_shapes(wanted.calibration, every, rates)
    else:
        machine, rates = measured(file, every, wanted.limit)
    if wanted.save is not None:
        write(wanted.save, machine, rates)
    phases = [(p, timing.seconds(own, rates)) for p, own in zip(points, tasks, strict=True)]
    trials = _trials(standing, phases)
    whole = sum(trials)
    disk = max((_weights(look) for look in looks), default=0)
    # The weights of each trial, and those of each that runs with its optimizer's state.
    disk_bytes = disk * (len(trials) + 2 * min(wanted.workers, len(trials)))
    return Expense(machine, phases, whole, makespan(trials, wanted.workers), disk_bytes, wanted)


def makespan(trials: Sequence[float], workers: int) -> float:
    """Seconds until the last of trials has ended, each taken in turn by the first free worker."""
    free = [0.0] * min(workers, max(len(trials), 1))
    for trial in trials:
        free[free.index(min(free))] += trial
    return max(free)


def _trials(standing: Standing, phases: Sequence[tuple[Point, Mapping[str, float]]]) -> list[float]:
    """Seconds of each trial left; a pruning that goes on from another's is paid for once."""
    paid: dict[tuple[str, int], float] = {}
    trials = []
    for point, own in phases:
        for seed in standing.left(point) if standing.points else ():
            key = (_course(point.config), seed)
            prune = max(own.get("prune", 0.0) - paid.get(key, 0.0), 0.0)
            paid[key] = paid.get(key, 0.0) + prune
            trials.append(prune + sum(s for name, s in own.items() if name != "prune"))
    like = sum(phases[0][1].values()) if phases else 0.0
    return trials + [like] * (standing.to_sample * len(standing.seeds))


def _course(config: TrialConfig) -> str:
    source = config.mask_source
    options = {k: v for k, v in source.options.items() if k not in source.continues}
    own = [config.prune.source, options, config.supernet.model_dump(mode="json")]
    shared = [config.search_space.name, config.dataset.model_dump(mode="json")]
    return digest([own, shared, config.search.architecture_fraction])


def _weights(outlook: Outlook) -> int:
    """Bytes of the weights that a trial leaves."""
    if not outlook.config.evaluate.evaluator.trains:
        return 0
    genotype = some_genotype(outlook.expected[0].mask)
    with torch.device("meta"):
        network = training.standalone(genotype, outlook.dataset, outlook.config.evaluate)
    return sum(t.numel() * t.element_size() for t in network.state_dict().values())


def measured(
    file: StudyFile, tasks: Sequence[Task], limit: float
) -> tuple[dict[str, Any], dict[str, Rates]]:
    """The machine, and the rates of tasks on its device.

    Raises:
        ZostudyError: The device or the data is not here.
    """
    runtime = prepare(file.config.runtime)
    config = file.config

    def data(of: TrialConfig) -> Any:  # noqa: ANN401  # a data set
        key = of.dataset.model_dump_json()
        if key not in known:
            known[key] = loaded(of.dataset, config.extensions, file.folder)
        return known[key]

    known: dict[str, Any] = {}
    rates = Stopwatch(runtime, limit).measure(tasks, data)
    name = platform.processor() or platform.machine()
    if runtime.device.type == "cuda":
        name = torch.cuda.get_device_name(runtime.device)
    machine = {"device": runtime.device.type, "name": name}
    return machine | _terms(file), rates


def _terms(file: StudyFile) -> dict[str, Any]:
    """What a calibration must share with a study beside the device."""
    runtime = file.config.runtime
    return {
        "precision": runtime.precision,
        "threads": runtime.threads,
        "torch": torch.__version__,
        "zostudy": metadata.version("zostudy"),
    }


def write(path: Path, machine: Mapping[str, Any], rates: Mapping[str, Rates]) -> None:
    """Write a calibration, whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    document = {"calibration": _CALIBRATION, "machine": dict(machine), "rates": dict(rates)}
    try:
        write_whole(path, json.dumps(document, indent=1).encode())
    except OSError as error:
        raise ConfigError(f"--save: {path} cannot be written ({error.strerror})") from error


def read(path: Path, file: StudyFile) -> tuple[dict[str, Any], dict[str, Rates]]:
    """The machine and the rates of a calibration.

    Raises:
        ConfigError: It cannot be read, or is of another device or other versions than the study's.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        machine, rates = dict(document["machine"]), dict(document["rates"])
        found = document["calibration"]
    except OSError as error:
        raise ConfigError(f"--calibration: {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"--calibration: {path} is no file of `plan --time --save`") from error
    terms = {"calibration": _CALIBRATION, **_terms(file)}
    wanted = file.config.runtime.device.partition(":")[0]
    if wanted != "auto":
        terms["device"] = wanted
    for name, value in terms.items():
        own = ({"calibration": found} | machine).get(name)
        if own != value:
            raise ConfigError(
                f"--calibration: {path} is of {name} {own!r}, and the study needs {value!r}; "
                "measure again with --time --save"
            )
    return machine, rates


def _check_shapes(path: Path, tasks: Sequence[Task], rates: Mapping[str, Rates]) -> None:
    for task in tasks:
        own = rates.get(task.key)
        numbers = isinstance(own, Mapping) and all(
            isinstance(own.get(name), int | float) and 0 <= own[name] < float("inf")
            for name in task.counts
        )
        if not numbers:
            raise ConfigError(
                f"--calibration: {path} lacks the {task.phase} of a point of this study (other "
                "settings, data or points were measured); measure again with --time --save"
            )
