"""Workers on a cluster, as the command line starts and shows them."""

import json

import pytest

from tests.cli.stand_in import SMALLER

pytestmark = pytest.mark.usefixtures("no_engine")

SERVERS = (
    "--set=storage.optuna=postgresql+psycopg://zostudy@db/optuna",
    "--set=tracking.uri=http://mlflow:5000",
)


@pytest.fixture
def study(study):
    study.write_text(SMALLER)
    return study


def test_a_cluster_is_asked_for_the_memory_of_the_plan(zostudy, study, tmp_path):
    planned = json.loads(zostudy("plan", study, "--json")[1])["configurations"]
    largest = max(phase["peak_bytes"] for c in planned for phase in c["phases"].values())
    run = ("run", study, *SERVERS, "--on", "slurm", "--dry-run", "--workers", "5")
    code, out, err = zostudy(*run, "--device", "cpu", "--skip-check")
    assert (code, err) == (0, "")
    (memory,) = (line for line in out.split("\n") if line.startswith("#SBATCH --mem="))
    assert 3 * 1024 + largest / 2**20 <= int(memory[14:-1]) <= 3 * 1024 + largest / 2**20 + 10
    assert "#SBATCH --array=0-4\n" in out
    arguments = " ".join([*SERVERS, "--device=cpu", "--skip-check"])
    assert f"-m zostudy worker {study} {arguments} &\n" in out
    assert not [path for path in tmp_path.iterdir() if path != study]


def test_what_makes_no_sense_on_a_cluster_is_refused(zostudy, study):
    code, _, err = zostudy("run", study, "--on", "slurm")
    assert (code, err.startswith("error: storage.optuna: ")) == (2, True)
    code, _, err = zostudy("run", study, "--on", "slurm", "--renew")
    assert (code, err.startswith("error: --renew: ")) == (2, True)
    code, _, err = zostudy("run", study, "--dry-run")
    assert (code, err.startswith("error: --dry-run: ")) == (2, True)
    code, _, err = zostudy("run", study, "--on", "lsf")
    allowed = "error: --on: unknown engine 'lsf'; allowed: local, slurm, kubernetes\n"
    assert (code, err) == (2, allowed)


def test_workers_are_shown(zostudy, study):
    code, out, _ = zostudy("workers", study)
    assert (code, out) == (0, "study 'small': no worker runs a trial now\n")
    code, out, _ = zostudy("workers", study, "--json")
    assert json.loads(out) == {"study": "small", "workers": []}
