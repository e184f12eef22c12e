import pytest

from zostudy.config.loading import StudyFile, from_document
from zostudy.config.sweep import RangeSettings
from zostudy.errors import ConfigError
from zostudy.study import points
from zostudy.study.points import Failure, TrialOutcome


def study(parameters: dict, **settings) -> StudyFile:
    return from_document({"study": "s", "sweep": {"parameters": parameters}, **settings})


def test_a_grid_has_every_combination_in_the_order_of_the_file():
    found = points.grid(
        study({"prune.source": ["random", "zero_shot"], "prune.xi": [0.5, 0.25]}),
    )
    assert [tuple(p.values.values()) for p in found] == [
        ("random", 0.5),
        ("random", 0.25),
        ("zero_shot", 0.5),
        ("zero_shot", 0.25),
    ]
    assert found[1].config.prune.options["xi"] == 0.25


def test_combinations_with_the_same_settings_are_one_point():
    found = points.grid(
        study({"prune.source": ["none", "random"], "prune.xi": [0.25, 0.5, 0.75]}),
    )
    assert [(p.values["prune.source"], p.coinciding) for p in found] == [
        ("none", 2),
        ("random", 0),
        ("random", 0),
        ("random", 0),
    ]


def test_a_grid_without_parameters_is_the_file_itself():
    (only,) = points.grid(study({}))
    assert only.values == {}
    assert str(only) == "(nothing swept)"


def test_a_technique_written_out_is_the_same_point():
    (named,) = points.grid(study({}, technique="darts-rnd"))
    (plain,) = points.grid(study({}, prune={"source": "random", "xi": 0.5}))
    assert named.key == plain.key


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"low": 2, "high": 7, "step": 2}, (2, 4, 6)),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, (0.1, 0.3, 0.5, 0.7)),
        ({"low": 0, "high": 1, "step": 0.5}, (0.0, 0.5, 1.0)),
    ],
)
def test_a_range_with_a_step_is_enumerated(given, expected):
    values = RangeSettings(**given).numbers
    assert values == expected
    assert [type(v) for v in values] == [type(v) for v in expected]


def test_a_wrong_combination_is_an_error_that_names_the_point():
    file = study({"search.epochs": [40, 20], "search.warmup_epochs": [2, 30]})
    with pytest.raises(
        ConfigError,
        match=r"warmup_epochs: 30 .*\(at the point search.epochs=20 search.warmup_epochs=30\)$",
    ):
        points.grid(file)


def test_outcomes_survive_their_json():
    for outcome in (TrialOutcome({"a": 1.5}, {"cells": {}}, "run"), Failure("disk full")):
        assert points.from_json(points.to_json(outcome)) == outcome
