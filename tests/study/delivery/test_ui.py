import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks.servers import free_port
from tests.patience import PATIENCE
from tests.tracked import Tracked
from zostudy.errors import ConfigError, TrialError
from zostudy.study.delivery.mlflow_store import MlflowStore
from zostudy.study.delivery.ui import run_ui


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(folder):
    return MlflowStore(f"sqlite:///{folder}/mlflow.db", "ablation")


@pytest.fixture
def server(folder, store):
    """`zostudy ui`'s server in a process of its own, on the module's store."""
    port = free_port()
    code = "import sys\nfrom zostudy.study.delivery.ui import run_ui\n"
    code += "sys.exit(run_ui(sys.argv[1], int(sys.argv[2])))"
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", code, store.uri, str(port)],
        cwd=folder,  # where MLflow keeps the artifacts that it is sent
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(int(10 * PATIENCE)):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                break
        except OSError:
            time.sleep(0.1)
    else:
        process.kill()
        pytest.fail((folder / "server.log").read_text())
    yield process, url
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    log.close()


@pytest.mark.slow
def test_runs_are_kept_over_http_and_the_page_ends_on_an_interrupt(
    server, store, folder, tmp_path, capfd
):
    process, url = server
    assert MlflowStore(url, "ablation").experiment_id == store.experiment_id
    other = Tracked(folder, url, "made over http")
    with pytest.raises(TrialError), other.trial("t", "e1", {"p": "", "q": 1}, {"t": "u"}) as run:
        raise TrialError("no")
    with other.trial("t", "e1", {"q": 2}) as again, again.child("c", "e1c", {}, {}) as child:
        again.metrics({"a": float("nan"), "b": 2.0}, step=3)
        again.json([1], "x.json")
        again.figure(Figure(figsize=(1, 1)), "x.png")
        again.dataset("digits", "d", "training", {})
    assert again.mlflow_id == run.mlflow_id
    kept = other.get(run)
    assert kept.info.status == other.status(child) == "FINISHED"
    assert kept.data.params == {"p": "", "q": "1"}
    assert kept.data.metrics["b"] == 2.0
    assert other.artifacts(run) == ["x.json", "x.png"]
    assert capfd.readouterr() == ("", "")
    kept_json = other.client.download_artifacts(run.mlflow_id, "x.json", tmp_path)
    assert json.loads(Path(kept_json).read_text()) == [1]

    with pytest.raises(ConfigError, match=r"--port: \d+ is not free"):
        run_ui(store.uri, int(url.rsplit(":", 1)[1]))
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    with pytest.raises(ConfigError, match="cannot be reached"):
        MlflowStore(url, "ablation")


def test_a_server_needs_no_page_of_its_own():
    with pytest.raises(ConfigError, match=r"'http://a:\*\*\*@host' is a server already"):
        run_ui("http://a:b@host", 1)
