"""A trial in a process of its own: this side of the pipe.

A job comes in and messages go out as JSON. The process is forked from a server that has imported
what a trial needs and has touched no device, so this module itself imports nothing heavy.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import asdict
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from zostudy.config.loading import StudyFile
from zostudy.config.settings import StudyConfig, TrialConfig
from zostudy.errors import LostError, ZostudyError
from zostudy.redaction import show_no_password
from zostudy.study.points import Ended, Point

if TYPE_CHECKING:
    from zostudy.stage import Progress

_log = logging.getLogger(__name__)

#: What the server imports, so that trials need not: also what torch, matplotlib and
#: scikit-learn import only when they are first used.
_IMPORTED = [
    "__main__",
    "zostudy.study.trial.trial",
    "torch._inductor",
    "matplotlib.backends.backend_agg",
    "sklearn.datasets",
]


def start_server() -> ForkServerContext:
    """Start the server that trials' processes are forked from, if it does not run.

    It takes seconds to import what it has to; begun early, it does so beside this process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    forkserver.ensure_running()
    return context


def job(file: StudyFile, point: Point, seed: int, number: int, **further: object) -> str:
    """What a trial's process is told, as JSON.

    Args:
        file: The study.
        point: Its settings.
        seed: Its seed.
        number: Its number in the study.
        further: Arguments of :class:`zostudy.study.trial.trial.Trials`.
    """
    told = {
        "document": file.document,
        "config": file.config.model_dump(mode="json"),
        "point": {
            "values": dict(point.values),
            "config": point.config.model_dump(mode="json"),
            "key": point.key,
            "made_of": dict(point.made_of),
            "baseline": point.baseline,
        },
        "seed": seed,
        "number": number,
        "further": further,
    }
    return json.dumps(told)


def main(text: str, connection: Connection) -> None:
    """Run a trial, and send what comes of it: progress, then one message that says how it ended.

    Args:
        text: The job.
        connection: Where messages go.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the worker, which says so
    signal.signal(signal.SIGTERM, _stop)
    show_no_password()
    threading.Thread(target=_end_with_worker, daemon=True).start()
    try:
        ended = _run(json.loads(text), connection)
    except (KeyboardInterrupt, EOFError):  # EOFError: the worker is gone
        ended = {"stopped": True}
    except LostError as error:
        ended = {"lost": str(error)}
    except ZostudyError as error:
        ended = {"failure": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever fails a trial, the study goes on
        _log.warning("the trial failed unexpectedly", exc_info=error)
        ended = {"failure": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(OSError):  # the worker may be gone
        _send(connection, ended)


def _run(told: dict[str, Any], connection: Connection) -> dict[str, Any]:
    from zostudy.stage import StoppedEarly
    from zostudy.study.trial.trial import Trials

    place = told["point"]
    config = TrialConfig.model_validate_json(json.dumps(place["config"]))
    study = StudyConfig.model_validate_json(json.dumps(told["config"]))
    # Device, precision and threads may be swept: those of the point count.
    file = StudyFile(told["document"], study.model_copy(update={"runtime": config.runtime}))
    point = Point(
        place["values"],
        config,
        place["key"],
        made_of=place["made_of"],
        baseline=place["baseline"],
    )

    judging = file.config.sweep.early_stopping.name != "none"

    def report(progress: "Progress") -> None:
        judged = judging and "validation_accuracy" in progress.metrics
        _send(connection, {"progress": asdict(progress), "judged": judged})
        if judged:
            reason = json.loads(connection.recv_bytes())["stop"]
            if reason:
                raise StoppedEarly(reason)

    def begins(name: str, key: str) -> None:
        _send(connection, {"run": [name, key]})

    def enters(phase: str) -> None:
        _send(connection, {"phase": phase})

    trials = Trials(file, report, begins=begins, enters=enters, **told["further"])
    outcome = trials(point, told["seed"], told["number"])
    kind = "ended" if isinstance(outcome, Ended) else "outcome"
    return {kind: asdict(outcome), "known": trials.known}


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def _end_with_worker() -> None:
    """End at once with the worker, which alone can tell what this process finds."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
