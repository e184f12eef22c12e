"""A whole run, with failures, in which no password is left anywhere."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.servers import Proxy

PASSWORD, VARIABLE = "hunter2-in-a-url", "hunter3-in-a-variable"

EXTENSION = """
import os
from zostudy.data.sources import Source, digits
from zostudy.registry import dataset, regularizer

@dataset("remote")
def remote(*, url: str) -> Source:
    return digits()

@regularizer("failing")
def failing(alpha, mask, epoch, epochs):
    if alpha.device.type == "meta":
        return alpha.mean()
    password = os.environ["MLFLOW_TRACKING_PASSWORD"]
    raise OSError("cannot open https://me:HIDDEN@host/x with " + password)
""".replace("HIDDEN", PASSWORD)

SMALL = {"cells": 1, "channels": 1}


def study(folder, **settings):
    document = {
        "study": "s",
        "extensions": ["remote"],
        "dataset": {"name": "remote", "url": f"https://me:{PASSWORD}@host/data?token={PASSWORD}"},
        "search_space": {"name": "nasbench201"},
        "supernet": SMALL,
        "prune": {"source": "none"},
        "search": {"epochs": 1, "warmup_epochs": 0, "batch_size": 512},
        "evaluate": SMALL | {"epochs": 1, "batch_size": 512, "auxiliary_weight": 0.0},
        "runtime": {"device": "cpu", "threads": 1},
        "sweep": {"parameters": {"search.regularizer.name": ["failing", "none"]}},
        **settings,
    }
    (folder / "remote.py").write_text(EXTENSION)
    (folder / "study.yaml").write_text(yaml.safe_dump(document))


def zostudy(folder, *arguments, code):
    """Runs a command; its output. No process of it has a password among its arguments."""
    command = [sys.executable, "-c", "from zostudy.cli import main; main()", *arguments]
    with (folder / "output.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_TRACKING_PASSWORD": VARIABLE,
                "MLFLOW_TRACKING_USERNAME": "me",
            },
            stdout=log,
            stderr=log,
        )
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    assert PASSWORD.encode() not in path.read_bytes()
            time.sleep(0.2)
    text = (folder / "output.log").read_text()
    assert process.returncode == code, text
    return text


def holding(folder):
    """Files that hold a password, but for those that were written with one."""
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in ("study.yaml", "remote.py", "remote.pyc")
        and "__pycache__" not in path.parts
        and any(word.encode() in path.read_bytes() for word in (PASSWORD, VARIABLE))
    ]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR is not set")
def test_a_study_with_failures_leaves_no_password_in_files_stores_or_output(
    tmp_path, server, postgresql
):
    own, (port, served) = tmp_path / "own", server
    own.mkdir()
    url = postgresql.replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in url
    with contextlib.closing(Proxy(port)) as proxy:
        uri = proxy.url.replace("http://", f"http://me:{PASSWORD}@")
        study(own, storage={"optuna": url}, tracking={"uri": uri})
        proxy.mode = "error"
        zostudy(own, "run", "study.yaml", code=1)
        assert holding(own) == []
        assert list(own.glob(".zostudy/journal/s/[0-9]*"))
        proxy.mode = "pass"
        zostudy(own, "doctor", "study.yaml", "--repair", code=0)
        zostudy(own, "doctor", "study.yaml", code=0)
        zostudy(own, "export", "study.yaml", "--output", "bundle", code=0)
    kept = ""
    with contextlib.closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
        for table in ("trial_user_attributes", "study_user_attributes"):
            kept += str(connection.execute(f"SELECT value_json FROM {table}").fetchall())
    output = (own / "output.log").read_text()
    assert "OSError: cannot open https://me:***@host/x with ***" in output
    assert "nothing is wrong" in output
    assert "***" in kept
    assert PASSWORD not in kept
    assert VARIABLE not in kept
    assert holding(own) == holding(served) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"storage": {"optuna": f"u:{PASSWORD}@host/x"}},
        {"storage": {"optuna": {"url": f"postgresql://u:{PASSWORD}@host/x"}}},
        {"tracking": {"uri": f"nosuch://u:{PASSWORD}@host/x"}},
    ],
)
def test_a_mistake_in_a_url_is_told_without_its_password(tmp_path, settings):
    study(tmp_path, **settings)
    output = zostudy(tmp_path, "run", "study.yaml", code=2)
    assert PASSWORD not in output
    assert "Traceback" not in output
