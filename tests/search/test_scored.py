"""Search by score alone: what it finds, resumed bit for bit, its memory and what it refuses."""

import json

import numpy as np
import pytest
import torch

from tests.checkpoints import MemoryCheckpoint
from tests.methods import CPU, SPACES, mask_of
from zostudy.config.loading import from_document
from zostudy.config.settings import SupernetSettings
from zostudy.errors import ConfigError, NumericalError
from zostudy.registry import components
from zostudy.search import scored
from zostudy.search.admission import everything
from zostudy.search.result import SearchResult
from zostudy.search.scores import Score
from zostudy.space import enumeration
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext, silent

SIZE = SupernetSettings(cells=1, channels=2, partial_channels=2, edge_normalization=True)
SMALL = {"evolution": {"population": 5, "sample": 3}, "free_rea": {"population": 5, "sample": 3}}


def settings(algorithm="random", evaluations=25, **score):
    document = {
        "strategy": "score",
        "evaluations": evaluations,
        "algorithm": {"name": algorithm, **SMALL.get(algorithm, {})},
        "score": {"images": 8, "ranking": ["synflow"]} | score,
    }
    return from_document({"study": "s", "search": document}).config.search


def run(
    chosen,
    dataset,
    checkpoint=None,
    report=silent,
    space="nasbench201",
    mask=None,
    admission=everything,
):
    mask = mask or mask_of(SPACES[space], "full")
    context = StageContext(CPU, 0, checkpoint or MemoryCheckpoint(), report)
    return scored.search(mask, dataset, SIZE, chosen, context, admission)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "algorithm",
    [
        name if name == "evolution" else pytest.param(name, marks=pytest.mark.slow)
        for name in components("search_algorithm")
    ],
)
def test_a_search_that_is_killed_goes_on_bit_for_bit(algorithm, small_dataset, monkeypatch):
    monkeypatch.setattr(scored, "_EVERY", 4)
    chosen = settings(algorithm, 12, ranking=["synflow", "naswot"])

    def kill(_):
        raise Killed

    undisturbed, pieces = run(chosen, small_dataset), MemoryCheckpoint()
    for place in range(len(undisturbed.history)):
        torch.manual_seed(99 + place)  # what happens in between leaves no trace
        with pytest.raises(Killed):
            run(chosen, small_dataset, pieces, kill)
    resumed = run(chosen, small_dataset, pieces)
    left_out = {"seconds": 0}
    assert resumed.to_dict() | left_out == undisturbed.to_dict() | left_out


@pytest.mark.parametrize("space", SPACES)
def test_the_genotype_is_the_best_that_was_scored_and_all_are_recorded(space, small_dataset):
    found = run(settings(evaluations=12), small_dataset, space=space)
    values = {genotype: own[0] for genotype, own in found.scored if own}
    assert len(found.scored) == found.metrics["evaluated"] == 12
    assert values[found.genotype] == max(values.values()) == found.metrics["best_synflow"]
    assert [set(figures) for figures in found.history] == [{"best_synflow", "refused"}] * 2
    plain = json.loads(json.dumps(found.to_dict()))
    assert SearchResult.of(plain, SPACES[space]).to_dict() == plain


def test_a_search_ends_when_every_architecture_of_the_mask_is_known(small_dataset):
    space = SPACES["nasbench201"]
    mask = mask_of(space, "single").changed(add=[("normal", 0, 0), ("normal", 2, 1)])
    found = run(settings("local"), small_dataset, mask=mask)
    assert {genotype for genotype, _ in found.scored} == set(enumeration.genotypes(mask))


def test_a_search_that_finds_nothing_new_ends_and_says_so(small_dataset, monkeypatch):
    monkeypatch.setattr(scored, "_STALE", 1)
    found = run(settings("random", 400), small_dataset, mask=_few())
    assert found.metrics["evaluated"] < enumeration.count(_few())
    assert "1 proposals brought no new one" in found.notes[0]


def _few():
    space = SPACES["nasbench201"]
    return mask_of(space, "single").changed(add=[("normal", edge, 0) for edge in range(6)])


def test_architectures_without_a_value_are_counted_and_never_chosen(small_dataset):
    chosen = settings("random", 30, ranking=["jacobian_covariance"])
    found = run(chosen, small_dataset, mask=_few())
    refused = [genotype for genotype, values in found.scored if values is None]
    assert len(refused) == found.metrics["refused"] > 0
    assert found.genotype not in refused


def test_a_search_in_which_nothing_has_a_value_fails_with_the_reason(small_dataset):
    space = SPACES["nasbench201"]
    row = tuple(name == "none" for name in space.operations)
    mask = OperationMask(space, {"normal": (row,) * 6})
    with pytest.raises(NumericalError, match="no architecture has a value; the last one: jac"):
        run(settings(ranking=["jacobian_covariance"]), small_dataset, mask=mask)


@pytest.mark.parametrize(("space", "ranking"), [("darts", "naswot"), ("nasbench201", "snip")])
def test_no_architecture_takes_more_than_was_predicted(space, ranking, small_dataset):
    chosen = settings(evaluations=5, ranking=[ranking])
    mask = mask_of(SPACES[space])
    predicted = scored.predict_peak(mask, small_dataset, SIZE, chosen, CPU)
    found = run(chosen, small_dataset, mask=mask)
    assert 0 < found.peak_bytes <= predicted


def test_values_are_combined_by_ranks_or_by_shares_of_the_largest():
    genotypes = list(enumeration.genotypes(_few()))[:3]
    known = dict(zip(genotypes, [(1.0, 30.0), (2.0, 10.0), None], strict=True))
    by_ranks = Score(("a", "b"), lambda _: (), "ranks", known).fitness(genotypes)
    assert by_ranks == [1.5, 1.5, -np.inf]
    by_logs = Score(("a", "b"), lambda _: (), "log_ranks", known).fitness(genotypes)
    assert by_logs == pytest.approx([np.log(0.5), np.log(0.5), -np.inf])
    by_shares = Score(("a", "b"), lambda _: (), "shares", known).fitness(genotypes)
    assert by_shares == pytest.approx([1.5, 1 + 1 / 3, -np.inf])


def test_more_pictures_than_there_are_are_refused(small_dataset):
    chosen = settings(images=500)
    with pytest.raises(ConfigError, match=r"search\.score\.images: 500 is more than the 45"):
        scored.check(small_dataset, SIZE, chosen, SPACES["nasbench201"], CPU)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"score": {"ranking": ["naswt"]}},
            r"score\.ranking\[0\]: unknown .*did you mean 'naswot'",
        ),
        ({"score": {"ranking": []}}, r"score\.ranking: has no entries"),
        ({"algorithm": {"name": "evolutin"}}, r"algorithm\.name: .*did you mean 'evolution'"),
        ({"algorithm": {"name": "local", "step": "worst"}}, r"algorithm\.step: 'worst'"),
        ({"evaluations": 0}, r"search\.evaluations: 0"),
    ],
)
def test_wrong_settings_are_told_with_their_place(section, message):
    with pytest.raises(ConfigError, match=message):
        from_document({"study": "s", "search": {"strategy": "score", **section}})
