"""Pictures of single trials: which have them, how much room they take, what is said of the rest."""

import io

import numpy as np
import pytest
from PIL import Image

from zostudy.config.loading import from_document
from zostudy.errors import ConfigError
from zostudy.study.delivery.run_pictures import Seen
from zostudy.study.points import Standing
from zostudy.study.report import page, trial_pictures
from zostudy.study.report.results import from_standing


def png(side=1500):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, format="PNG")
    return written.getvalue()


class Runs:
    """Stands for a store of runs: all of them have a mask and a course, but for `gone`."""

    def __init__(self, _uri):
        pass

    def of(self, run_id):
        if run_id == "gone":
            raise ConfigError("run 'gone' cannot be read")
        return Seen(
            {"prune": png(), "search": b"no picture"},
            {"evaluate": {"train_accuracy": [(1, 50.0), (2, 60.0)]}},
        )


FILE = from_document({"study": "s"})


def document(*run_ids, best=None):
    trials = [
        {"number": n, "state": "complete", "mlflow_run_id": run_id, "params": {}, "seed": n,
         "metrics": {}, "genotype": None}
        for n, run_id in enumerate(run_ids)
    ]  # fmt: skip
    empty = from_standing(FILE, Standing((), {}, (0,)))
    return empty | {"trials": trials, "best": best, "pareto": []}


@pytest.fixture
def stored(monkeypatch):
    monkeypatch.setattr(trial_pictures, "RunPictures", Runs)


@pytest.mark.usefixtures("stored")
def test_a_trial_has_its_pictures_smaller_and_what_is_damaged_is_left_out(tmp_path):
    found = document("a")
    seen = trial_pictures.trial_pictures(FILE, found)
    mask, course = seen.of[0]
    assert mask[1].startswith('<img alt="mask of trial 0" src="data:image/png;base64,')
    assert course[1].startswith("<svg")
    assert not seen.note
    text = page.write(FILE, found, tmp_path / "report", seen=seen)[0].read_text(encoding="utf-8")
    assert text.count("<img alt") == 1
    assert "mask, α and training curves of trial 0" in text


@pytest.mark.usefixtures("stored")
def test_the_best_come_first_while_there_is_room(monkeypatch):
    one = sum(len(e) for _, e in trial_pictures.trial_pictures(FILE, document("a")).of[0])
    monkeypatch.setattr(trial_pictures, "_ROOM", 2 * one + 100)
    seen = trial_pictures.trial_pictures(FILE, document("a", "b", "c", best={"number": 2}))
    assert sorted(seen.of) == [0, 2]
    assert seen.note.startswith("masks, α and training curves are shown of 2 of 3 trials: so that")


@pytest.mark.usefixtures("stored")
def test_a_run_that_is_gone_is_told():
    seen = trial_pictures.trial_pictures(FILE, document("gone", "a"))
    assert list(seen.of) == [1]
    assert seen.note.endswith("of 1 of 2 trials: run 'gone' cannot be read")


def test_without_a_store_there_are_no_pictures_and_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    seen = trial_pictures.trial_pictures(FILE, document("a"))
    assert not seen.of
    assert seen.note.startswith("pictures of single trials are not shown: tracking.uri: ")
    assert trial_pictures.trial_pictures(FILE, document()).note == ""
