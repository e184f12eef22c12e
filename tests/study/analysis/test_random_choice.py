import itertools
from statistics import fmean

import numpy as np
import pytest

from tests.tables import SPACE, made_up, settings, write
from zostudy.config.loading import StudyFile, from_document
from zostudy.evaluation.table import read
from zostudy.study.analysis.random_choice import by_chance, sentences, summary, with_random_choice

ACCURACIES = np.array([10.0, 50.0, 80.0, 80.0, 90.0])


@pytest.mark.parametrize("choices", [1, 2, 3])
@pytest.mark.parametrize("mean", [0.0, 10.0, 65.0, 80.0, 85.0, 90.0, 90.1])
def test_the_chance_is_that_of_all_draws_counted_one_by_one(choices, mean):
    draws = list(itertools.product(ACCURACIES, repeat=choices))
    wanted = fmean(fmean(draw) >= mean - 1e-9 for draw in draws)
    assert by_chance(ACCURACIES, mean, choices) == pytest.approx(wanted, abs=1e-12)


def test_accuracies_with_many_digits_reach_their_own_mean():
    accuracies = np.array([94.37333333333333, 94.35666666666667])
    assert by_chance(accuracies, 94.37333333333333, 1) == pytest.approx(0.5)
    assert by_chance(accuracies, float(accuracies.mean()), 2) >= 0.75


def test_random_choice_is_every_architecture_once(tmp_path):
    table = read(settings(write(tmp_path / "t.csv", made_up())), SPACE)
    found = summary(table)
    assert found["architectures"] == 27
    assert found["metrics"]["test_accuracy"]["mean"] == pytest.approx(50)
    assert found["metrics"]["regret"]["mean"] == pytest.approx(40)
    assert found["metrics"]["percentile"]["mean"] == pytest.approx(50)
    assert found["metrics"]["test_accuracy"]["quantiles"]["0.5"] == pytest.approx(50)
    assert found["metrics"]["test_accuracy"]["sd"] == pytest.approx(table.accuracies.std())


def study(**evaluate: str) -> StudyFile:
    objectives: list[dict] = []
    return from_document(
        {
            "study": "s",
            "search_space": {"name": "nasbench201"},
            "evaluate": evaluate,
            "sweep": {"objectives": objectives},
        }
    )


def test_a_study_that_trains_is_left_as_it_is():
    document = {"study": "s", "trials": [], "points": [], "best": None}
    assert with_random_choice(document, study()) is document
    assert sentences(document) == ""


def test_a_table_that_is_gone_is_told_and_stops_nothing(tmp_path):
    file = study(by="table", path=str(tmp_path / "gone.csv"), column="test")
    document = with_random_choice({"study": "s", "trials": [], "points": [], "best": None}, file)
    assert "cannot be read" in document["random_choice"]["reason"]
    assert sentences(document).startswith("random choice is not shown: evaluate.path: ")


def test_points_that_chance_matches_are_counted():
    points = [{"by_chance": chance} for chance in (0.2, 0.001, None)]
    quantiles = {"0.05": 10.0, "0.5": 50.0}
    chosen = {"architectures": 27, "metrics": {"test_accuracy": {"quantiles": quantiles}}}
    text = sentences({"points": points, "random_choice": chosen})
    assert "any of 27 architectures, equally likely" in text
    assert "5 %: 10.00, 50 %: 50.00" in text
    assert text.endswith("inside the noise, at 1 of 2 points")
