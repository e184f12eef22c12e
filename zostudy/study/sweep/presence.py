"""Which workers run trials of a study now, by what they have written into its storage."""

from dataclasses import dataclass

from zostudy.config.loading import StudyFile
from zostudy.study.points import described
from zostudy.study.sweep import grid, rows
from zostudy.study.sweep.optuna_storage import check_same_sweep, stored
from zostudy.study.sweep.queue import Queue


@dataclass(frozen=True)
class Worker:
    """A worker that runs a trial.

    Attributes:
        host: The name of its machine.
        process: The number of its process there.
        trial: The number of the trial, or of the first of several seeds.
        seeds: Its seeds.
        point: Its point in words; empty while the sampler proposes it.
        silent: Seconds since it was last heard of, by the clock of the database.
        gone: Whether it is known, or taken, to be lost.
    """

    host: str
    process: int | None
    trial: int
    seeds: tuple[int, ...]
    point: str
    silent: float | None
    gone: bool


def workers(file: StudyFile) -> list[Worker]:
    """The workers that run trials, in the order of the trials; nothing is written.

    Raises:
        ConfigError: The storage cannot be opened.
    """
    with stored(file.config) as found:
        if found is None:
            return []
        check_same_sweep(found.study, file)
        queue = Queue(file, found, grid.of_study(file))
        running = [unit for unit in queue.read() if unit.state == "running"]
        alive = {unit.number for unit in queue.alive_now(running)}
        ids = {unit.number: queue.id(unit) for unit in running}
        since = rows.silence(found.storage, ids.values())
    workers = []
    for unit in running:
        named = str(unit.record.get("worker", "")).split(" ")
        process = named[-2] if len(named) > 2 else ""  # host … process, begun
        values = queue.known[unit.key].values if unit.key in queue.known else None
        workers.append(
            Worker(
                named[0],
                int(process) if process.isdecimal() else None,
                unit.first,
                unit.seeds,
                "" if values is None else described(values),
                since.get(ids[unit.number]),
                unit.number not in alive,
            )
        )
    return workers
