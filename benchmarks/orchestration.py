"""What a study costs beside its trials' own work; about three minutes.

One worker runs trials from PostgreSQL, with an MLflow server, in a process that has begun already.
``trial-60s`` is a trial that works for 60 s in 30 steps; ``overhead_ratio`` is what it takes beyond
that and its evaluation's own seconds, over these. The phases of ``trial-empty`` are all in the
cache; ``seconds`` is a trial's share of the time until all are run and delivered.
"""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks import quick
from benchmarks.document import Row, main
from benchmarks.servers import free_port, mlflow_server, postgresql
from benchmarks.survival import Stores
from zostudy.config.loading import StudyFile, from_document
from zostudy.study.delivery import background
from zostudy.study.report import progress, results
from zostudy.study.sweep import worker
from zostudy.study.workers import pool

_LONG, _STEP = 60.0, 2.0
_EMPTY = 10


def _file(stores: Stores, name: str, trials: int, **prune: float) -> StudyFile:
    section = {"source": "quick", "until": "genotype"} | prune
    numbers = list(range(trials))
    document = quick.study(name, prune=section, sweep={"parameters": {"prune.number": numbers}})
    document["storage"] = {"optuna": stores.optuna}
    document["tracking"] = {"uri": stores.mlflow}
    return from_document(document)


def _run(file: StudyFile) -> float:
    """Run a study with one worker; seconds until all is delivered."""
    started = time.perf_counter()
    worker.prepare(file)
    reporter = progress.reporter(Console(file=io.StringIO()))
    with background.for_study(file.config), reporter:
        done = pool.run(file, ["study"], reporter, {})
    if done.failures:
        raise RuntimeError("\n".join(done.failures))
    return time.perf_counter() - started


def rows() -> Iterator[Row]:
    """The results, as they come."""
    with TemporaryDirectory() as name, contextlib.ExitStack() as servers:
        folder = Path(name)
        database = servers.enter_context(postgresql(folder))
        port = free_port()
        servers.enter_context(mlflow_server(folder, port))
        stores = Stores(database, f"http://127.0.0.1:{port}")
        os.chdir(folder)
        _run(_file(stores, "first", _EMPTY))  # fills the cache, and starts what is started once
        seconds = _run(_file(stores, "empty", _EMPTY)) / _EMPTY
        yield Row("trial-empty", "seconds", seconds)
        file = _file(stores, "long", 1, seconds=_LONG, step=_STEP)
        seconds = _run(file)
        (trial,) = results.document(file)["trials"]
        own = _LONG + trial["metrics"]["evaluate_seconds"]
        yield Row("trial-60s", "seconds", seconds, own)
        yield Row("trial-60s", "overhead_ratio", (seconds - own) / own)
        os.chdir("/")


if __name__ == "__main__":
    main(__doc__ or "", rows)
