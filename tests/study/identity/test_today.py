import json
import platform
import sys
from types import SimpleNamespace

import pytest
import torch

from zostudy import host
from zostudy.config.loading import from_document
from zostudy.study.identity.today import Today, content, files, made_of

MASK = {"source": "file", "path": "mask.json"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(**sections):
    return from_document({"study": "s", **sections}).config


@pytest.mark.usefixtures("here")
def test_a_study_without_files_names_none():
    assert files(config()) == {}


def test_a_mask_file_is_known_by_its_content_and_not_by_its_time(here):
    path = here / "mask.json"
    path.write_text(json.dumps({"a": 1}))
    first = files(config(prune=MASK))
    assert first.keys() == {"prune.path"}
    path.write_text(json.dumps({"a": 1}))
    assert files(config(prune=MASK)) == first
    path.write_text(json.dumps({"a": 2}))
    assert files(config(prune=MASK)) != first


@pytest.mark.usefixtures("here")
def test_a_mask_file_that_is_missing_has_an_empty_value():
    assert files(config(prune=MASK)) == {"prune.path": ""}


def test_a_table_is_known_by_its_content_where_it_is_used(here):
    table = {"by": "table", "path": "t.csv", "column": "c", "architecture_column": "a"}
    (here / "t.csv").write_text("a,c\n")
    sections = {
        "search_space": {"name": "nasbench201"},
        "evaluate": table,
        "sweep": {"objectives": []},
    }
    first = files(config(**sections))
    assert first.keys() == {"evaluate.path"}
    (here / "t.csv").write_text("a,c\nx,1\n")
    assert files(config(**sections)) != first
    assert files(config(evaluate=table | {"by": "training"})) == {}


def test_any_option_of_a_mask_source_that_names_a_file_counts(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    (here / "identity_masks.py").write_text(
        "from zostudy.registry import mask_source\n\n\n"
        '@mask_source("scored")\n'
        'def scored(context, *, scores: str, note: str = "none"):\n    """From scores."""\n'
    )
    (here / "scores.npy").write_bytes(b"1")
    sections = {
        "extensions": ["identity_masks"],
        "prune": {"source": "scored", "scores": "scores.npy"},
    }
    first = files(config(**sections))
    assert first.keys() == {"prune.scores"}
    (here / "scores.npy").write_bytes(b"2")
    assert files(config(**sections)) != first


def test_a_component_says_which_of_its_options_it_reads(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    (here / "identity_logs.py").write_text(
        "from zostudy.registry import mask_source\n\n\n"
        '@mask_source("logged", files=("scores",))\n'
        'def logged(context, *, scores: str, log: str = "log"):\n    """From scores."""\n'
    )
    for name in ("scores.npy", "log"):
        (here / name).write_bytes(b"1")
    prune = {"source": "logged", "scores": "scores.npy"}
    assert files(config(extensions=["identity_logs"], prune=prune)).keys() == {"prune.scores"}


def test_a_folder_is_known_by_the_names_and_contents_in_it(here):
    (here / "masks" / "deep").mkdir(parents=True)
    (here / "masks" / "deep" / "a").write_text("1")
    first = content(here / "masks")
    (here / "masks" / "deep" / "a").rename(here / "masks" / "deep" / "b")
    second = content(here / "masks")
    (here / "masks" / "deep" / "b").write_text("2")
    assert len({first, second, content(here / "masks")}) == 3


def test_device_types_count_and_not_their_numbers(here):
    today = Today(here, "cuda:1", {f"() {config().dataset.model_dump_json()}": "d"})
    assert today(config())["device"] == "cuda"
    assert today(config())["data"] == "d"


def test_who_only_reads_does_not_know_the_device(here):
    settings = config(runtime={"device": "cpu"})
    known = {f"() {settings.dataset.model_dump_json()}": "d"}
    assert Today(here, "", known)(settings)["device"] == ""
    assert Today(here, "study", known)(settings)["device"] == "cpu"


def test_ingredients_have_the_engine_and_extensions_only_where_there_are_some():
    found = made_of(config(), "d", "cpu")
    assert found.keys() == {"data", "engine", "device"}
    assert len(found["engine"]) == 64


@pytest.mark.usefixtures("here")
def test_hardware_is_processor_libraries_and_platform_where_latency_is_measured(monkeypatch):
    monkeypatch.setattr(host, "kind_of_processor", lambda: "Some Processor")
    monkeypatch.setattr(host, "processors", lambda: 3)
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="9.1"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as where it is not installed

    def hardware(device="cpu", **latency):
        measured = config(latency={"by": "measured", **latency})
        return made_of(measured, "", device)["hardware"]

    rest = f"3 usable processors, {platform.system()} {platform.machine()}"
    assert hardware() == f"Some Processor, torch {torch.__version__}, {rest}"
    assert hardware(runtime="onnxruntime") == (
        f"Some Processor, onnxruntime 9.1, torch {torch.__version__}, onnxscript of no known "
        f"version, {rest}"
    )
    assert hardware(device="") == ""
    assert "hardware" not in made_of(config(), "", "cpu")
