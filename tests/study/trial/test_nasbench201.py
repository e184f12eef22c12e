"""A whole study on the NAS-Bench-201 space, small, through the command line."""

import pytest

from tests.study.trial.tiny import results, run, write


@pytest.mark.slow
def test_a_study_prunes_searches_and_trains_within_the_memory_predicted(tmp_path):
    write(
        tmp_path,
        search_space={"name": "nasbench201"},
        supernet={"cells": 1, "channels": 4},
        prune={"images": 32, "batch_size": 32, "repeats": 2},
        search={"epochs": 2, "warmup_epochs": 1, "batch_size": 256},
        evaluate={"cells": 1, "channels": 2, "epochs": 1, "batch_size": 256},
        sweep={"parameters": {"technique": ["etenas", "zero-one-shot"]}, "seeds": [1]},
    )
    run(tmp_path)
    document = results(tmp_path)
    assert [trial["state"] for trial in document["trials"]] == ["complete"] * 2
    for trial in document["trials"]:
        assert trial["metrics"]["evaluate_predicted_ratio"] == pytest.approx(1, abs=0.01)
    assert document["trials"][1]["metrics"]["search_predicted_ratio"] == pytest.approx(1, abs=0.01)
