import json
from dataclasses import replace

import pytest
import torch

from tests.checkpoints import MemoryCheckpoint
from zostudy.config.settings import SupernetSettings
from zostudy.errors import ArchitectureError, ConfigError
from zostudy.pruning import zero_shot
from zostudy.pruning.mask_sources import PruneContext
from zostudy.pruning.trajectory import Repeats
from zostudy.registry import components
from zostudy.runtime import Runtime
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import NoCheckpoint, StageContext, silent

SPACE = search_space("darts")


@pytest.fixture(scope="module")
def prune(small_dataset):
    def run(name, seed=0, checkpoint=None, report=silent, **options):
        stage = StageContext(
            Runtime(torch.device("cpu")), seed, checkpoint or NoCheckpoint(), report
        )
        settings = SupernetSettings(
            cells=3, channels=4, partial_channels=2, edge_normalization=True
        )
        pictures, _ = small_dataset.search_parts(0.5)
        context = PruneContext(SPACE, settings, small_dataset, pictures, stage)
        return components("mask_source")[name].load()(context, **options)

    return run


def test_none_keeps_everything(prune):
    assert prune("none").mask == OperationMask.full(SPACE)


@pytest.mark.parametrize("xi", [0.05, 0.5, 1.0])
def test_a_random_mask_keeps_about_its_share_and_always_leaves_a_genotype(prune, xi):
    counts = []
    for seed in range(30):
        result = prune("random", seed, xi=xi)
        assert not result.mask.missing_edges()
        counts.append(result.mask.count() - len(result.added))
    mean = sum(counts) / len(counts)
    empty = (1 - xi) ** 8  # such an edge keeps one operation all the same
    assert mean == pytest.approx(28 * (8 * xi + empty), rel=0.05)


def test_a_random_mask_is_fixed_by_its_seed_and_nested_in_xi(prune):
    assert prune("random", 3, xi=0.5).mask == prune("random", 3, xi=0.5).mask
    assert prune("random", 3, xi=0.5).mask != prune("random", 4, xi=0.5).mask


ZERO_SHOT = {"images": 24, "batch_size": 12, "repeats": 1}
SETTINGS = {"images": 10, "batch_size": 5, "repeats": 1, "scorer": "exact"}


@pytest.mark.parametrize("measure", ["operations", "architectures"])
def test_zero_shot_stops_at_its_level(prune, measure):
    result = prune("zero_shot", xi=0.5, measure=measure, operations_per_round=2, **ZERO_SHOT)
    before = result.mask.changed(remove=result.added)
    assert before.level(measure) <= 0.5 < result.rounds[-1].mask.level(measure)
    assert not result.mask.missing_edges()
    assert result.peak_bytes > 0


@pytest.mark.slow
def test_one_trajectory_serves_every_xi_bit_for_bit(prune):
    shared = MemoryCheckpoint()
    together = [
        prune("zero_shot", xi=xi, checkpoint=shared, operations_per_round=2, **ZERO_SHOT)
        for xi in (0.25, 0.75, 0.5)
    ]
    alone = [
        prune("zero_shot", xi=xi, operations_per_round=2, **ZERO_SHOT) for xi in (0.25, 0.75, 0.5)
    ]
    assert [r.mask for r in together] == [r.mask for r in alone]
    assert [len(r.rounds) for r in together] == [3, 1, 2]


def test_an_interrupted_prune_goes_on_and_ends_the_same(prune):
    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.done == 1:
            raise StoppedError

    checkpoint = MemoryCheckpoint()
    with pytest.raises(StoppedError):
        prune(
            "zero_shot",
            xi=0.5,
            operations_per_round=2,
            checkpoint=checkpoint,
            report=stop,
            **ZERO_SHOT,
        )
    reports = []
    resumed = prune(
        "zero_shot",
        xi=0.5,
        operations_per_round=2,
        checkpoint=checkpoint,
        report=reports.append,
        **ZERO_SHOT,
    )
    assert resumed.mask == prune("zero_shot", xi=0.5, operations_per_round=2, **ZERO_SHOT).mask
    assert [progress.done for progress in reports] == [2]


@pytest.mark.parametrize("none_operation", ["candidate", "kept", "removed"])
def test_etenas_ends_with_a_genotype_of_one_operation_an_edge(prune, none_operation):
    result = prune(
        "zero_shot",
        until="genotype",
        none_operation=none_operation,
        operations_per_round=4,
        **ZERO_SHOT,
    )
    assert result.genotype is not None
    for kind, nodes in result.genotype.cells.items():
        for target, node in zip(SPACE.targets, nodes, strict=True):
            for name, source in node:
                row = result.mask.rows[kind][SPACE.edges.index((source, target))]
                assert row[SPACE.operations.index(name)]
    if none_operation == "removed":
        assert result.mask.count() == 28
    if none_operation == "kept":
        assert all(row[0] for rows in result.mask.rows.values() for row in rows)


def test_repeats_average_over_initializations(prune):
    one = prune("zero_shot", **ZERO_SHOT | {"xi": 0.9}).rounds[0].scores
    two = prune("zero_shot", **ZERO_SHOT | {"xi": 0.9, "repeats": 2}).rounds[0].scores
    assert one != two


def test_scores_of_several_repeats_carry_their_reliability(prune):
    one = prune("zero_shot", xi=0.9, **ZERO_SHOT)
    assert one.rounds[0].errors == {}
    assert "reliability" not in one.metrics
    assert one.metrics["repeats"] == 1
    many = prune("zero_shot", **ZERO_SHOT | {"xi": 0.9, "repeats": 5})
    done = many.rounds[0]
    assert done.errors.keys() == done.scores.keys()
    assert all(error > 0 for error in done.errors.values())
    assert set(done.reliability) <= set(many.metrics)
    assert -1 <= many.metrics["reliability"] <= 1
    assert 0 <= many.metrics["pruned_again"] <= 1


@pytest.mark.slow
def test_repeats_end_when_they_are_reliable_enough(prune):
    def taken(until, at_most):
        repeats = {"until_reliability": until, "at_most": at_most}
        return prune("zero_shot", **ZERO_SHOT | {"xi": 0.9, "repeats": repeats}).rounds[0].repeats

    assert taken(0.01, 64) in (4, 8, 16)
    assert taken(0.999, 6) == 6


IN_ROUNDS = {**ZERO_SHOT, "xi": 0.5, "operations_per_round": 2, "repeats": 3}


@pytest.fixture(scope="module")
def whole(prune):
    """Two rounds of three samples each."""
    return prune("zero_shot", **IN_ROUNDS)


@pytest.mark.parametrize(
    "stopped_after", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 5))]
)
def test_a_prune_that_is_interrupted_in_a_round_takes_its_samples_up_again(
    prune, whole, stopped_after
):
    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.done == stopped_after:
            raise StoppedError

    checkpoint = MemoryCheckpoint()
    with pytest.raises(StoppedError):
        prune("zero_shot", checkpoint=checkpoint, report=stop, **IN_ROUNDS)
    reports = []
    resumed = prune("zero_shot", checkpoint=checkpoint, report=reports.append, **IN_ROUNDS)
    assert [progress.done for progress in reports] == list(range(stopped_after + 1, 7))
    assert {progress.total for progress in reports} == {6}
    assert resumed.mask == whole.mask
    assert [done.scores for done in resumed.rounds] == [done.scores for done in whole.rounds]


@pytest.mark.slow
def test_both_scorers_run_to_a_genotype(prune):
    for scorer in ("exact", "first_order"):
        result = prune(
            "zero_shot",
            until="genotype",
            none_operation="removed",
            operations_per_round=6,
            scorer=scorer,
            **ZERO_SHOT,
        )
        assert result.genotype is not None


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ({"until_reliability": 1.5, "at_most": 8}, r"until_reliability: 1\.5 is not allowed"),
        ({"until_reliability": 0.5, "at_most": 2}, r"at_most: 2 is not allowed"),
        ({"at_most": 2}, r"repeats: .* is not allowed; allowed: a number from 1"),
    ],
)
def test_repeats_that_make_no_sense_are_refused(repeats, message):
    with pytest.raises(ConfigError, match=message):
        Repeats.of(repeats)


def test_a_mask_from_a_file_is_the_mask_that_was_saved(prune, tmp_path):
    mask = prune("random", xi=0.5).mask
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(mask.to_dict()))
    assert prune("file", path=str(path)).mask == mask


def test_a_file_that_holds_no_usable_mask_is_refused(prune, tmp_path):
    path = tmp_path / "mask.json"
    with pytest.raises(ConfigError, match=r"prune\.path: .* cannot be read"):
        prune("file", path=str(path))
    path.write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        prune("file", path=str(path))
    for text, reason in (
        ('{"cells": {}, "cells": {}}', "the key 'cells' is there twice"),
        ("[" * 10**5, "nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            prune("file", path=str(path))
    data = OperationMask.full(SPACE).to_dict()
    data["cells"]["normal"][0] = ["none"]
    path.write_text(json.dumps(data))
    with pytest.raises(ArchitectureError, match="normal node 0 lacks 1 incoming edges"):
        prune("file", path=str(path))


def test_a_ranking_that_tells_nothing_of_the_classes_is_refused_before_any_compute(small_dataset):
    two = replace(small_dataset, classes=("a", "b"))
    stage = StageContext(Runtime(torch.device("cpu")), 0)
    context = PruneContext(SPACE, SupernetSettings(), two, two.train, stage)
    with pytest.raises(ConfigError, match=r"prune\.ranking: nngp: .* 2 classes; set kernel"):
        zero_shot.check_zero_shot(context, ranking=["nngp"], **SETTINGS)
    plain = [{"name": "nngp", "kernel": "plain"}]
    zero_shot.check_zero_shot(context, ranking=plain, **SETTINGS)


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [(999, 12, "999 is more than the 45 pictures"), (13, 12, "leaves a batch of one picture")],
)
def test_too_few_pictures_are_refused_before_any_compute(
    small_dataset, images, batch_size, message
):
    stage = StageContext(Runtime(torch.device("cpu")), 0)
    pictures, _ = small_dataset.search_parts(0.5)
    context = PruneContext(SPACE, SupernetSettings(), small_dataset, pictures, stage)
    settings = SETTINGS | {"images": images, "batch_size": batch_size}
    with pytest.raises(ConfigError, match=message):
        zero_shot.check_zero_shot(context, ranking=["nngp"], **settings)
