"""Workers that are killed: 200 quick trials, 4 workers on PostgreSQL and an MLflow server.

Every 10 s a worker is killed with SIGKILL and replaced, 10 times; then one undisturbed worker runs
the same study. About 10 minutes on two cores.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks import quick
from benchmarks.document import Row, main
from benchmarks.servers import free_port, mlflow_server, postgresql

#: What must be equal; times are not.
SAME = ("validation_accuracy", "test_accuracy", "parameters", "macs")

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stores:
    """Where workers meet.

    Attributes:
        optuna: URL of Optuna's storage.
        mlflow: URL of MLflow's.
    """

    optuna: str
    mlflow: str


@dataclass(frozen=True)
class Trial:
    """A study of quick trials, and the workers that run it.

    Attributes:
        folder: Its folder.
        stores: Where its workers meet.
    """

    folder: Path
    stores: Stores

    def write(self, name: str, trials: int, seconds: float) -> None:
        """Write its study file.

        Args:
            name: Of the study.
            trials: How many trials it has.
            seconds: How long each works.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        prune = {"source": "quick", "until": "genotype", "seconds": seconds, "log": "log"}
        numbers = {"low": 0, "high": trials - 1, "step": 1}
        sweep = {"parameters": {"prune.number": numbers}, "heartbeat_interval": 5, "retries": 10}
        document = quick.study(name, prune=prune, sweep=sweep)
        (self.folder / "study.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        """The command line with arguments."""
        return [sys.executable, "-c", "from zostudy.cli import main; main()", *arguments]

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        arguments = ["worker", "study.yaml", "--storage", self.stores.optuna]
        arguments += ["--tracking-uri", self.stores.mlflow]
        with (self.folder / "workers.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments), cwd=self.folder, stderr=log, env=self.environment
            )

    def results(self) -> dict[str, Any]:
        """What came of it."""
        setting = f"storage.optuna={self.stores.optuna}"
        done = subprocess.run(
            self.command("results", "study.yaml", "--json", "--set", setting),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def steps(self) -> list[list[int]]:
        """Number, seed, step and process of every step of work that was done."""
        path = self.folder / "log"
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return [[int(word) for word in line.split()] for line in lines]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its workers."""
        return os.environ | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}


def disturb(study: Trial, workers: int, kills: int, every: float) -> list[int]:
    """Run a study while workers are killed and replaced.

    Args:
        study: The study.
        workers: How many run at a time.
        kills: How many are killed.
        every: Seconds between two.

    Returns:
        The process ids of the killed ones.
    """
    running = [study.start() for _ in range(workers)]
    killed: list[int] = []
    try:
        while len(killed) < kills and any(worker.poll() is None for worker in running):
            time.sleep(every)
            worker = running.pop(0)
            worker.kill()
            worker.wait()
            killed.append(worker.pid)
            running.append(study.start())
        for worker in running:
            worker.wait()
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
    return killed


def essence(document: dict[str, Any]) -> list[object]:
    """What must be equal of two studies' results."""
    return [
        (t["number"], t["params"], t["seed"], t["genotype"], [t["metrics"][m] for m in SAME])
        for t in document["trials"]
        if t["state"] == "complete"
    ]


def still_running(uri: str, experiment: str) -> int:
    """Runs that MLflow has as running."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return 0
    return len(client.search_runs([found.experiment_id], "attributes.status = 'RUNNING'"))


def repeated(steps: Sequence[Sequence[int]]) -> int:
    """How often a step of work was done once more."""
    counted = Counter(tuple(step[:3]) for step in steps)
    return sum(count - 1 for count in counted.values())


_TRIALS, _WORKERS, _KILLS, _EVERY, _SECONDS = 200, 4, 10, 10.0, 0.5


def rows() -> Iterator[Row]:
    """The results, as they come."""
    with TemporaryDirectory() as name, contextlib.ExitStack() as servers:
        folder = Path(name)
        database = servers.enter_context(postgresql(folder))
        port = free_port()
        servers.enter_context(mlflow_server(folder, port))
        stores = Stores(database, f"http://127.0.0.1:{port}")
        study, plain = (Trial(folder / which, stores) for which in ("disturbed", "plain"))
        for trial in (study, plain):
            trial.write(trial.folder.name, _TRIALS, _SECONDS)
        started = time.perf_counter()
        killed = disturb(study, _WORKERS, _KILLS, _EVERY)
        seconds = time.perf_counter() - started
        if plain.start().wait() != 0:
            raise RuntimeError("the undisturbed study did not end well")
        found, expected = essence(study.results()), essence(plain.results())
        yield Row("disturbed", "workers_killed", len(killed))
        yield Row("disturbed", "seconds", seconds)
        yield Row("disturbed", "trials_complete", len(found), _TRIALS)
        yield Row("disturbed", "steps_done_again", repeated(study.steps()))
        yield Row("disturbed", "trials_equal", sum(t in expected for t in found), _TRIALS)
        running = still_running(stores.mlflow, "disturbed")
        yield Row("disturbed", "mlflow_runs_running", running)


if __name__ == "__main__":
    main(__doc__ or "", rows)
