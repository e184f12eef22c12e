"""Commands that use a bundle."""

import csv
import io
import json
import shutil
import socket

import numpy as np
import pytest
from PIL import Image

from tests.bundles import bundle_of, noise, probabilities
from zostudy.study.bundle import reading
from zostudy.study.bundle.export import export
from zostudy.study.bundle.formats import formats


@pytest.fixture(scope="module")
def bundle():
    return bundle_of(classes=("cat", "dog", "cow"))


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    export(bundle, output, formats("pt2,onnx"))
    return output


@pytest.fixture
def pictures(tmp_path):
    """Three pictures as files, the names of which are returned."""
    for index, pixels in enumerate(noise(3)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    return ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("program", ["model.onnx", "model.pt2"])
def test_predict_gives_the_network_s_probabilities_as_json(
    zostudy, folder, bundle, pictures, program
):
    code, out, err = zostudy("predict", folder, *pictures, "--json", "--program", program)
    found = json.loads(out)
    assert (code, err, found["program"], found["unreadable"]) == (0, "", program, [])
    wanted = probabilities(bundle, noise(3)).numpy()
    given = [row["probabilities"] for row in found["pictures"]]
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    labels = [found["labels"][index] for index in wanted.argmax(1)]
    assert [row["label"] for row in found["pictures"]] == labels
    assert [row["picture"] for row in found["pictures"]] == pictures


def test_unreadable_pictures_are_named_and_the_rest_is_answered(
    zostudy, folder, pictures, tmp_path
):
    (tmp_path / "text.jpg").write_text("no picture")
    given = ["text.jpg", *pictures, "gone.png"]
    code, out, err = zostudy("predict", folder, *given, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1
    assert [row["picture"] for row in rows] == pictures
    for row in rows:
        assert row["probability"] == row[row["label"]]
        assert sum(float(row[name]) for name in ("cat", "dog", "cow")) == pytest.approx(1, abs=1e-5)
    first, second = err.splitlines()
    assert first.startswith("text.jpg: it is damaged, or in none of the formats")
    assert second == "gone.png: No such file or directory"
    code, out, err = zostudy("predict", folder, "text.jpg")
    assert (code, out) == (1, "")


def test_predict_prints_a_table(zostudy, folder, pictures):
    code, out, _ = zostudy("predict", folder, *pictures)
    assert code == 0
    assert all(name in out for name in pictures)


def test_a_changed_byte_is_told_by_its_file(zostudy, folder, pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    (copy / "labels.json").unlink()
    for command in (["predict", copy, *pictures], ["latency", copy], ["serve", copy]):
        code, out, err = zostudy(*command)
        assert (code, out) == (2, "")
        wanted = "not as it was written: labels.json, weights.safetensors; export it again"
        assert err == f"error: {copy}: {wanted}\n"


def test_what_is_no_bundle_or_not_in_it_is_refused(zostudy, folder, pictures, tmp_path):
    code, _, err = zostudy("predict", tmp_path, *pictures)
    assert (code, err.count("\n")) == (2, 1)
    assert "is no bundle" in err
    code, _, err = zostudy("predict", folder, *pictures, "--program", "model-int8.onnx")
    assert code == 2
    assert err.startswith("error: --program: 'model-int8.onnx' is not in")
    assert "allowed: model.onnx, model.pt2" in err
    code, _, err = zostudy("predict", folder, *pictures, "--json", "--csv")
    assert (code, err) == (2, "error: --csv: is not allowed with --json; allowed: one of them\n")


def test_without_onnxruntime_torch_answers(zostudy, folder, pictures, monkeypatch):
    monkeypatch.setattr(reading, "find_spec", lambda _: None)
    _, out, _ = zostudy("predict", folder, *pictures, "--json")
    assert json.loads(out)["program"] == "model.pt2"
    code, _, err = zostudy("predict", folder, *pictures, "--program", "model.onnx")
    assert code == 2
    assert "model.onnx needs onnxruntime, which cannot be imported; pip install" in err


def test_latency_is_told_by_program_and_batch_with_the_hardware(zostudy, folder):
    given = ("--batch", "1,4", "--threads", 1, "--runs", 5, "--warmup", 1)
    code, out, _ = zostudy("latency", folder, *given, "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found["hardware"]) == {"processor", "usable_processors", "platform"}
    keys = [(row["program"], row["batch"]) for row in found["measured"]]
    assert keys == [("model.onnx", 1), ("model.onnx", 4), ("model.pt2", 1), ("model.pt2", 4)]
    for row in found["measured"]:
        assert (row["threads"], row["runs"], row["warmup"]) == (1, 5, 1)
        assert 0 < row["median_ms"] <= row["p95_ms"]
    runtimes = [row["runtime"].split()[0] for row in found["measured"]]
    assert runtimes == ["onnxruntime", "onnxruntime", "torch", "torch"]
    code, out, _ = zostudy("latency", folder, *given)
    assert code == 0
    assert "model.pt2" in out


@pytest.mark.parametrize("batch", ["0", "1,x", "", "5000"])
def test_a_wrong_batch_size_is_refused(zostudy, folder, batch):
    code, _, err = zostudy("latency", folder, "--batch", batch)
    assert code == 2
    assert "is no batch size; allowed: 1 to 4096" in err


def test_serve_tells_a_taken_port_in_one_line(zostudy, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = zostudy("serve", folder, "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: --port: {port} is not free on 127.0.0.1 (")
