"""Phases that processes compute together, and `evaluate` under torchrun."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest
import torch
import yaml
from mlflow import MlflowClient
from torch import distributed as dist

from tests.checkpoints import MemoryCheckpoint
from tests.patience import PATIENCE
from zostudy.config.settings import RuntimeSettings
from zostudy.runtime import prepare, process_group
from zostudy.stage import StageContext
from zostudy.study.trial import collective
from zostudy.study.trial.phases import Computed, Phase


def summing(stage: StageContext) -> Computed:
    """Adds up what all processes know, from where the first one's checkpoint left off."""
    state = stage.checkpoint.load() or {"sum": torch.zeros(1)}
    total = state["sum"] + torch.tensor([float(stage.runtime.processes.rank + 1)])
    dist.all_reduce(total)
    stage.checkpoint.save({"sum": total})
    return Computed({"sum": total.item()})


def take_part(environment: dict, results) -> None:
    os.environ |= environment
    settings = RuntimeSettings(device="cpu", threads=1)
    with process_group(settings):
        here = prepare(settings)
        checkpoint = MemoryCheckpoint()
        phase = Phase(
            "evaluate", "a" * 64, "a" * 64, False, {}, summing, lambda: 0, dict, lambda *_: None
        )
        if here.processes.rank:
            collective.follow(phase, StageContext(here, 0))
            found = None
        else:
            together = collective.led(phase, here.processes)
            stage = StageContext(here, 0, checkpoint)
            found = [together.compute(stage).values["sum"] for _ in range(2)]
            collective.dismiss(here.processes)
        results.put((here.processes.rank, found, checkpoint.state is not None))


def test_the_first_process_leads_and_alone_keeps_a_checkpoint_that_all_go_on_from():
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    results = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        place |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(context.Process(target=take_part, args=(place, results)))
        started[-1].start()
    found = sorted(results.get(timeout=PATIENCE) for _ in started)
    for process in started:
        process.join()
        assert process.exitcode == 0
    assert found == [(0, [3.0, 9.0], True), (1, None, False)]


CELL = [[["sep_conv_3x3", 0], ["skip_connect", 1]] for _ in range(4)]
STUDY = {
    "study": "tiny",
    "evaluate": {"cells": 2, "channels": 2, "epochs": 1, "batch_size": 128},
    "runtime": {"threads": 1, "device": "cpu"},
}


@pytest.mark.slow
def test_evaluate_under_torchrun_is_one_run_of_mlflow_and_found_when_it_is_asked_again(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    genotype = {"search_space": "darts", "cells": {"normal": CELL, "reduction": CELL}}
    (tmp_path / "genotype.json").write_text(json.dumps(genotype))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("-m", "zostudy", "evaluate", "study.yaml", "genotype.json", "--json"),
    ]
    documents = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(done.stdout))
    assert documents[0] == documents[1]
    assert "evaluate 1/1" not in done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["evaluate", "genotype"]
