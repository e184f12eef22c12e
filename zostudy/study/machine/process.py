"""Cases that are compared in a process of their own: both sides of the pipe.

The process says which case it is about to compute, so that the last one it named is to blame if it
ends without a word or says nothing more. Messages are JSON, as are jobs.
"""

import ctypes
import gc
import json
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zostudy.config.settings import RuntimeSettings
from zostudy.errors import InputError, MemoryShortageError, TrialError, ZostudyError
from zostudy.study.machine.cases import Case
from zostudy.study.workers.isolation import loss, memory_kills

if TYPE_CHECKING:
    from zostudy.runtime import Runtime

_log = logging.getLogger(__name__)

Context = ForkServerContext | SpawnContext

#: Seconds in which the process must have begun: it imports torch and wakes the device.
_BEGINNING = 300.0


@dataclass(frozen=True)
class Setting:
    """How cases are computed.

    Attributes:
        runtime: Device, precision and threads.
        extensions: Modules that may declare further operations.
    """

    runtime: RuntimeSettings
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wrong:
    """A tensor that is computed wrongly; see `kernels.Deviation`.

    Attributes:
        what: ``the output``, or which gradient.
        off: By which part of its norm it is off.
        rounding: Which part rounding explains at most.
    """

    what: str
    off: float
    rounding: float


@dataclass(frozen=True)
class Answer:
    """What the process said of a case.

    Attributes:
        wrong: What is computed wrongly.
        failed: The error that it ended with, in one line.
        short: Whether there was not enough memory.
        unchecked: Why there is nothing to compare with, in one line.
    """

    wrong: tuple[Wrong, ...] = ()
    failed: str = ""
    short: bool = False
    unchecked: str = ""


@dataclass(frozen=True)
class Trouble:
    """How a process ended that did not finish.

    Attributes:
        kind: ``crash``, ``hang`` or ``memory``.
        what: What happened, in one line.
        at: Which of its cases it was computing; nothing where it had not begun.
    """

    kind: Literal["crash", "hang", "memory"]
    what: str
    at: int | None


@dataclass
class Report:
    """What a process has said.

    Attributes:
        answers: For each case that it finished, by its place, the answer.
        trouble: How it ended, if it did not finish.
    """

    answers: dict[int, Answer] = field(default_factory=dict)
    trouble: Trouble | None = None


def ask(
    context: Context, cases: Sequence[Case], setting: Setting, limit: float, repeats: int = 1
) -> Report:
    """Compare cases in a process of their own.

    Args:
        context: What makes the process.
        cases: The cases, in their order.
        setting: How they are computed.
        limit: Seconds that a case may take.
        repeats: How often each is computed, for faults that show later.

    Raises:
        InputError: The device is not there.
    """
    with tempfile.NamedTemporaryFile(prefix="zostudy-machine-") as said:
        job = {
            "cases": [asdict(case) for case in cases],
            "runtime": setting.runtime.model_dump(mode="json"),
            "extensions": setting.extensions,
            "repeats": repeats,
            "said": said.name,
        }
        ours, theirs = context.Pipe()
        before = memory_kills()
        process = context.Process(
            target=main, args=(json.dumps(job), theirs), name="machine", daemon=True
        )
        process.start()
        theirs.close()
        report = Report()
        with ours:
            try:
                at, late = _follow(ours, report, limit)
                if not late:
                    process.join(_BEGINNING)  # it has ended, or does now
            finally:
                if process.exitcode is None:
                    process.kill()
                    process.join()
        if at is _DONE:
            return report
        if late:
            report.trouble = Trouble("hang", f"did not end in {limit:g} s", at)
        else:
            error = loss(process.exitcode, memory_kills() - before)
            report.trouble = _ended_by(error, _last_line(Path(said.name)), at)
        return report


def _ended_by(error: TrialError, last: str, at: int | None) -> Trouble:
    """The trouble with a process that ended early, and the last line that it said."""
    what = str(error) + (f", saying {last!r}" if last else "")
    return Trouble("memory" if isinstance(error, MemoryShortageError) else "crash", what, at)


#: Options of the GNU C library's `mallopt`: `M_PERTURB` fills new memory with the complement of a
#: byte, of which large numbers are made; `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` keep tensors on
#: the heap, where what is written beside them is found, and where they cost no new pages.
_MEMORY = {-6: 0xA5, -1: 2**30, -3: 2**30}

#: After how many cases the heap is walked through, which gives its pages back; fewer than `check`
#: looks at before a crash.
_WALK = 8

#: In place of the case that a process is at: it has finished.
_DONE = -1


def _follow(messages: Connection, report: Report, limit: float) -> tuple[int | None, bool]:
    """Keep answers until the process ends; the case it was at, and whether it was too late."""
    at: int | None = None
    until = time.monotonic() + max(limit, _BEGINNING)
    while True:
        if not wait([messages], max(0.0, until - time.monotonic())):
            return at, True
        try:
            message: dict[str, Any] = json.loads(messages.recv_bytes())
        except (EOFError, ConnectionError):
            return at, False
        until = time.monotonic() + limit
        if "error" in message:
            raise InputError(message["error"])
        if "begins" in message:
            at = message["begins"]
        elif "done" in message:
            return _DONE, False
        elif at is not None:
            report.answers[at] = _answer(message)


def _answer(message: Mapping[str, Any]) -> Answer:
    wrong = tuple(Wrong(**one) for one in message.get("wrong", ()))
    return Answer(**{**message, "wrong": wrong})


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def main(text: str, connection: Connection) -> None:
    """Compare cases, and send what comes of each.

    Args:
        text: The job.
        connection: Where messages go.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one
    job = json.loads(text)
    with Path(job["said"]).open("ab") as said:
        os.dup2(said.fileno(), 2)  # what the C library says when it aborts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # what the server has imported stays; looking through it takes longer than a case

    from zostudy.runtime import prepare

    setting = Setting(RuntimeSettings(**job["runtime"]), tuple(job["extensions"]))
    try:
        runtime = prepare(setting.runtime)
    except ZostudyError as error:
        _send(connection, {"error": str(error)})
        return
    _prepare_memory()
    for place, case in enumerate(job["cases"], start=1):
        _send(connection, {"begins": place - 1})
        answer = _compared(Case(**case), runtime, setting, job["repeats"])
        if place % _WALK == 0 or place == len(job["cases"]):
            _examine_heap()
        _send(connection, asdict(answer))
    _send(connection, {"done": True})


def _compared(case: Case, runtime: "Runtime", setting: Setting, repeats: int) -> Answer:
    from zostudy.space.search_space import search_space
    from zostudy.study.machine import kernels
    from zostudy.study.trial.computing import asked_bytes

    try:
        space = search_space(case.space, setting.extensions)
        found = kernels.deviations(case, space, runtime, repeats)
    except kernels.Reference64Error as error:
        return Answer(unchecked=" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001  # whatever an operation raises is told
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Answer(failed=reason, short=asked_bytes(error) is not None)
    return Answer(tuple(Wrong(**asdict(deviation)) for deviation in found))


def _prepare_memory() -> None:
    """Have the C library fill new memory, so that who reads it gets no zeros, and keep it."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, value in _MEMORY.items():
            set_option(option, value)


def _examine_heap() -> None:
    """Have the C library walk through its free memory, where it finds what was overwritten."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _send(connection: Connection, message: Mapping[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
