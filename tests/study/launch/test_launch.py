"""What clusters are told; their own programs are stood in for by scripts."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.patience import PATIENCE, wait_for
from zostudy.config.loading import from_document
from zostudy.errors import ConfigError, ZostudyError
from zostudy.study.launch import engines, job, kubernetes, slurm
from zostudy.study.planning.plan import Configuration, PhasePlan, Plan

STORAGE = "postgresql+psycopg://zostudy@db/optuna"
CLUSTER = {"workers": 8, "gpus": 1, "memory": "16GiB", "time": "12h", "partition": "gpu"}
IMAGE = {"image": "ghcr.io/x/zostudy:1", "volume": "shared", "secret": "passwords"}


def plan():
    phases = {"search": PhasePlan(5 * 2**30, 1.0, 1, exact=True)}
    return Plan((Configuration(None, phases),))


def asked(*arguments, workers=None, study="s", **changes):
    document = {
        "study": study,
        "storage": {"optuna": STORAGE},
        "tracking": {"uri": "http://mlflow:5000"},
        "cluster": CLUSTER | IMAGE,
        "runtime": {"threads": 4},
    }
    file = from_document(document | changes)
    return job.job(file, Path("study.yaml"), arguments, workers, plan)


def options(script):
    lines = [line.removeprefix("#SBATCH --") for line in script.split("\n") if "#SBATCH" in line]
    return dict(line.partition("=")[::2] for line in lines)


def test_a_script_asks_for_what_the_study_file_says():
    found = options(slurm.script(asked()))
    assert found == {
        "job-name": "zostudy-s",
        "array": "0-7",
        "ntasks": "1",
        "cpus-per-task": "4",
        "mem": f"{16 * 1024}M",
        "gres": "gpu:1",
        "time": "12:00:00",
        "signal": "B:USR1@120",
        "partition": "gpu",
        "open-mode": "append",
        "output": "zostudy-s-%A_%a.log",
        "requeue": "",
    }
    plain = options(slurm.script(asked(workers=3, cluster={})))
    assert plain["array"] == "0-2"
    assert plain["mem"] == f"{(5 + 3) * 1024}M"  # by the plan, and what is beside a trial's tensors
    assert not {"gres", "time", "partition"} & set(plain)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs of a cluster that write what they are told; the worker runs until it is stopped."""

    def program(name, text):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    program("scontrol", f'echo "$*" >> {tmp_path}/scontrol.log')
    program(
        "python",
        f'trap "echo given back >> {tmp_path}/worker.log; exit 143" TERM\n'
        f'echo "$*" >> {tmp_path}/worker.log\nwhile true; do sleep 0.05; done',
    )
    monkeypatch.setattr(slurm.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("told", "code", "queued"), [(signal.SIGUSR1, 0, "requeue 7_3\n"), (signal.SIGTERM, 143, "")]
)
def test_a_worker_gives_its_trial_back_at_the_end_of_its_time_and_is_queued_again(
    tmp_path, told, code, queued
):
    script = slurm.script(asked("--set=search.epochs=3"))
    (tmp_path / "job.sh").write_text(script)
    slot = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    process = subprocess.Popen(["bash", tmp_path / "job.sh"], env=os.environ | slot)
    log = tmp_path / "worker.log"
    wait_for(log.exists)
    wait_for(log.read_text)
    process.send_signal(told)
    assert process.wait(PATIENCE) == code
    command, given_back = log.read_text().splitlines()
    assert command.startswith("-m zostudy worker /")
    assert command.endswith("/study.yaml --set=search.epochs=3")
    assert given_back == "given back"
    assert (tmp_path / "scontrol.log").exists() == bool(queued)
    if queued:
        assert (tmp_path / "scontrol.log").read_text() == queued


def test_a_job_ends_as_its_worker_does(programs, tmp_path):
    programs("python", "exit 1")
    (tmp_path / "job.sh").write_text(slurm.script(asked()))
    assert subprocess.run(["bash", tmp_path / "job.sh"], check=False).returncode == 1


def test_a_manifest_is_valid_by_the_published_schema():
    validator = pytest.importorskip("kubernetes_validate")
    plain = asked(study="A_b", cluster={"image": "zostudy"})
    for text in (kubernetes.manifest(asked()), kubernetes.manifest(plain)):
        for document in yaml.safe_load_all(text):
            validator.validate(document, "1.31", strict=True)


def test_a_manifest_asks_for_what_the_study_file_says():
    study, workers = yaml.safe_load_all(kubernetes.manifest(asked("--device=cuda", workers=3)))
    held = from_document(yaml.safe_load(study["data"]["study.yaml"]))
    assert held.config.cluster.workers == 8
    spec = workers["spec"]
    assert (spec["completions"], spec["parallelism"]) == (3, 3)
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["zostudy", "worker", "/etc/zostudy/study.yaml", "--device=cuda"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "16384Mi"},
        "limits": {"memory": "16384Mi", "nvidia.com/gpu": 1},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "passwords"}}]
    volumes = spec["template"]["spec"]["volumes"]
    assert volumes[1]["persistentVolumeClaim"] == {"claimName": "shared"}
    with pytest.raises(ConfigError, match=r"^cluster\.image: is missing; --on kubernetes needs"):
        kubernetes.manifest(asked(cluster=CLUSTER))


def test_names_are_those_that_every_engine_takes():
    assert asked(study="s-1").name == "zostudy-s-1"
    names = {asked(study=name).name for name in ("s.1", "S-1", "s_1", "s" * 90)}
    assert len(names) == 4
    assert all(len(name) <= 63 for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": {}}, r"^storage\.optuna: 'sqlite:///optuna\.db' is a file of one machine"),
        (
            {"storage": {"optuna": "sqlite+pysqlite:///optuna.db"}},
            r"^storage\.optuna: 'sqlite\+pysqlite:///optuna\.db' is a file of one machine",
        ),
        ({"tracking": {}}, r"^tracking\.uri: 'sqlite:///mlflow\.db' is a file of one machine"),
        (
            {"storage": {"optuna": "postgresql+psycopg://zostudy:hush@db/optuna"}},
            r"^cluster: an address holds a password.*PGPASSWORD",
        ),
        ({"cluster": {"worker": 8}}, r"^cluster\.worker: unknown key; did you mean 'workers'\?"),
        ({"cluster": {"memory": "lots"}}, r"^cluster\.memory: 'lots' is no size; allowed: plan"),
        ({"cluster": {"time": "1m"}}, r"^cluster\.time: '1m' is too short; needs 10m or more"),
        ({"cluster": {"partition": "a b"}}, r"^cluster\.partition: 'a b'"),
        ({"sweep": {"parameters": {"cluster.gpus": [0, 1]}}}, r"cluster\.gpus: cannot be swept"),
    ],
)
def test_what_cannot_be_run_on_a_cluster_is_refused_in_one_line(monkeypatch, changes, message):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=message) as refused:
        asked(**changes)
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)


def test_the_cluster_is_told_and_what_it_answers_is_said(programs, tmp_path):
    slurm_engine = engines.engine("slurm")
    if shutil.which("sbatch") is None:
        with pytest.raises(ConfigError, match=r"^--on slurm: the command 'sbatch' is not here"):
            slurm_engine.submit(asked())
    programs("sbatch", f"cat > {tmp_path}/told; echo Submitted batch job 12")
    assert slurm_engine.submit(asked()) == "Submitted batch job 12"
    assert (tmp_path / "told").read_text() == slurm.script(asked())
    programs("sbatch", "echo 'invalid partition specified: gpu' >&2; echo 'failed' >&2; exit 1")
    with pytest.raises(ZostudyError, match=r"sbatch refuses: invalid partition.*gpu; failed$"):
        slurm_engine.submit(asked())
    with pytest.raises(ConfigError, match=r"^--on: unknown engine 'slrum'; did you mean 'slurm'"):
        engines.engine("slrum")
