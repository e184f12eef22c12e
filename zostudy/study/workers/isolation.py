"""Each trial in a process of its own: the worker's side of the pipe.

A crash, a shortage of memory or a leak touches that trial alone, and the memory of its device is
given back. Processes are forked from a server that has imported what trials need, so that one
starts in a fraction of a second; the server never touches a device.
"""

import contextlib
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from zostudy import host
from zostudy.config.loading import StudyFile
from zostudy.errors import CrashError, LostError, MemoryShortageError, TrialError
from zostudy.stage import Progress
from zostudy.study.points import Ended, Point, TrialOutcome
from zostudy.study.tracking.runs import OUT_OF_MEMORY, Tracker
from zostudy.study.workers import trial_process

#: Gives a reason to stop a trial for what it has reported, or nothing.
Judge = Callable[[Progress], str]

#: Seconds between two looks at whether the worker is to stop.
_LOOK = 0.2

#: Seconds in which a trial that is to stop must do so.
_STOPPING = 10.0

#: The exit code of a process whose server cannot tell it any more.
_UNKNOWN = 255

#: Signals by which somebody ends a process that works as it should.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class TrialProcesses:
    """Runs trials, each in a process of its own, which ends with this one.

    Attributes:
        file: The study.
        report: Called after every epoch and round.
        device: The device of the trials; ``study`` for that of the study file.
        stop: Ends the trial that runs when it is set.
        known: Predicted peaks of memory by what determines them; those found are added.
        machine: How the machine stands in the check of its operations, for the runs.
    """

    file: StudyFile
    report: Callable[[Progress], None]
    device: str = "study"
    stop: threading.Event = field(default_factory=threading.Event)
    known: dict[str, int] = field(default_factory=dict)
    machine: str = ""
    _run: tuple[str, str] | None = None
    _phase: str = ""

    def __call__(
        self, point: Point, seed: int, number: int, judge: Judge = lambda _: ""
    ) -> TrialOutcome | Ended:
        """Run a trial, or go on with it where it was stopped.

        Args:
            point: Its settings.
            seed: Its seed.
            number: Its number in the study.
            judge: Gives a reason to stop the trial for what it has reported, or nothing.

        Raises:
            TrialError: The trial failed.
            LostError: Its process was ended from outside.
            KeyboardInterrupt: It was stopped.
        """
        self._run, self._phase = None, ""
        context = trial_process.start_server()
        job = trial_process.job(
            self.file,
            point,
            seed,
            number,
            device=self.device,
            known=dict(self.known),
            machine=self.machine,
        )
        ours, theirs = context.Pipe()
        before = memory_kills()
        process = context.Process(
            target=trial_process.main, args=(job, theirs), name=f"trial-{number}"
        )
        with ours:
            process.start()
            theirs.close()
            try:
                ended = self._follow(process, ours, judge)
            except BaseException:
                process.terminate()
                raise
            finally:
                ours.close()  # a process that still writes ends
                _join(process)
        return self._outcome(ended, process.exitcode, memory_kills() - before)

    def _follow(
        self, process: ForkServerProcess, messages: Connection, judge: Judge
    ) -> dict[str, Any]:
        """Pass on progress until the last message; an empty one if the process just ended."""
        while not self.stop.is_set():
            ready = wait([messages, process.sentinel], _LOOK)
            if messages in ready:
                try:
                    message: dict[str, Any] = json.loads(messages.recv_bytes())
                except EOFError:
                    return {}
                if "run" in message:
                    self._run = tuple(message["run"])
                    continue
                if "phase" in message:
                    self._phase = message["phase"]
                    continue
                if "progress" not in message:
                    return message
                progress = Progress(**message["progress"])
                self.report(progress)
                if message["judged"]:
                    with contextlib.suppress(OSError):  # it has just ended
                        messages.send_bytes(json.dumps({"stop": judge(progress)}).encode())
            elif ready:
                return {}
        raise KeyboardInterrupt

    def _outcome(
        self, ended: dict[str, Any], code: int | None, killed: int
    ) -> TrialOutcome | Ended:
        self.known |= ended.get("known", {})
        if "outcome" in ended:
            return TrialOutcome(**ended["outcome"])
        if "ended" in ended:
            return Ended(**ended["ended"])
        if "failure" in ended:
            raise TrialError(ended["failure"])
        if "lost" in ended:
            raise LostError(ended["lost"])
        if ended and self.stop.wait(_LOOK):  # both were told to stop
            raise KeyboardInterrupt
        if ended:
            raise LostError("its process was told to stop (SIGTERM)")
        error = loss(code, killed, self._phase)
        with self._tracked(error):
            raise error

    @contextlib.contextmanager
    def _tracked(self, error: TrialError) -> Iterator[None]:
        """End the run of a process that could not say itself why it ended."""
        if self._run is None:
            yield
            return
        config = self.file.config
        tracker = Tracker(Path(config.storage.folder), config.tracking.uri, config.experiment)
        with tracker.trial(*self._run, {}, {}) as run:
            if isinstance(error, MemoryShortageError):
                run.tags({OUT_OF_MEMORY: "True"})
            yield


def loss(code: int | None, killed: int, phase: str = "") -> TrialError:
    """Why a process ended without a word.

    Args:
        code: Its exit code; the negative number of a signal.
        killed: How many processes the kernel has killed for want of memory meanwhile.
        phase: The phase that it was computing, if that is known.
    """
    if code == -signal.SIGKILL and killed > 0:
        return MemoryShortageError(
            "out of memory: its process was killed by the kernel's out-of-memory killer"
        )
    if code == _UNKNOWN:
        return LostError("its process was lost with the server that it was forked from")
    if code is None or code >= 0:
        text = f"its process ended with exit code {code} and without a result"
        return CrashError(text, f"exit code {code}", phase)
    name = signal.Signals(-code).name
    if -code in _FROM_OUTSIDE:
        return LostError(f"its process was killed from outside ({name})")
    text = f"its process crashed ({name}: {signal.strsignal(-code)})"
    return CrashError(text, name, phase)


def _join(process: ForkServerProcess) -> None:
    """Wait until a process has ended; it is killed if it takes its time."""
    process.join(_STOPPING)
    if process.exitcode is None:
        process.kill()
        process.join()


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, as far as can be seen here."""
    return sum(_counted(path) for path in _counters())


def _counters() -> list[Path]:
    """Files that count them: those of this process's control groups, and that of the machine."""
    names = ("memory.events", "memory.oom_control")
    return [Path("/proc/vmstat"), *(g / name for g in host.groups("memory") for name in names)]


def _counted(path: Path) -> int:
    with contextlib.suppress(OSError):
        match = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        return int(match[1]) if match else 0
    return 0
