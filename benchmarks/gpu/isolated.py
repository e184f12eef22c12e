"""Work in a process of its own, whose failure is no other's and which ends in time.

A fault on a GPU makes every later call of the same process fail, and the allocator's peak is that
of a process; so each part of the benchmark has its own. The parent must not touch CUDA: a forked
process could not use it then.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from zostudy.errors import ZostudyError

_CONTEXT = multiprocessing.get_context("fork")


def results(
    work: Callable[[], Iterable[Any]], seconds: float, failed: Callable[[str], None]
) -> Iterator[Any]:
    """What work gives, as it comes; an error, a crash or the end of its time ends it.

    Args:
        work: What to do.
        seconds: The most that it may take.
        failed: Told in a line why it did not come to its end.

    Yields:
        What it gave until then.
    """
    end = time.monotonic() + seconds
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_do, args=(work, sender), daemon=True)
    process.start()
    sender.close()
    try:
        while receiver.poll(max(end - time.monotonic(), 0)):
            kind, given = receiver.recv()
            if kind == "result":
                yield given
                continue
            if kind == "error":
                failed(given)
            return
        failed(f"out of time after {seconds:.0f} s; what came until then is kept")
    except EOFError:
        process.join()
        failed(f"its process ended by itself, exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def _do(work: Callable[[], Iterable[Any]], sender: Connection) -> None:
    try:
        for result in work():
            sender.send(("result", result))
    except ZostudyError as error:
        sender.send(("error", str(error)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent is told
        traceback.print_exc()
        text = str(error).strip()
        first = text.splitlines()[0] if text else ""
        sender.send(("error", f"{type(error).__name__}: {first}"))
    else:
        sender.send(("end", None))
