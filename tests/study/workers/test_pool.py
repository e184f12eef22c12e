"""Real workers, real signals, a real PostgreSQL."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.survival import Stores, Trial, essence, repeated, still_running
from tests.patience import PATIENCE, wait_for
from zostudy.config.loading import load
from zostudy.study.report import results
from zostudy.study.sweep import worker
from zostudy.study.trial.trial import Trials


@pytest.fixture
def stores(tmp_path, postgresql):
    return Stores(postgresql, f"sqlite:///{tmp_path}/mlflow.db")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def begun(study: Trial) -> set[int]:
    return {step[0] for step in study.steps()}


def undisturbed(folder: Path, monkeypatch) -> dict:
    """The results of the same study in this process."""
    monkeypatch.chdir(folder)
    changes = ("study=plain", "storage.folder=plain", "prune.seconds=0.0", "prune.log=''")
    file = load(folder / "study.yaml", changes)
    worker.run(file, Trials(file, lambda _: None), lambda _: None)
    return results.document(file)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_what_killed_and_stopped_workers_leave_is_taken_up_and_found_as_if_nothing_had_been(
    stores, tmp_path, monkeypatch
):
    study = Trial(tmp_path, stores)
    study.write("disturbed", trials=4, seconds=2.0)
    first = study.start()
    wait_for(lambda: len(study.steps()) >= 5, first)
    second = study.start()
    (trial,) = {step[3] for step in study.steps()}
    first.kill()
    first.wait()
    wait_for(lambda: not alive(trial))

    wait_for(lambda: len(study.steps()) >= 25, second)
    third = study.start()
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=PATIENCE) == 143
    assert third.wait(timeout=PATIENCE) == 0

    steps = study.steps()
    assert repeated(steps) <= 2  # the one that each of the two had begun
    assert begun(study) == {0, 1, 2, 3}
    found = study.results()
    assert [t["number"] for t in found["trials"]] == [0, 1, 2, 3]
    assert [t["state"] for t in found["trials"]] == ["complete"] * 4
    assert essence(found) == essence(undisturbed(tmp_path, monkeypatch))
    assert still_running(stores.mlflow, "disturbed") == 0


@pytest.mark.slow
@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_stops_all_workers_of_a_run_and_twice_at_once(tmp_path, twice):
    study = Trial(tmp_path, Stores(f"sqlite:///{tmp_path}/optuna.db", "unused"))
    study.write("s", trials=4, seconds=1e5)  # without end
    run = subprocess.Popen(
        study.command("run", "study.yaml", "--workers", "2"),
        cwd=tmp_path,
        env=study.environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        wait_for(lambda: len(begun(study)) == 2, run)  # whichever two come first
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        if twice:
            time.sleep(0.05)
            run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # a test that fails leaves none that runs on
    assert run.returncode == 130
    assert err.endswith("stopped; run the same command to continue\n")
    assert "Traceback" not in err
    wait_for(lambda: not any(alive(step[3]) for step in study.steps()))
    if not twice:
        states = [t["state"] for t in study.results()["trials"]]
        assert states == []
