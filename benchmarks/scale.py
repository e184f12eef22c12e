"""What a trial costs in a large study beside its own work: trials that do nothing.

``claim-N`` is a study of N trials on SQLite with one worker. ``seconds_begun`` is from the end of
a trial's work until the next one's begins where no trial has ended yet, ``seconds_ended`` where all
but the last 25 have (medians of 20); ``add_seconds`` is what adding the trials takes,
``results_seconds`` what reading the results does, ``worker_mib`` the worker's memory beyond that in
the study of the first size. ``workers-N`` is a study of ``--trials`` trials on PostgreSQL, run by N
processes: trials a second, of all and of the last tenth.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import insert

from benchmarks import quick
from benchmarks.document import Row, main
from benchmarks.servers import postgresql
from zostudy.config.loading import StudyFile, from_document
from zostudy.study import points
from zostudy.study.points import Point, TrialOutcome
from zostudy.study.report import results
from zostudy.study.sweep import grid, made_of, optuna_storage, work_units, worker

_CLAIMS = 20
_LEFT = 25


def study(url: str, trials: int, name: str = "scale") -> StudyFile:
    """A study of so many trials, as a grid of one number."""
    numbers = {"low": 0, "high": trials - 1, "step": 1}
    sweep = {"parameters": {"prune.number": numbers}}
    return from_document(quick.study(name, sweep=sweep, storage={"optuna": url}))


def outcome(point: Point, seed: int, number: int) -> TrialOutcome:
    """What a trial that does nothing hands over, as large as that of a real one."""
    metrics = {f"figure_{index}": float(index) for index in range(30)}
    genotype = {"normal": [["sep_conv_3x3", index] for index in range(16)]}
    accuracy = {"validation_accuracy": 90.0 + (number % 100) / 100 + seed}
    return TrialOutcome(metrics | accuracy, genotype, point.key)


def fill(file: StudyFile, count: int) -> None:
    """Write a study's first trials into its storage as complete ones."""
    known = grid.of_study(file)
    today = made_of.Today(file)
    with optuna_storage.created(file) as found:
        study_id = found.storage.get_study_id_from_name(file.config.study)
        trials, attributes, values = [], [], []
        for record, number in zip(work_units.due(file, known, []), range(count), strict=False):
            point = known[record["point"]]
            (seed,) = record["seeds"]
            done = points.to_json(outcome(point, seed, number))
            noted = {
                **record,
                "made_of": dict(today.of(point)),
                "worker": "x",
                f"seed:{seed}": done,
            }
            trial = {"trial_id": number + 1, "number": number, "study_id": study_id}
            trials.append(trial | {"state": "COMPLETE"})
            attributes += [
                {"trial_id": number + 1, "key": key, "value_json": json.dumps(value)}
                for key, value in noted.items()
            ]
            value = {"objective": 0, "value": 90.0, "value_type": "FINITE"}
            values.append({"trial_id": number + 1} | value)
        with found.storage.engine.begin() as connection:
            connection.execute(insert(models.TrialModel), trials)
            connection.execute(insert(models.TrialUserAttributeModel), attributes)
            connection.execute(insert(models.TrialValueModel), values)


def claims(file: StudyFile) -> float:
    """Run some trials with one worker; the median of the seconds between two."""
    between: list[float] = []
    ended: list[float] = []
    stop = threading.Event()

    def execute(point: Point, seed: int, number: int, **_: Any) -> TrialOutcome:  # noqa: ANN401
        if ended:
            between.append(time.perf_counter() - ended[-1])
        if len(between) == _CLAIMS:
            stop.set()
        done = outcome(point, seed, number)
        ended.append(time.perf_counter())
        return done

    with contextlib.suppress(KeyboardInterrupt):
        worker.run(file, execute, lambda _: None, stop=stop)
    return statistics.median(between)


def _memory() -> float:
    """Memory of this process now, in MiB."""
    words = Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()
    return int(words[0]) / 1024


def one_size(folder: str, trials: int) -> dict[str, float]:
    """The figures of one worker in a study of so many trials."""
    found = {}
    begun = study(f"sqlite:///{folder}/begun-{trials}.db", trials)
    started = time.perf_counter()
    worker.prepare(begun)
    found["add_seconds"] = time.perf_counter() - started
    found["seconds_begun"] = claims(begun)
    ended = study(f"sqlite:///{folder}/ended-{trials}.db", trials)
    fill(ended, trials - _LEFT)
    worker.prepare(ended)
    found["seconds_ended"] = claims(ended)
    found["worker_mib"] = _memory()
    started = time.perf_counter()
    results.document(ended)
    found["results_seconds"] = time.perf_counter() - started
    return found


def _apart(call: Callable[[], Any]) -> Any:  # noqa: ANN401  # what the call returns
    """What a call returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call)


def work(file: StudyFile, path: Path) -> None:
    """Run a study; a line with the time of each trial goes to a file."""

    def execute(point: Point, seed: int, number: int, **_: Any) -> TrialOutcome:  # noqa: ANN401
        with path.open("a") as log:
            log.write(f"{time.time()}\n")
        return outcome(point, seed, number)

    worker.run(file, execute, lambda _: None)


def throughput(url: str, folder: Path, trials: int, workers: int) -> Iterator[Row]:
    """Trials a second of several workers."""
    file = study(url, trials, f"workers-{workers}")
    worker.prepare(file)
    log = folder / f"log-{workers}"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(file, log)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    times = sorted(float(line) for line in log.read_text().split())
    tenth = max(2, len(times) // 10)
    yield Row(f"workers-{workers}", "trials", len(times), trials)
    yield Row(f"workers-{workers}", "trials_a_second", len(times) / (times[-1] - times[0]))
    last = tenth / (times[-1] - times[-tenth])
    yield Row(f"workers-{workers}", "trials_a_second_of_the_last_tenth", last)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """The results, as they come."""
    first: dict[str, float] = {}
    with TemporaryDirectory() as name:
        for trials in arguments.sizes:
            found = _apart(partial(one_size, name, trials))
            first = first or found
            for metric, value in found.items():
                if metric == "worker_mib":
                    yield Row(f"claim-{trials}", metric, value - first[metric])
                else:
                    yield Row(f"claim-{trials}", metric, value, first[metric])
        if arguments.workers:
            with postgresql(Path(name)) as url:
                for workers in arguments.workers:
                    yield from throughput(url, Path(name), arguments.trials, workers)


def options(parser: argparse.ArgumentParser) -> None:
    """The sizes of the studies."""
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1600, 10_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--trials", type=int, default=10_000)


if __name__ == "__main__":
    main(__doc__ or "", rows, options)
