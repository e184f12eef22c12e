"""Searches under limits of what an architecture costs."""

import random

import pytest
import torch

from tests.checkpoints import MemoryCheckpoint
from tests.methods import SPACES, mask_of
from tests.search.test_scored import Killed, run, settings
from zostudy.config.loading import canonical, from_document
from zostudy.config.settings import EvaluateSettings
from zostudy.errors import ConfigError, InadmissibleError
from zostudy.evaluation.cost import Costs
from zostudy.registry import components
from zostudy.search import admission, scored
from zostudy.search.admission import Admission
from zostudy.search.random_choice import random_genotype
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.space.variation import Variation
from zostudy.study.planning.constraints import check_limits

SMALL = EvaluateSettings(cells=1, channels=2)


def quarters(space, dataset):
    """Costs of a space, and limits that about a quarter of its architectures keep to, one each."""
    costs = Costs(space, dataset, SMALL)
    draw = Variation(OperationMask.full(space), random.Random(0))
    found = [costs(draw.random(), ["parameters", "macs"]) for _ in range(101)]
    return costs, {
        name: sorted(values[name] for values in found)[25] for name in ("parameters", "macs")
    }


def keeps(costs, limits, genotype):
    values = costs(genotype, limits)
    return all(values[name] <= most for name, most in limits.items())


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("algorithm", components("search_algorithm"))
def test_nothing_above_a_limit_is_scored_and_rejections_are_counted(
    algorithm, space, small_dataset, monkeypatch
):
    costs, limits = quarters(SPACES[space], small_dataset)
    monkeypatch.setattr(admission, "_LISTED", 0)
    admitted = Admission(limits, costs)
    found = run(settings(algorithm, 14), small_dataset, space=space, admission=admitted)
    assert len(found.scored) == found.metrics["evaluated"] == 14
    assert all(keeps(costs, limits, genotype) for genotype, _ in found.scored)
    assert found.metrics["rejected"] == admitted.rejected > 0
    assert found.history[-1]["rejected"] == admitted.rejected


@pytest.mark.parametrize("algorithm", components("search_algorithm"))
def test_a_killed_search_under_limits_goes_on_bit_for_bit(algorithm, small_dataset, monkeypatch):
    monkeypatch.setattr(scored, "_EVERY", 4)
    chosen = settings(algorithm, 12)
    costs, limits = quarters(SPACES["nasbench201"], small_dataset)

    def kill(_):
        raise Killed

    def go_on(checkpoint, *report):
        return run(chosen, small_dataset, checkpoint, *report, admission=Admission(limits, costs))

    undisturbed, pieces = go_on(MemoryCheckpoint()), MemoryCheckpoint()
    for place in range(len(undisturbed.history)):
        torch.manual_seed(99 + place)
        with pytest.raises(Killed):
            go_on(pieces, kill)
    left_out = {"seconds": 0}
    assert go_on(pieces).to_dict() | left_out == undisturbed.to_dict() | left_out


def test_a_search_ends_when_all_that_keep_to_the_limits_are_known(small_dataset):
    space = SPACES["nasbench201"]
    mask = mask_of(space, "single").changed(add=[("normal", edge, 1) for edge in range(6)])
    costs = Costs(space, small_dataset, SMALL)
    known = sorted(costs(one, ["macs"])["macs"] for one in enumeration.genotypes(mask))
    limits = {"macs": known[len(known) // 4]}
    every = {one for one in enumeration.genotypes(mask) if keeps(costs, limits, one)}
    found = run(settings(), small_dataset, mask=mask, admission=Admission(limits, costs))
    assert 0 < len(every) < enumeration.count(mask)
    assert {genotype for genotype, _ in found.scored} <= every
    assert len(found.scored) == min(25, len(every))
    assert not found.notes


@pytest.mark.parametrize(
    ("listed", "which"), [(20_000, r"the 15,625 .* leaves"), (0, r"1,000 .* random")]
)
def test_where_nothing_keeps_to_the_limits_the_nearest_is_named(
    listed, which, small_dataset, monkeypatch
):
    monkeypatch.setattr(admission, "_LISTED", listed)
    costs, _ = quarters(SPACES["nasbench201"], small_dataset)
    none = Admission({"parameters": 10}, costs)
    message = rf"search\.constraints: none of {which} keeps .* parameters [\d,]+ \(at most 10\)"
    with pytest.raises(InadmissibleError, match=message):
        run(settings(), small_dataset, admission=none)
    if not listed:
        with pytest.raises(InadmissibleError, match=message):
            random_genotype(OperationMask.full(SPACES["nasbench201"]), 0, 0, none)


@pytest.mark.parametrize("algorithm", ["random", "evolution"])
def test_where_few_keep_to_the_limits_a_search_ends_with_those_it_found(
    algorithm, small_dataset, monkeypatch
):
    """One in a thousand: most runs of 1,000 draws at random miss it."""
    space = SPACES["nasbench201"]
    mask = OperationMask.full(space)
    costs = Costs(space, small_dataset, SMALL)
    known = sorted(costs(one, ["macs"])["macs"] for one in enumeration.genotypes(mask))
    limits = {"macs": known[15]}
    every = {one for one in enumeration.genotypes(mask) if keeps(costs, limits, one)}
    chosen = settings(algorithm, len(every) + 9)
    found = run(chosen, small_dataset, admission=Admission(limits, costs))
    assert {genotype for genotype, _ in found.scored} <= every
    if algorithm == "random":  # it knows them all, and draws from them
        assert len(found.scored) == len(every)
        assert random_genotype(mask, 0, 0, Admission(limits, costs)) in every
    monkeypatch.setattr(admission, "_LISTED", 0)
    monkeypatch.setattr("zostudy.space.variation.TRIES", 5_000)
    blind = run(settings(algorithm, 15_000), small_dataset, admission=Admission(limits, costs))
    assert {genotype for genotype, _ in blind.scored} <= every
    assert "that keeps to the limits" in blind.notes[0]


def test_random_genotypes_keep_to_the_limits(small_dataset):
    space = SPACES["darts"]
    costs, limits = quarters(space, small_dataset)
    drawn = [
        random_genotype(OperationMask.full(space), 0, draw, Admission(limits, costs))
        for draw in range(30)
    ]
    assert len(set(drawn)) == 30
    assert all(keeps(costs, limits, genotype) for genotype in drawn)


def study(**search):
    return from_document({"study": "s", "search_space": {"name": "nasbench201"}, "search": search,
                          "evaluate": {"cells": 1, "channels": 2}}).config  # fmt: skip


def test_limits_are_part_of_what_a_point_is_only_where_there_are_some():
    limits = {"constraints": {"macs": {"at_most": 1000}}}
    for strategy in ("score", "random"):
        plain, limited = (
            canonical(study(strategy=strategy, **more))["search"] for more in ({}, limits)
        )
        assert plain == {k: v for k, v in limited.items() if k != "constraints"}
        assert "constraints" in limited


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"constraints": {"macs": {"at_most": 1}}}, "strategy 'bilevel' cannot keep to limits"),
        (
            {"strategy": "score", "constraints": {"search_peak_bytes": {"at_most": 1}}},
            "search_peak_bytes: does not follow .* allowed: parameters, macs",
        ),
        ({"strategy": "score", "constraints": {"macs": {"at_most": 0}}}, "needs more than 0"),
    ],
)
def test_wrong_limits_are_refused(search, message):
    with pytest.raises(ConfigError, match=message):
        study(**search)


def test_a_limit_below_what_every_architecture_needs_is_refused_before_any_compute(small_dataset):
    space = SPACES["nasbench201"]
    least = Costs(space, small_dataset, SMALL).least(OperationMask.full(space))["parameters"]
    enough, less = (
        study(strategy="score", constraints={"parameters": {"at_most": most}})
        for most in (least, least - 1)
    )
    costs = Costs(space, small_dataset, SMALL)
    check_limits(enough, space, costs)
    with pytest.raises(ConfigError, match=rf"parameters\.at_most: .* allowed: {least:,} or more"):
        check_limits(less, space, costs)
