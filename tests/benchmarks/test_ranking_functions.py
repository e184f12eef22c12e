import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from benchmarks import ranking_functions
from benchmarks.ranking_functions import (
    beyond,
    correlation,
    network,
    rankings,
    score,
    with_refused_last,
)
from zostudy.config.settings import SupernetSettings
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.space.genotype import parse
from zostudy.space.search_space import search_space

SPACE = search_space("nasbench201")
SIZE = SupernetSettings(cells=1, channels=4)
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CELL = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|skip_connect~2|"


def batch():
    images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return ProxyInputs(images, torch.arange(10) % 10)


def test_the_network_of_a_cell_holds_that_cell_alone():
    genotype = parse(CELL, SPACE)
    _, mixing = network(genotype, SIZE)
    weights = mixing.operations["normal"]
    assert weights.sum(dim=1).tolist() == [1] * 6
    kept = [SPACE.operations[column] for column in weights.argmax(dim=1)]
    assert kept == [name for node in genotype.cells["normal"] for name, _ in node]


@pytest.mark.parametrize("text", [NOTHING, CELL])
def test_every_function_scores_a_cell_or_refuses_it(text):
    for ranking in rankings():
        found = score(*network(parse(text, SPACE), SIZE), ranking, batch())
        assert isinstance(found, float)
        assert not math.isinf(found)


def test_a_score_that_is_not_finite_is_a_refusal():
    endless = Ranking("endless", lambda logits: logits.sum() * math.inf, 1)
    assert math.isnan(score(*network(parse(CELL, SPACE), SIZE), endless, batch()))


def test_refused_cells_are_tied_below_all_others():
    found = with_refused_last(np.array([math.nan, -3.0, 5.0, math.nan]))
    assert found[0] == found[3] < -3
    assert with_refused_last(np.array([math.nan, math.nan])).tolist() == [0, 0]


def test_correlations_lie_between_the_ends_of_their_interval(monkeypatch):
    monkeypatch.setattr(ranking_functions, "BOOTSTRAPS", 100)
    accuracies = np.random.default_rng(0).normal(size=80)
    scores = accuracies + np.random.default_rng(1).normal(size=80)
    for name, measure in (("spearman", spearmanr), ("kendall", kendalltau)):
        found = dict(correlation(name, measure, scores, accuracies))
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
        assert found[name] == measure(scores, accuracies).statistic


def test_what_a_score_knows_beyond_counts():
    rng = np.random.default_rng(0)
    counts = rng.normal(size=(500, 2))
    own = rng.normal(size=500)
    accuracies = counts.sum(axis=1) + own
    assert abs(beyond(counts.sum(axis=1) + rng.normal(size=500), accuracies, counts)) < 0.15
    assert beyond(counts.sum(axis=1) + own, accuracies, counts) > 0.9
