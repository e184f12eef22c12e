"""The evaluation of a trial where a table stands for training: its key and its values."""

import dataclasses

import pytest
import torch

from tests.tables import SPACE, made_up, settings, write
from zostudy.config.settings import RuntimeSettings, SpaceSettings, TrialConfig
from zostudy.evaluation.table import read
from zostudy.runtime import Runtime
from zostudy.space.genotype import parse
from zostudy.stage import StageContext
from zostudy.study.planning.peak_memory import Predictions
from zostudy.study.trial.phases import TrialPhases

BEST = parse(made_up()[-1][0], SPACE)
RUNTIME = Runtime(torch.device("cpu"))


@pytest.fixture
def phases(tmp_path, small_dataset):
    """Makes the phases of a trial by table."""

    def made(seed=0, name="made_up.csv", rows=None, **changes):
        table = settings(write(tmp_path / name, rows or made_up()), cells=1, channels=2)
        evaluate = table.model_copy(update=changes)
        config = TrialConfig(
            evaluate=evaluate, search_space=SpaceSettings(name="tiny"), runtime=RuntimeSettings()
        )
        known = read(evaluate, SPACE)
        return TrialPhases(config, seed, small_dataset, Predictions(RUNTIME), known)

    return made


def test_the_values_are_the_place_in_the_table_and_the_size_of_the_network(phases):
    phase = phases().evaluate(BEST)
    values = phase.compute(StageContext(RUNTIME, seed=0)).values
    assert (values["test_accuracy"], values["regret"], values["rank"]) == (90.0, 0.0, 1)
    assert values["parameters"] > 0
    assert values["macs"] > 0
    assert phase.predict() == 0


def test_seed_and_place_of_the_table_change_nothing(phases):
    key = phases().evaluate(BEST).key
    assert phases(seed=5).evaluate(BEST).key == key
    assert phases(name="elsewhere.csv").evaluate(BEST).key == key


def test_content_column_genotype_and_size_of_the_network_each_give_another_key(phases):
    other = made_up()
    other[1][1] = "12"
    keys = {
        phases().evaluate(BEST).key,
        phases().evaluate(parse(other[1][0], SPACE)).key,
        phases(rows=other).evaluate(BEST).key,
        phases(column="validation").evaluate(BEST).key,
        phases(validation_column="validation").evaluate(BEST).key,
        phases(channels=4).evaluate(BEST).key,
    }
    assert len(keys) == 6


def test_settings_of_training_change_nothing_where_a_table_tells(phases):
    key = phases().evaluate(BEST).key
    assert phases(epochs=3).evaluate(BEST).key == key
    trained = dataclasses.replace(phases(), source=None)
    assert trained.evaluate(BEST).key != key
