import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from zostudy.study.disk import locks

HOLDER = """
import sys, time
from pathlib import Path
from zostudy.study.disk import locks
with locks.held(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock until it is told to end."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "new" / "a.lock"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_waits_is_told_who_holds_the_lock_and_gets_it_when_it_is_released(tmp_path, holder):
    told = []

    def waiting(name):
        told.append(name)
        if len(told) == 1:
            holder.stdin.write("\n")
            holder.stdin.flush()

    with locks.held(tmp_path / "new" / "a.lock", waiting):
        text = (tmp_path / "new" / "a.lock").read_text()
        assert text.startswith(f"process {os.getpid()} on ")
    assert told[0].startswith(f"process {holder.pid} on ")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_attempt_does_not_wait(tmp_path, holder):
    path = tmp_path / "new" / "a.lock"
    with locks.attempt(path) as held:
        assert not held
    assert path.exists()
    holder.kill()
    holder.wait()
    with locks.attempt(path) as held:
        assert held
    assert not path.exists()


def test_an_exception_releases_the_lock(tmp_path):
    path = tmp_path / "a.lock"
    with pytest.raises(KeyboardInterrupt), locks.held(path, print):
        raise KeyboardInterrupt
    with locks.attempt(path) as held:
        assert held


def test_a_wait_can_be_interrupted(tmp_path, holder):
    def waiting(_):
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        locks.held(tmp_path / "new" / "a.lock", waiting),
    ):
        pass
    assert holder.poll() is None


def count_up(folder, times):
    for _ in range(times):
        with locks.held(folder / "a.lock", lambda _: None):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_a_lock_that_comes_and_goes_is_never_held_twice(tmp_path, monkeypatch):
    """The file is removed and made again all the time; nobody holds one that is gone."""
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.0)
    (tmp_path / "number").write_text("0")
    threads = [threading.Thread(target=count_up, args=(tmp_path, 100)) for _ in range(3)]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=count_up, args=(tmp_path, 5))
    for worker in (*threads, process):
        worker.start()
    for worker in (*threads, process):
        worker.join()
    assert (tmp_path / "number").read_text() == "305"
