"""Where a study stands, and which of its units run, read from its storage; nothing is written."""

from dataclasses import replace

from zostudy.config.loading import StudyFile
from zostudy.study.points import Standing
from zostudy.study.sweep import grid, made_of, work_units
from zostudy.study.sweep.optuna_storage import check_same_sweep, stored
from zostudy.study.sweep.queue import Queue
from zostudy.study.sweep.work_units import Unit


def standing(file: StudyFile) -> Standing:
    """Where the study stands; nothing is written.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep under this name.
    """
    known = grid.of_study(file)
    with stored(file.config) as found:
        if found is None:
            return work_units.standing(file, known, [])
        check_same_sweep(found.study, file)
        sorted_out = Queue(file, found, known).sorted_out()
        plain = work_units.standing(file, known, sorted_out.units)
        apart = made_of.apart(sorted_out.units)
        return replace(plain, apart=apart, remarks=sorted_out.remarks)


def run_now(file: StudyFile) -> tuple[list[Unit], list[Unit]]:
    """The units that run and whose worker is there, and those whose worker is gone."""
    with stored(file.config) as found:
        if found is None:
            return [], []
        check_same_sweep(found.study, file)
        queue = Queue(file, found, {})
        known = queue.read()
        alive = queue.alive_now(known)
    numbers = {unit.number for unit in alive}
    return alive, [u for u in known if u.state == "running" and u.number not in numbers]


def running(file: StudyFile) -> set[int]:
    """The numbers of the trials that are being run now, here or elsewhere."""
    alive, _ = run_now(file)
    return {unit.first + index for unit in alive for index in range(len(unit.seeds))}
