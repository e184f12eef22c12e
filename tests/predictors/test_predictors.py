"""Predictors: what encodings say of cells, what is predicted, what files hold."""

import csv
import io
import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from tests.tables import SPACE
from zostudy.errors import ConfigError, DataError
from zostudy.predictors import encodings, storage
from zostudy.predictors.examples import Source, read
from zostudy.predictors.models import MODELS, blend
from zostudy.predictors.predictor import Examples, Predictor, Scale, Settings
from zostudy.space import enumeration
from zostudy.space.genotype import parse
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

NASBENCH201 = search_space("nasbench201")
DEAD = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
FAST = Settings(models=("gaussian_process",), outer=4, inner=3)


def examples(count, seed=0):
    """Random cells of NAS-Bench-201; made-up accuracies count what lies on live paths."""
    rng = np.random.default_rng(seed)
    every = list(enumeration.genotypes(OperationMask.full(NASBENCH201)))
    chosen = [every[index] for index in rng.permutation(len(every))[:count]]
    sums = [
        sum({"nor_conv_3x3": 3, "nor_conv_1x1": 1}.get(edge.operation, 0) for edge in live)
        for live in (encodings.live_edges(cell, "normal") for cell in chosen)
    ]
    accuracies = 60 + 2 * np.array(sums) + rng.normal(0, 0.5, count)
    return Examples(tuple(chosen), accuracies, np.zeros((count, 0)))


def table(path, rows, header=("ArchitectureString", "accuracy", "proxy")):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path.write_text(text.getvalue())
    return Source(str(path), accuracy="accuracy", columns=("proxy",))


def test_edges_without_a_way_to_both_ends_are_left_out():
    cell = parse(DEAD, NASBENCH201)
    live = encodings.live_edges(cell, "normal")
    assert live == [
        ("nor_conv_3x3", 0, 1),
        ("skip_connect", 0, 3),
        ("nor_conv_1x1", 1, 3),
    ]
    assert sorted(encodings.paths(cell, "normal")) == [
        ("nor_conv_3x3", "nor_conv_1x1"),
        ("skip_connect",),
    ]


def test_statistics_of_a_cell():
    found = encodings.statistics(parse(DEAD, NASBENCH201), "normal")
    assert found["edges"] == 3
    assert found["kernel weights"] == 10
    assert (found["paths"], found["identity paths"], found["paths of weights"]) == (2, 1, 1)
    assert [found[f"receptive field, {of}"] for of in ("least", "most", "mean")] == [0, 2, 1]
    assert found["avg_pool_3x3 on a path, most"] == 0


def test_isomorphic_cells_that_differ_in_dead_edges_only_are_the_same():
    other = parse(DEAD.replace("avg_pool_3x3~2", "nor_conv_3x3~2"), NASBENCH201)
    cell = parse(DEAD, NASBENCH201)
    same = encodings.Encoder.of([cell], ("graph", "paths"))([cell, other])
    apart = encodings.Encoder.of([cell], ("adjacency",))([cell, other])
    assert (same[0] == same[1]).all()
    assert (apart[0] != apart[1]).sum() == 2


def test_a_space_of_two_cell_types_is_encoded():
    darts = search_space("darts")
    cell = next(enumeration.genotypes(OperationMask.full(darts)))
    (row,) = encodings.Encoder.of([cell], encodings.ENCODINGS)([cell])
    assert np.isfinite(row).all()
    kinds = [sequence[0] for sequence in encodings.Encoder.of([cell], ("paths",)).sequences]
    assert set(kinds) == {"normal", "reduction"}


@pytest.mark.parametrize("name", MODELS)
def test_each_model_learns_a_smooth_function(name):
    features = np.random.default_rng(0).normal(size=(80, 3))
    values = features[:, 0] + 0.5 * features[:, 1]
    predict = MODELS[name](features[:60], values[:60], 0)
    assert kendalltau(predict(features[60:]), values[60:]).statistic > 0.7
    again = MODELS[name](features[:60], values[:60], 0)
    assert (again(features) == predict(features)).all()


def test_a_blend_prefers_the_model_that_fits():
    features = np.random.default_rng(0).normal(size=(60, 3))
    made = blend(
        features, features.sum(axis=1), ("random_forest", "gaussian_process"), folds=3, seed=0
    )
    assert made.weights.get("gaussian_process", 0) > 0.9


def test_intervals_hold_what_they_say():
    fitted, others = Predictor.fit(examples(60), FAST), examples(500, seed=1)
    found = fitted(others.genotypes)
    inside = (found.low <= others.accuracies) & (others.accuracies <= found.high)
    assert 0.8 < inside.mean() < 0.99
    assert kendalltau(found.scores, others.accuracies).statistic > 0.8
    assert fitted.tau > 0.7


def test_a_scale_goes_there_and_back():
    values = np.array([10.0, 10.0, 60.0, 70.0, 90.0, 91.0])
    scale = Scale.of(values)
    assert scale.back(scale.forward(values)) == pytest.approx(values)
    assert scale.back(np.array([-9.0, 99.0])).tolist() == [10.0, 100.0]


def test_a_file_gives_the_same_predictor(tmp_path):
    fitted, others = Predictor.fit(examples(40), FAST), examples(20, seed=1)
    path = tmp_path / "predictor.json"
    path.write_bytes(storage.written(fitted))
    again = storage.read(path)(others.genotypes)
    assert again.accuracies == pytest.approx(fitted(others.genotypes).accuracies, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format="zostudy predictor 0"), "no predictor of this version"),
        (lambda d: d.pop("examples"), "damaged"),
        (lambda d: d["examples"][0].__setitem__(0, {"normal": []}), "0 nodes"),
        (lambda d: d["predicted"].__setitem__(0, 1.0), "predicts other accuracies"),
        (lambda d: d["settings"].update(models=["oracle"]), "allowed: gaussian_process"),
    ],
)
def test_another_or_damaged_file_is_refused(tmp_path, change, said):
    document = json.loads(storage.written(Predictor.fit(examples(30), FAST)))
    change(document)
    path = tmp_path / "predictor.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=said):
        storage.read(path)


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "predictor.pkl"
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ConfigError, match="is no predictor"):
        storage.read(path)


def test_a_table_is_read_with_its_columns(tmp_path):
    rows = [[cell.to_notation(), 50 + i, i] for i, cell in enumerate(examples(5).genotypes)]
    found = read(table(tmp_path / "t.csv", rows), NASBENCH201)
    assert found.accuracies.tolist() == [50, 51, 52, 53, 54]
    assert found.columns[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([DEAD, 50, 1], "is in line 2 too"),
        ([DEAD.replace("none~1", "skip_connect~1"), "nan", 1], "accuracy 'nan' is not allowed"),
        ([DEAD.replace("none~1", "skip_connect~1"), 50, "inf"], "proxy 'inf' is not allowed"),
        (["|none~0|", 50, 1], "is no architecture"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, said):
    with pytest.raises(DataError, match=said):
        read(table(tmp_path / "t.csv", [[DEAD, 50, 1], row]), NASBENCH201)


def test_too_few_and_equal_accuracies_are_refused():
    with pytest.raises(DataError, match="too few for cross-validation"):
        Predictor.fit(examples(19), FAST)
    some = examples(25)
    with pytest.raises(DataError, match="all 25 architectures have the accuracy 50"):
        Predictor.fit(Examples(some.genotypes, np.full(25, 50.0), some.columns), FAST)


def test_the_tiny_space_is_encoded_without_kernels():
    cell = next(enumeration.genotypes(OperationMask.full(SPACE)))
    assert encodings.statistics(cell, "normal")["paths"] == 0
