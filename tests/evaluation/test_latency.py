"""Latencies: measured, of a table, learned from a few architectures."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from zostudy.config.latency import LatencySettings
from zostudy.errors import DataError
from zostudy.evaluation.latency import known, measured
from zostudy.predictors.encodings import live_edges
from zostudy.predictors.latency import LatencyModel, _Candidate
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

SPACE = search_space("nasbench201")
CELLS = list(itertools.islice(enumeration.genotypes(OperationMask.full(SPACE)), 0, 15_625, 97))
COSTS = {"nor_conv_1x1": 1.0, "nor_conv_3x3": 3.0, "avg_pool_3x3": 0.5}


def all_run(genotype):
    return 2 + sum(COSTS.get(name, 0) for *_, name in genotype.operations())


def live_run(genotype):
    edges = live_edges(genotype, SPACE.cell_types[0])
    return 2 + sum(COSTS.get(edge.operation, 0) for edge in edges)


@pytest.mark.parametrize("device", [all_run, live_run])
def test_a_device_that_adds_up_operations_is_learned_from_30_cells(device):
    cells = [CELLS[i] for i in np.random.default_rng(0).permutation(len(CELLS))]
    truth = np.array([device(cell) for cell in cells])
    model = LatencyModel.fit(cells[:30], truth[:30])
    assert model.reading == ("all" if device is all_run else "live")
    assert np.median(np.abs(model(cells[30:]) / truth[30:] - 1)) < 0.03
    assert min(model.weights.values()) >= 0


def of_the_covariance(candidate, aims):
    """The evidence with the covariance of the architectures written out."""
    covariance = candidate.design @ candidate.design.T + np.eye(len(aims))
    variance = aims @ np.linalg.solve(covariance, aims) / len(aims)
    return -(len(aims) * np.log(variance) + np.linalg.slogdet(covariance).logabsdet) / 2


@pytest.mark.parametrize("count", [5, 160])
def test_the_evidence_is_that_of_the_covariance_written_out(count):
    aims = np.array([live_run(cell) for cell in CELLS[:count]]) / 5
    for candidate in _Candidate.of(CELLS[:count], "used", 1 / (aims + 0.5)):
        assert candidate.evidence(aims) == pytest.approx(of_the_covariance(candidate, aims))


def test_what_learning_takes_in_memory_does_not_grow_with_the_square_of_the_table():
    cells = list(itertools.islice(enumeration.genotypes(OperationMask.full(SPACE)), 4000))
    aims = np.array([live_run(cell) for cell in cells])
    *_, candidate = _Candidate.of(cells, "live", np.ones(len(cells)))
    tracemalloc.start()
    candidate.evidence(aims)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * candidate.design.nbytes < 8 * len(cells) ** 2 / 10


def file(tmp_path, rows):
    path = tmp_path / "latency.csv"
    text = "".join(f"{cell.to_notation()},{value}\n" for cell, value in rows)
    path.write_text(f"ArchitectureString,ms\n{text}", encoding="utf-8")
    return str(path)


def test_a_device_is_read_from_a_file(tmp_path):
    path = file(tmp_path, [(cell, all_run(cell)) for cell in CELLS if cell != CELLS[1]])
    found = known(LatencySettings(by="predictor", path=path, column="ms"), SPACE)
    assert found.of(CELLS[3]) == all_run(CELLS[3])  # it was measured
    assert found.of(CELLS[1]) == pytest.approx(all_run(CELLS[1]), rel=0.02)
    with pytest.raises(DataError, match="a row is missing: holds 161 of the 15,625"):
        known(LatencySettings(by="table", path=path, column="ms"), SPACE)


def test_what_is_no_latency_is_named_with_its_line(tmp_path):
    path = file(tmp_path, [(CELLS[0], 1.0), (CELLS[1], -1)])
    with pytest.raises(DataError, match=r":3: ms '-1' is not allowed; allowed: milliseconds above"):
        known(LatencySettings(by="predictor", path=path, column="ms"), SPACE)
    path = file(tmp_path, [(CELLS[0], 1.0)])
    with pytest.raises(DataError, match="1 architectures are too few to learn a device from"):
        known(LatencySettings(by="predictor", path=path, column="ms"), SPACE)


@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_a_network_is_measured_for_each_batch_size_and_threads_are_as_before(runtime):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    threads = torch.get_num_threads()
    settings = LatencySettings(by="measured", batch_sizes=(1, 4), runs=3, warmup=1, runtime=runtime)
    told = []
    found = measured(network, (1, 8, 8), settings, told.append)
    assert list(found) == [1, 4]
    assert [(one.phase, one.done, one.total) for one in told] == [
        ("latency", i, 2) for i in range(3)
    ]
    assert told[2].metrics["median_ms_batch_4"] == found[4][0]
    assert all(0 < median <= high for median, high in found.values())
    assert torch.get_num_threads() == threads
    assert network.training
