"""The programs of a bundle in every format, and the script that runs them."""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.bundles import bundle_of, noise, probabilities
from tests.patience import PATIENCE
from zostudy.errors import ConfigError, TrialError
from zostudy.evaluation import programs
from zostudy.study.bundle import export as module
from zostudy.study.bundle import formats
from zostudy.study.bundle.export import export
from zostudy.study.bundle.predict import opened


@pytest.fixture(scope="module")
def bundle():
    return bundle_of()


@pytest.fixture(scope="module")
def both(bundle, tmp_path_factory):
    """A bundle with every format, and the int8 program."""
    output = tmp_path_factory.mktemp("formats") / "both"
    export(bundle, output, formats.formats("pt2,onnx", int8=True))
    return output


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_onnx_program_takes_bytes_and_gives_the_network_s_probabilities(both, bundle, count):
    given = opened(both / "model.onnx")(noise(count).numpy())
    np.testing.assert_allclose(given, probabilities(bundle, noise(count)), atol=1e-6)


def test_the_report_has_every_program_on_all_test_pictures(both, bundle):
    found = report(both)
    right = probabilities(bundle, bundle.test.images).argmax(1) == bundle.test.labels
    assert found["test_pictures"] == len(bundle.test)
    assert found["accuracy"] == 100 * float(right.double().mean())
    assert set(found["programs"]) == {"model.pt2", "model.onnx", "model-int8.onnx"}
    for name in ("model.pt2", "model.onnx"):
        row = found["programs"][name]
        assert (row["accuracy"], row["different_labels"]) == (found["accuracy"], 0)
        assert row["largest_difference"] <= 1e-4
    for row in found["latency"]["measured"]:
        assert 0 < row["median_ms"] <= row["p95_ms"]


def test_the_int8_program_holds_int8_weights_a_scale_for_each_channel(both):
    model = onnx.load(both / "model-int8.onnx")
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    quantized = [a for a in held.values() if a.dtype == np.int8 and a.ndim == 4]
    assert [a.shape[0] for a in quantized] == [4]
    scales = [a for name, a in held.items() if name.endswith("_scale") and a.shape == (4,)]
    assert scales
    off = report(both)["programs"]["model-int8.onnx"]["largest_difference"]
    assert 0 < off < 0.05  # it is quantized, and little is lost


def test_no_onnx_program_names_code_or_this_machine(both):
    for name in ("model.onnx", "model-int8.onnx"):
        content = (both / name).read_bytes()
        assert not re.search(rb"\.py\b", content)
        assert str(Path(__file__).parents[3]).encode() not in content


def test_the_card_states_accuracy_and_latency_of_every_program(both):
    card = (both / "README.md").read_text(encoding="utf-8")
    for name, row in report(both)["programs"].items():
        rows = [line for line in card.splitlines() if line.startswith(f"| `{name}` |")]
        (line,) = (line for line in rows if line.count("|") > 5)
        assert f"| {row['accuracy']:.2f} |" in line


def test_a_bundle_lists_the_checksum_of_every_file(both):
    lines = (both / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines)
    names = {path.name for path in both.iterdir()} - {"SHA256SUMS", "__pycache__"}
    assert set(listed) == names
    for name, wanted in listed.items():
        assert hashlib.sha256((both / name).read_bytes()).hexdigest() == wanted


def run_script(folder, *arguments):
    """predict.py of a bundle, where neither torch nor zostudy nor what wrote ONNX is there."""
    refuse = (
        "import runpy, sys\n"
        "for name in ('torch', 'zostudy', 'onnx', 'onnxscript'): sys.modules[name] = None\n"
        "sys.path.insert(0, sys.argv[1].rpartition('/')[0])\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", refuse, str(folder / "predict.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


def test_the_script_answers_what_it_can_read_and_names_the_rest(both, bundle, tmp_path):
    pixels = noise(1)[0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("no picture")
    done = run_script(both, tmp_path / "text.jpg", tmp_path / "good.png")
    found = probabilities(bundle, pixels[None])[0]
    label = " ".join(bundle.classes[int(found.argmax())].split())
    assert done.stdout == f"{tmp_path / 'good.png'}: {label} {100 * found.max():.1f} %\n"
    assert done.stderr.startswith(f"{tmp_path / 'text.jpg'}: it is damaged, or in none of")
    assert done.returncode == 1


def test_the_script_says_which_file_has_a_changed_byte(both, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(both, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    done = run_script(copy, "x.png")
    assert (done.returncode, done.stderr) == (2, "error: not as it was written: model.onnx\n")


@pytest.mark.parametrize(
    ("text", "int8", "message"),
    [
        ("tflite", False, "--format: 'tflite' is unknown; allowed: pt2, onnx"),
        ("pt2", True, "--int8: quantizes the ONNX program, and --format is pt2; .* pt2,onnx"),
    ],
)
def test_formats_that_cannot_be_are_refused(text, int8, message):
    with pytest.raises(ConfigError, match=message):
        formats.formats(text, int8=int8)


def test_a_format_whose_library_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr(programs, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ConfigError, match=r"^--format: onnx needs onnxscript, .*pip install 'zos"):
        formats.formats("pt2,onnx")
    assert formats.formats("pt2") == formats.Formats()


def test_too_few_pictures_to_calibrate_are_refused_and_nothing_is_written(bundle, tmp_path):
    few = dataclasses.replace(bundle, train=bundle.train.select(torch.arange(31)))
    with pytest.raises(ConfigError, match=r"31 training pictures are too few .* at least 32"):
        export(few, tmp_path / "out", formats.formats("onnx", int8=True))
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_a_bundle_and_nothing_else(both, bundle, tmp_path):
    shutil.copytree(both, tmp_path / "out")
    (tmp_path / "out" / "labels.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"exists already; .*; --force replaces a bundle"):
        export(bundle, tmp_path / "out")
    export(bundle, tmp_path / "out", force=True)
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == list(bundle.classes)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds mine.txt, which is no part of a bundle"):
        export(bundle, tmp_path / "out", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_forced_export_that_fails_leaves_the_earlier_bundle(both, bundle, tmp_path, monkeypatch):
    shutil.copytree(both, tmp_path / "out")
    before = (tmp_path / "out" / "SHA256SUMS").read_bytes()

    def fails(*_):
        raise TrialError("differs")

    monkeypatch.setattr(module, "verified", fails)
    with pytest.raises(TrialError, match="differs"):
        export(bundle, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "SHA256SUMS").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
