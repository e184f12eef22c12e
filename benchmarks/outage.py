"""A study while MLflow's server is away for a minute: how long it takes, and what MLflow then has.

The same study is run three times against a server of its own: undisturbed, with the server killed
in the middle and started again after a minute, and without any server. Seconds are those of
`zostudy run`, of a computer that does nothing else; the figures in MLflow are compared, one by one,
with the histories in the study's cache. Before that, the seconds that a trial gives to the report
of an epoch, by what becomes of the server.
"""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from benchmarks.document import Row, main, median_seconds
from benchmarks.servers import free_port, mlflow_server
from zostudy.study.delivery.background import Delivery
from zostudy.study.tracking.runs import Tracker

#: Seconds from the start of the study to the end of the server, and from there to its return.
_BEFORE, _AWAY = 25.0, 60.0

_SMALL = {"cells": 1, "channels": 2}
STUDY: dict[str, Any] = {
    "study": "outage",
    "search_space": {"name": "nasbench201"},
    "supernet": _SMALL,
    "prune": {"source": "random"},
    "search": {"epochs": 12, "warmup_epochs": 2, "batch_size": 128},
    "evaluate": _SMALL | {"epochs": 12, "batch_size": 128, "auxiliary_weight": 0.0},
    "runtime": {"device": "cpu", "threads": 1},
    "sweep": {"parameters": {"prune.xi": [0.3, 0.6]}, "seeds": [0, 1, 2, 3]},
}


def rows() -> Iterator[Row]:
    """Seconds of the three studies, and the figures that MLflow lacks or has twice."""
    yield from _reports()
    seconds = {}
    for case, away in (("undisturbed", None), ("server-away-60s", _AWAY)):
        with tempfile.TemporaryDirectory() as name:
            folder, port = Path(name), free_port()
            with _server(folder, port, away):
                seconds[case] = _run(folder, port)
                expected, found = _figures(folder, port)
        missing, twice = expected - found, found - expected
        yield Row(case, "figures", float(expected.total()))
        yield Row(case, "figures_missing", float(missing.total()), 0.0)
        yield Row(case, "figures_twice_or_wrong", float(twice.total()), 0.0)
        yield Row(case, "seconds", seconds[case], seconds["undisturbed"])
    with tempfile.TemporaryDirectory() as name:
        yield Row("no-server", "seconds", _run(Path(name), free_port()), seconds["undisturbed"])


def _reports() -> Iterator[Row]:
    """Seconds of one report, while a thread delivers, in turns."""
    with (
        contextlib.ExitStack() as stack,
        tempfile.TemporaryDirectory() as name,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        folder, port = Path(name), free_port()
        stack.enter_context(mlflow_server(folder, port))
        ports = {"answers": port, "refuses": free_port(), "silent": silent.getsockname()[1]}
        calls: dict[str, Callable[[], object]] = {"no-thread": _report(stack, folder, 1)}
        for case, used in ports.items():
            stack.enter_context(Delivery(folder / str(used), _uri(used), "report"))
            calls[case] = _report(stack, folder, used)
        times = median_seconds(calls, 1000)
    for case, seconds in times.items():
        yield Row(f"report-server-{case}", "seconds", seconds, times["no-thread"])


def _report(stack: contextlib.ExitStack, folder: Path, port: int) -> Callable[[], object]:
    """What an epoch calls, in a trial that lasts as long as the stack."""
    tracker = Tracker(folder / str(port), _uri(port), "report")
    run = stack.enter_context(tracker.trial("trial", "00", {}, {}))
    steps = itertools.count(1)
    figures = {"train_loss": 0.5, "train_accuracy": 50.0, "learning_rate": 0.1}
    return lambda: run.metrics(figures, step=next(steps))


def _uri(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _server(folder: Path, port: int, away: float | None) -> Iterator[None]:
    """A server that is killed and started again while the context lasts, if it is to be."""
    with contextlib.ExitStack() as first:
        first.enter_context(mlflow_server(folder, port))
        if away is None:
            yield
            return
        over = threading.Event()

        def interrupt() -> None:
            if not over.wait(_BEFORE):
                first.close()
                print(f"server killed at {time.strftime('%X')}", file=sys.stderr)
                time.sleep(away)
                with mlflow_server(folder, port):
                    print(f"server back at {time.strftime('%X')}", file=sys.stderr)
                    over.wait()

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _run(folder: Path, port: int) -> float:
    """Run the study; the seconds that it takes."""
    document = STUDY | {"tracking": {"uri": _uri(port)}}
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    command = [sys.executable, "-c", "from zostudy.cli import main; main()", "run", "study.yaml"]
    with (folder / "output.log").open("w") as log:
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False)
        taken = time.perf_counter() - started
    text = (folder / "output.log").read_text()
    for line in text.splitlines():
        if "tracking" in line:
            print(line, file=sys.stderr)
    if done.returncode:
        raise RuntimeError(text)
    return taken


def _figures(folder: Path, port: int) -> tuple[Counter[Any], Counter[Any]]:
    """Figures of epochs, by key, name, step and value: of the cache, and of MLflow."""
    client = MlflowClient(_uri(port))
    experiment = client.get_experiment_by_name(STUDY["study"])
    if experiment is None:
        raise RuntimeError("the study is not in MLflow")
    expected, found = Counter[Any](), Counter[Any]()
    runs = client.search_runs([experiment.experiment_id], max_results=10_000)
    keys = [(run.data.tags.get("mlflow.parentRunId"), run.data.tags["zostudy.key"]) for run in runs]
    if len(set(keys)) != len(keys) or any(run.info.status != "FINISHED" for run in runs):
        raise RuntimeError("a run is there twice, or not FINISHED")
    for run in runs:
        key = run.data.tags["zostudy.key"]
        path = next((folder / ".zostudy" / "cache").glob(f"*/{key}/record.json"), None)
        history = json.loads(path.read_text())["values"].get("history", []) if path else []
        for step, figures in enumerate(history, start=1):
            expected.update((key, name, step, value) for name, value in figures.items())
        for name in {name for figures in history for name in figures}:
            points = client.get_metric_history(run.info.run_id, name)
            found.update((key, name, point.step, point.value) for point in points if point.step)
    return expected, found


if __name__ == "__main__":
    main(__doc__.splitlines()[0] if __doc__ else "", rows)
