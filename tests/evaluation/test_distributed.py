"""Training on several processes, which must find what one process does."""

import multiprocessing
import os
import socket
from dataclasses import replace

import pytest
import torch

from tests.conftest import pictures
from tests.patience import PATIENCE
from zostudy import runtime
from zostudy.config.settings import EvaluateSettings, RuntimeSettings
from zostudy.config.training import AugmentSettings
from zostudy.errors import ConfigError
from zostudy.evaluation.training import EvaluationResult, evaluate
from zostudy.runtime import Processes
from zostudy.space.darts import darts
from zostudy.space.genotype import Genotype, from_notation
from zostudy.stage import StageContext

CELL = (
    (("sep_conv_3x3", 0), ("skip_connect", 1)),
    (("dil_conv_3x3", 0), ("max_pool_3x3", 2)),
    (("skip_connect", 0), ("avg_pool_3x3", 1)),
    (("sep_conv_5x5", 3), ("skip_connect", 2)),
)
DARTS = Genotype(darts(), {"normal": CELL, "reduction": CELL})
#: Nothing reaches the output from its first node.
TOPOLOGY = from_notation(
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
)
SETTINGS = EvaluateSettings(
    cells=2,
    channels=4,
    epochs=2,
    batch_size=32,
    drop_path=0.3,
    augment=AugmentSettings(crop_padding=1, cutout=3),
)


@pytest.fixture
def data(small_dataset):
    """Pictures of which neither the last batch nor the parts can be shared evenly."""
    return replace(
        small_dataset, train=pictures(87, 8, 1, 3, 0), validation=pictures(31, 8, 1, 3, 1)
    )


def trained(data, settings: RuntimeSettings, genotype: Genotype) -> EvaluationResult:
    with runtime.process_group(settings) as device:
        here = runtime.prepare(settings.model_copy(update={"device": device}))
        return evaluate(genotype, data, SETTINGS, StageContext(here, seed=3))


def one_of(environment: dict, results, *what) -> None:
    os.environ |= environment
    found = trained(*what)
    weights = {name: tensor.tolist() for name, tensor in found.weights.items()}
    figures = (found.test_accuracy, found.costs)
    results.put((int(environment["RANK"]), found.history, weights, figures))


def trained_by(count: int, data, settings: RuntimeSettings, genotype: Genotype) -> list[tuple]:
    """What each of so many processes finds."""
    context = multiprocessing.get_context("fork" if settings.device == "cpu" else "spawn")
    results = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        group = {
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
        }
    started = [
        context.Process(
            target=one_of,
            args=(
                group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                results,
                data,
                settings,
                genotype,
            ),
        )
        for rank in range(count)
    ]
    for process in started:
        process.start()
    found = sorted(results.get(timeout=PATIENCE) for _ in started)
    for process in started:
        process.join()
        assert process.exitcode == 0
    return found


def assert_same(alone: EvaluationResult, found: tuple, tolerance: float) -> None:
    _, history, weights, figures = found
    for mine, theirs in zip(alone.history, history, strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    assert figures == (alone.test_accuracy, alone.costs)
    for name, tensor in alone.weights.items():
        torch.testing.assert_close(
            tensor, torch.tensor(weights[name], dtype=tensor.dtype), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    "genotype",
    [
        pytest.param(DARTS, id="darts", marks=pytest.mark.slow),
        pytest.param(TOPOLOGY, id="nasbench201"),
    ],
)
@pytest.mark.usefixtures("double")
def test_two_processes_find_what_one_does(data, genotype):
    """In float64, so that what is left of a difference is the order of sums."""
    settings = RuntimeSettings(device="cpu", threads=1)
    first, second = trained_by(2, data, settings, genotype)
    assert first[1:] == second[1:]
    assert_same(trained(data, settings, genotype), first, 1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_find_what_one_does(data):
    settings = RuntimeSettings(device="cuda", threads=1)
    first, second = trained_by(2, data, settings, DARTS)
    assert first[1:] == second[1:]
    assert_same(trained(data, settings, DARTS), first, 1e-2)


def test_a_batch_that_some_process_would_have_no_part_of_is_refused(data):
    here = runtime.Runtime(torch.device("cpu"), processes=Processes(0, 24))
    with pytest.raises(ConfigError, match=r"evaluate\.batch_size: 32 leaves a batch of 23 of 87"):
        evaluate(DARTS, data, SETTINGS, StageContext(here, seed=3))


@pytest.mark.parametrize("length", [2, 7, 16, 31])
def test_shares_are_all_of_a_batch_and_differ_by_one_at_most(length):
    whole = list(range(length))
    shares = [whole[Processes(rank, 3).share(length)] for rank in range(3)]
    assert [*shares[0], *shares[1], *shares[2]] == whole
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_certain_device_cannot_be_shared(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with (
        pytest.raises(ConfigError, match=r"runtime\.device: 'cuda:0' is one device, and torchrun"),
        runtime.process_group(RuntimeSettings(device="cuda:0")),
    ):
        pass
