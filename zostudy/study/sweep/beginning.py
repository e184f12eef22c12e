"""What is asked before a study is run: whether it goes on with what its trials are made of."""

from collections.abc import Sequence

from zostudy.config.loading import StudyFile
from zostudy.errors import ConfigError
from zostudy.study import points
from zostudy.study.sweep import grid, made_of, work_units
from zostudy.study.sweep.optuna_storage import check_same_sweep, stored
from zostudy.study.sweep.queue import Queue
from zostudy.study.sweep.work_units import Unit


def check_same_engine(file: StudyFile, *, renew: bool = False, again: bool | None = None) -> None:
    """Whether what is left of a study is run on the machine of the trials that count.

    Args:
        file: The study file.
        renew: Whether the trials of another machine are to count no more.
        again: Whether what failed by what it computes is tried again, beside what was lost too
            often; nothing where neither is.

    Raises:
        ConfigError: It is not, and they are not.
    """
    with stored(file.config) as there:
        if there is None:
            return
        check_same_sweep(there.study, file)
        known = grid.of_study(file)
        queue = Queue(file, there, known)
        found = queue.sorted_out()
        standing = work_units.standing(file, known, found.units)
        if again is not None:
            standing = standing.reopened(own=again)
        points_of = list(known.values()) or [points.first(file)]
        machines = made_of.renewal(queue.today, found, points_of) if renew else None
        if machines is not None:
            there.study.set_user_attr(made_of.RENEWED, machines)
        elif not renew:
            left = [p for p in points_of if standing.left(p)]
            sampled = [points.first(file)] if standing.to_sample else []
            made_of.check_same_engine(queue.today, found.machines, [*left, *sampled])


def check_worker(file: StudyFile) -> None:
    """Whether a worker has what the study is run on.

    Raises:
        ConfigError: It has something else.
    """
    check_same_engine(file)
    with stored(file.config) as there:
        if there is not None:
            check_same_sweep(there.study, file)
            made_of.check_inputs(Queue(file, there, grid.of_study(file)).sorted_out())


def check_others(queue: Queue, known: Sequence[Unit]) -> None:
    """Whether all that runs now is made of what this command would run.

    Raises:
        ConfigError: Something else runs.
    """
    for unit in queue.alive_now([unit for unit in known if unit.apart]):
        raise ConfigError(
            f"trial {unit.first} is run now by another worker, on something else than what is "
            f"here: {'; '.join(map(str, unit.apart))}; wait until it has ended, or stop it"
        )
