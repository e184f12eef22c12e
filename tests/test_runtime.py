import itertools

import pytest
import torch

from zostudy import host
from zostudy.config.loading import from_document
from zostudy.config.settings import RuntimeSettings
from zostudy.errors import ConfigError
from zostudy.runtime import crowding, environment, prepare, seeded


def test_the_same_key_gives_the_same_stream_and_every_other_key_another():
    keys = [(0,), (1,), (0, 0), (0, "a"), (0, "b"), (0, "a", 0), (0, "a", 0, 0), (0, "a", 1)]
    drawn = [torch.rand(4, generator=seeded("cpu", *key)) for key in keys]
    again = [torch.rand(4, generator=seeded("cpu", *key)) for key in keys]
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match=r"runtime\.device"):
        prepare(RuntimeSettings(device="cuda:99"))


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:x"])
def test_a_word_that_is_no_device_is_refused_with_the_file(device):
    with pytest.raises(ConfigError, match=r"runtime\.device: '.*' is not allowed: needs auto"):
        from_document({"study": "s", "runtime": {"device": device}})


@pytest.mark.parametrize(
    ("settings", "rounded", "repeatable"),
    [
        ({}, False, True),
        ({"precision": "bf16"}, False, True),
        ({"precision": "tf32"}, True, True),
        ({"deterministic": False}, False, True),  # it is for a GPU
    ],
)
def test_precision_and_repeatability_are_what_the_settings_say(settings, rounded, repeatable):
    try:
        prepare(RuntimeSettings(device="cpu", **settings))
        assert torch.backends.cudnn.allow_tf32 is rounded
        assert torch.backends.cuda.matmul.allow_tf32 is rounded
        assert torch.are_deterministic_algorithms_enabled() is repeatable
        assert torch.backends.cudnn.benchmark is not repeatable
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        prepare(RuntimeSettings(device="cpu"))


def test_auto_is_cuda_where_there_is_one():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert prepare(RuntimeSettings()).device.type == expected


def test_the_environment_names_the_versions_that_matter():
    assert {"torch", "python", "zostudy", "cpu_count"} <= set(environment())


@pytest.mark.parametrize(
    ("threads", "workers", "expected"),
    [
        (2, 1, ""),
        (1, 2, ""),
        (2, 2, "4 threads of 2 trials at a time share the 2 processors that may be used here"),
        (3, 1, "3 threads of 1 trial at a time share the 2 processors that may be used here"),
    ],
)
def test_more_threads_than_processors_are_told(threads, workers, expected, monkeypatch):
    monkeypatch.setattr(host, "processors", lambda: 2)
    told = crowding(RuntimeSettings(device="cpu", threads=threads), workers)
    assert told.partition(";")[0] == expected


def test_threads_count_for_trials_on_the_processor_only(monkeypatch):
    monkeypatch.setattr(host, "processors", lambda: 1)
    assert crowding(RuntimeSettings(device="cuda", threads=8), 2) == ""
