"""A study that searches by a predictor's scores, and is evaluated by its predictions."""

import json

import numpy as np
import pytest
import yaml

from tests.commands import here as zostudy
from zostudy.predictors import storage
from zostudy.predictors.predictor import Examples, Predictor, Settings
from zostudy.space import enumeration
from zostudy.space import genotype as genotypes
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space

STUDY = {
    "study": "predicted",
    "search_space": {"name": "nasbench201"},
    "search": {
        "strategy": "score",
        "evaluations": 150,
        "score": {"name": "predictor", "path": "predictor.json"},
    },
    "evaluate": {"by": "predictor", "path": "predictor.json", "cells": 1, "channels": 4},
    "sweep": {
        "parameters": {"search.algorithm.name": ["random", "local"]},
        "objectives": [
            {"metric": "predicted_accuracy"},
            {"metric": "parameters", "direction": "minimize"},
        ],
    },
    "runtime": {"threads": 1, "device": "cpu"},
}


def convolutions(genotype):
    return sum("conv" in name for *_, name in genotype.operations())


def fitted(columns=()):
    everything = list(enumeration.genotypes(OperationMask.full(search_space("nasbench201"))))
    chosen = np.random.default_rng(0).choice(len(everything), 40, replace=False)
    cells = tuple(everything[index] for index in chosen)
    accuracies = np.array([60 + 5.0 * convolutions(cell) for cell in cells])
    known = np.zeros((40, len(columns))) + np.arange(40)[:, None]
    return Predictor.fit(
        Examples(cells, accuracies, known, tuple(columns)), Settings(models=("gaussian_process",))
    )


def prepared(folder, predictor=None, **changes):
    (folder / "predictor.json").write_bytes(storage.written(predictor or fitted()))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = prepared(tmp_path_factory.mktemp("finished"))
    code, out, err = zostudy(folder, "run", "study.yaml", "--skip-check")
    assert code == 0, err
    return folder, out


def test_the_accuracy_is_the_prediction_with_its_interval_and_nothing_is_measured(finished):
    folder, _ = finished
    predictor = storage.read(folder / "predictor.json")
    _, out, _ = zostudy(folder, "results", "study.yaml", "--json")
    document = json.loads(out)
    for trial in document["trials"]:
        found = predictor([genotypes.from_dict(trial["genotype"])])
        metrics = trial["metrics"]
        assert metrics["predicted_accuracy"] == pytest.approx(found.accuracies[0])
        ends = [metrics["predicted_low"], metrics["predicted_high"]]
        assert ends == pytest.approx([found.low[0], found.high[0]])
        assert not {"test_accuracy", "validation_accuracy", "regret"} & set(metrics)
        assert convolutions(genotypes.from_dict(trial["genotype"])) >= 5
    assert len(document["trials"]) == 2


def test_whatever_shows_it_says_that_it_is_a_prediction(finished):
    _, out = finished
    assert "predicted" in out
    assert "test %" not in out
    assert "accuracies are a predictor's, nothing was trained or measured" in " ".join(out.split())


def test_a_run_again_computes_nothing(finished):
    folder, _ = finished
    code, _, err = zostudy(folder, "run", "study.yaml")
    assert code == 0
    assert "is complete; nothing to run" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"search_space": {"name": "darts"}},
            "predicts architectures of 'nasbench201'; the study has 'darts'",
        ),
        (
            {"evaluate": {"by": "predictor"}},
            "evaluate.path: is missing; evaluate.by 'predictor' needs it",
        ),
        (
            {"evaluate": {"by": "predictor", "path": "gone.json"}},
            "evaluate.path: gone.json: cannot be read",
        ),
        (
            {"sweep": {}},
            "validation_accuracy does not exist where evaluate.by is 'predictor', which trains "
            "nothing; allowed: predicted_accuracy",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_computed(tmp_path, changes, message):
    prepared(tmp_path, **changes)
    code, _, err = zostudy(tmp_path, "run", "study.yaml")
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / ".zostudy" / "cache").exists()


def test_a_predictor_that_reads_further_columns_is_refused(tmp_path):
    prepared(tmp_path, fitted(["synflow"]))
    code, _, err = zostudy(tmp_path, "run", "study.yaml")
    assert code == 2
    assert "reads columns (synflow) that are not known of a genotype" in " ".join(err.split())
