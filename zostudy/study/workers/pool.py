"""The workers of one process: threads that hand trials to processes, and stop together."""

import multiprocessing
import threading
from collections.abc import Sequence

from zostudy.config.loading import StudyFile
from zostudy.study.report.progress import Reporter
from zostudy.study.sweep import worker
from zostudy.study.sweep.worker import SweepSummary, Tally
from zostudy.study.workers.isolation import TrialProcesses


def run(
    file: StudyFile,
    devices: Sequence[str],
    reporter: Reporter,
    known: dict[str, int],
    machine: str = "",
) -> SweepSummary:
    """Run what is missing of a study with several workers at once.

    An interrupt stops the trials at their last checkpoint and gives them back; a second one kills
    them.

    Args:
        file: The study file.
        devices: For each worker the device of its trials; ``study`` for that of the study file.
        reporter: Shows what they do.
        known: Predicted peaks of memory by what determines them; those found are added.
        machine: How the machine stands in the check of its operations, for the runs.

    Raises:
        ZostudyError: No worker could go on.
        KeyboardInterrupt: The user stopped it.
    """
    tally, stop = Tally(), threading.Event()
    ended: list[BaseException] = []

    def work(number: int, device: str, shown: Reporter) -> None:
        execute = TrialProcesses(file, shown.report, device, stop, known, machine)
        try:
            worker.run(file, execute, shown.notice, tally, stop)
        except BaseException as error:  # noqa: BLE001  # a thread has nobody to raise it to
            ended.append(error)
            if not isinstance(error, KeyboardInterrupt) and len(devices) > 1:
                shown.say(f"worker {number} ended: {error}")

    threads = [
        threading.Thread(target=work, args=(number, device, reporter.beside()), daemon=True)
        for number, device in enumerate(devices, start=1)
    ]
    for thread in threads:
        thread.start()
    _wait(threads, stop)
    for error in ended:
        if isinstance(error, KeyboardInterrupt) or len(ended) == len(threads):
            raise error
    return tally.summary()


def _wait(threads: Sequence[threading.Thread], stop: threading.Event) -> None:
    try:
        _join(threads)
    except KeyboardInterrupt:
        stop.set()
        try:
            _join(threads)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise
        raise


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
