import pytest
from pydantic import BaseModel, ValidationError

from zostudy.config import settings, sweep
from zostudy.config.base import Settings
from zostudy.config.search import SearchSettings
from zostudy.config.settings import EvaluateSettings, RuntimeSettings, SupernetSettings
from zostudy.config.sizes import size
from zostudy.config.sweep import RangeSettings, SweepSettings
from zostudy.config.training import SGDSettings


def all_settings() -> list[type[BaseModel]]:
    named = vars(settings) | vars(sweep)
    found = [v for v in named.values() if isinstance(v, type) and issubclass(v, Settings)]
    return [model for model in found if model is not Settings]


@pytest.mark.parametrize("model", all_settings(), ids=lambda model: model.__name__)
def test_every_setting_has_a_description(model):
    missing = [name for name, field in model.model_fields.items() if not field.description]
    assert missing == []


def test_defaults_are_the_papers():
    search, evaluate = SearchSettings(), EvaluateSettings()
    assert (search.epochs, search.warmup_epochs, search.batch_size) == (50, 15, 256)
    assert search.weights == SGDSettings(
        learning_rate=0.1, momentum=0.9, weight_decay=3e-4, clip_norm=5.0
    )
    assert search.architecture.learning_rate == 6e-4
    assert (evaluate.cells, evaluate.channels, evaluate.epochs) == (20, 36, 600)
    assert (evaluate.drop_path, evaluate.auxiliary_weight, evaluate.batch_size) == (0.3, 0.4, 128)
    assert evaluate.weights.learning_rate == 0.025
    assert evaluate.augment.cutout == 16


def test_settings_do_not_change_and_take_no_unknown_keys():
    made = SupernetSettings()
    with pytest.raises(ValidationError, match="frozen"):
        made.cells = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        SupernetSettings(cell=3)


def test_a_range_keeps_whole_numbers_whole():
    assert isinstance(RangeSettings.model_validate_json('{"low": 1, "high": 3}').low, int)
    assert isinstance(RangeSettings.model_validate_json('{"low": 1.0, "high": 3}').low, float)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (SupernetSettings, {"channels": 6, "partial_channels": 4}, "allowed: 1, 2, 3, 6"),
        (SupernetSettings, {"cells": 2.0}, "valid integer"),
        (SupernetSettings, {"cells": "3"}, "valid integer"),
        (SupernetSettings, {"edge_normalization": 1}, "valid boolean"),
        (SGDSettings, {"learning_rate": float("nan")}, "finite number"),
        (SGDSettings, {"learning_rate": 0}, "greater than 0"),
        (SearchSettings, {"epochs": 5, "warmup_epochs": 5}, "allowed: 0 to 4"),
        (
            SearchSettings,
            {"order": "second", "architecture_fraction": 0.0},
            "'second' needs",
        ),
        (RangeSettings, {"low": 3, "high": 3}, "low: 3 is not below high 3"),
        (RangeSettings, {"low": 0, "high": 3, "log": True}, "log: needs low above 0"),
        (SweepSettings, {"parameters": {"prune.xi": ()}}, "has no values; needs at least one"),
        (SweepSettings, {"parameters": {"a": RangeSettings(low=0, high=1)}}, "needs a step"),
        (SweepSettings, {"seeds": ()}, "needs at least one, each once"),
        (SweepSettings, {"seeds": (1, 1)}, "needs at least one, each once"),
        (SweepSettings, {"seeds": (-1,)}, "seeds: -1 is not allowed; allowed: 0 to"),
        (SweepSettings, {"seeds": (2**63,)}, "is not allowed; allowed: 0 to"),
        (SupernetSettings, {"channels": 10**20}, "less than or equal to 10000"),
        (SweepSettings, {"trials": 3}, "a grid runs every combination"),
        (SweepSettings, {"sampler": {"name": "tpe"}}, "'tpe' needs trials"),
        (
            SweepSettings,
            {"early_stopping": {"name": "median"}, "objectives": ()},
            "'median' needs one objective, the largest validation_accuracy",
        ),
        (
            SweepSettings,
            {
                "early_stopping": {"name": "median"},
                "sampler": {"name": "tpe"},
                "trials": 3,
                "parameters": {"prune.xi": (0.5,)},
                "seeds": (0, 1),
            },
            "compares single trials",
        ),
        (
            SweepSettings,
            {"sampler": {"name": "nsga2"}, "trials": 3, "parameters": {"prune.xi": (0.5,)}},
            "'nsga2' needs several objectives",
        ),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(model, values, message):
    with pytest.raises(ValidationError, match=message):
        model(**values)


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GiB", 8 * 2**30), ("1.5 MiB", 3 * 2**19), ("20GB", 20 * 10**9), ("7B", 7)],
)
def test_a_size_is_read_as_bytes(text, count):
    assert size(text, "place") == count


@pytest.mark.parametrize("text", ["8", "GiB", "0GiB", "-1GiB", "8 gigs", "1iB", "8gib"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValidationError, match=r"memory_budget: .* is no size; allowed: device, or"):
        RuntimeSettings(memory_budget=text)


def test_micro_batches_divide_the_batch():
    with pytest.raises(ValidationError, match="accumulate: 3 does not divide"):
        SearchSettings(batch_size=8, accumulate=3)
    assert SearchSettings(batch_size="fit", accumulate=3).accumulate == 3
