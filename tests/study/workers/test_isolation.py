import signal
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks import quick
from zostudy.config.loading import StudyFile, from_document
from zostudy.errors import CrashError, LostError, MemoryShortageError, TrialError
from zostudy.study import points
from zostudy.study.delivery import background
from zostudy.study.tracking.runs import MACHINE, REASON
from zostudy.study.trial.trial import Trials
from zostudy.study.workers import isolation
from zostudy.study.workers.isolation import TrialProcesses, loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all, because making MLflow's store takes its time."""
    return tmp_path_factory.mktemp("isolation")


@pytest.fixture
def file(folder, monkeypatch) -> StudyFile:
    """Quick trials in that folder."""
    monkeypatch.chdir(folder)
    Path("log").unlink(missing_ok=True)
    return study()


def study(**prune) -> StudyFile:
    section = {"source": "quick", "until": "genotype", "log": "log"} | prune
    return from_document(quick.study("s", prune=section))


def silent(_progress) -> None:
    """Shows nothing."""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_trial_finds_the_same_in_a_process_of_its_own_and_reports_to_the_worker(file):
    reports = []
    known: dict = {}
    point = points.first(study(seconds=0.2))
    apart = TrialProcesses(file, reports.append, known=known)(point, 3, 0)
    assert [(p.phase, p.done, p.total) for p in reports] == [
        ("prune", 1, 2),
        ("prune", 2, 2),
        ("evaluate", 1, 1),
    ]
    assert known
    here = Trials(StudyFile(file.document | {"study": "t"}, study().config), silent, known=known)
    same = here(points.first(study(seconds=0.1)), 3, 0)  # another key
    assert apart.genotype == same.genotype
    for name in ("validation_accuracy", "test_accuracy", "parameters", "macs"):
        assert apart.metrics[name] == same.metrics[name]


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        ("exit", TrialError, "its process ended with exit code 3 and without a result"),
        ("kill", LostError, r"its process was killed from outside \(SIGKILL\)"),
        ("memory", TrialError, r"prune: out of memory: .* more were asked for"),
        ("raise", TrialError, "ValueError: no good"),
        ("segfault", TrialError, r"its process crashed \(SIGSEGV: Segmentation fault\)"),
    ],
)
def test_however_a_trial_ends_the_worker_goes_on_with_the_reason(file, end, error, message):
    run = TrialProcesses(file, silent)
    with pytest.raises(error, match=message) as raised:
        run(points.first(study(seconds=0.1, end=end)), 0, 0)
    assert isinstance(raised.value, LostError) == (error is LostError)
    if end in ("exit", "segfault"):
        crash = {"exit": "exit code 3", "segfault": "SIGSEGV"}[end]
        assert (raised.value.crash, raised.value.phase) == (crash, "prune")


def test_the_run_of_a_killed_process_says_why_it_ended(file, folder):
    point = points.first(study(number=9, seconds=0.1, end="kill"))
    with pytest.raises(LostError):
        TrialProcesses(file, silent, machine="passed")(point, 0, 77)
    with background.for_study(file.config):
        pass
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [client.get_experiment_by_name("s").experiment_id]
    (found,) = client.search_runs(experiments, "tags.`zostudy.trial` = '77'")
    assert found.info.status == "FAILED"
    assert found.data.tags[MACHINE] == "passed"
    assert found.data.tags[REASON] == "its process was killed from outside (SIGKILL)"


def test_a_trial_that_is_told_to_stop_ends_at_its_last_checkpoint(file):
    point = points.first(study(seconds=1000.0))
    stop = threading.Event()
    done = []

    def report(progress):
        done.append(progress.done)
        if len(done) == 3:
            stop.set()

    with pytest.raises(KeyboardInterrupt):
        TrialProcesses(file, report, stop=stop)(point, 0, 0)
    steps = [line.split() for line in Path("log").read_text().splitlines()]
    assert len(steps) < 10_000  # all of them
    assert not alive(int(steps[0][3]))
    with pytest.raises(RuntimeError, match="seen enough"):
        TrialProcesses(file, enough)(point, 0, 0)
    again = [line.split() for line in Path("log").read_text().splitlines()][len(steps)]
    assert int(again[2]) >= done[-1]


def enough(_progress) -> None:
    raise RuntimeError("seen enough")


@pytest.mark.parametrize(
    ("code", "killed", "error", "message"),
    [
        (-signal.SIGKILL, 1, MemoryShortageError, "killed by the kernel's out-of-memory killer"),
        (-signal.SIGKILL, 0, LostError, "SIGKILL"),
        (-signal.SIGTERM, 0, LostError, "SIGTERM"),
        (-signal.SIGABRT, 1, CrashError, r"crashed \(SIGABRT: Aborted\)"),
        (255, 0, LostError, "lost with the server"),
        (3, 0, CrashError, "exit code 3"),
    ],
)
def test_how_a_process_ended_is_told_in_words(code, killed, error, message):
    told = loss(code, killed)
    assert type(told) is error
    assert message.replace("\\", "") in str(told)


def test_kills_for_want_of_memory_are_counted(tmp_path, monkeypatch):
    counter = tmp_path / "memory.events"
    monkeypatch.setattr(isolation, "_counters", lambda: [counter, tmp_path / "none"])
    assert isolation.memory_kills() == 0
    counter.write_text("oom 7\noom_kill 3\noom_group_kill 0\n")
    assert isolation.memory_kills() == 3
