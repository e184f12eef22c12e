import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from tests.bundles import Small, bundle_of, made_up, noise, probabilities
from tests.patience import PATIENCE
from zostudy.errors import ConfigError, TrialError
from zostudy.space.genotype import from_json
from zostudy.study.bundle import export as module
from zostudy.study.bundle import formats
from zostudy.study.bundle.export import export

FILES = [
    "README.md",
    "SHA256SUMS",
    "bundle.json",
    "genotype.json",
    "genotype.png",
    "labels.json",
    "metrics.json",
    "model.pt2",
    "predict.py",
    "preprocess.py",
    "preprocessing.json",
    "report.json",
    "versions.json",
    "weights.safetensors",
]


@pytest.fixture(scope="module")
def genotype():
    return made_up()


@pytest.fixture(scope="module")
def bundle():
    return bundle_of()


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("export") / "new" / "folder"
    assert export(bundle, output) == [output / name for name in FILES]
    return output


def test_the_folder_holds_the_files_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_the_program_normalizes_and_takes_a_batch_of_any_size(folder, bundle, count):
    program = torch.export.load(folder / "model.pt2").module()
    images = noise(count)
    given = program(images)
    assert not given.requires_grad
    torch.testing.assert_close(given, probabilities(bundle, images))


def test_nothing_in_the_program_is_pickled_or_names_this_machine(folder):
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    configs = [json.loads(data) for name, data in held.items() if name.endswith("_config.json")]
    entries = [entry for config in configs for entry in config["config"].values()]
    assert entries
    assert not any(entry["use_pickle"] for entry in entries)
    assert all(data == b"" for name, data in held.items() if name.endswith(".pt"))
    assert not any(str(Path(__file__).parents[3]).encode() in data for data in held.values())


def test_the_card_has_the_architecture_in_the_notation_of_public_code(folder, genotype):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert genotype.to_notation() in card.splitlines()


def test_the_weights_load_into_the_network(folder, bundle, genotype):
    weights = load_file(folder / "weights.safetensors")
    fresh = Small(3)
    fresh.load_state_dict(weights)
    for name, tensor in bundle.network.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor)
    with safe_open(folder / "weights.safetensors", "pt") as file:
        assert from_json(file.metadata()["genotype"]) == genotype


def test_genotype_labels_and_preprocessing_are_as_given(folder, bundle, genotype):
    def read(name):
        return (folder / name).read_text(encoding="utf-8")

    assert from_json(read("genotype.json")) == genotype
    with Image.open(folder / "genotype.png") as picture:
        assert picture.size[0] > 500
    assert json.loads(read("labels.json")) == list(bundle.classes)
    preprocessing = json.loads(read("preprocessing.json"))
    assert preprocessing["mean"] == [0.4, 0.5, 0.6]
    assert preprocessing["std"] == [0.2, 0.3, 0.25]
    assert preprocessing["shape"] == [3, 9, 12]
    assert preprocessing["range"] == [0, 255]


def test_the_card_says_where_it_came_from_and_keeps_its_tables_whole(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# ablation, trial 3\n")
    assert "| test_accuracy | 97.1235 |" in card
    assert "| test_accuracy | 96.5 | 0.25 |" in card
    assert "| who\\| | a b |" in card
    assert "cat, dog, α\\|β γ" in card
    assert f"| torch | {torch.__version__.split('+')[0]}" in card
    assert "sep_conv_3x3" in card


def example(folder):
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]


def run_example(folder, argument):
    """The card's example, in the folder, where neither zostudy nor MLflow can be imported."""
    refuse = "import sys\nsys.modules['zostudy'] = sys.modules['mlflow'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", refuse + example(folder), str(argument)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_the_card_s_example_classifies_a_picture_without_zostudy(folder, bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    found = probabilities(bundle, torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    best = int(found.argmax())
    wanted = f"{bundle.classes[best]}: {100 * found[best]:.1f} %\n"
    assert run_example(folder, tmp_path / "picture.png") == wanted


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_the_card_s_example_fits_pictures_of_any_number_of_channels(tmp_path, channels):
    export(bundle_of(channels, ("cat", "dog", "cow")), tmp_path / "out")
    if channels == 1:
        Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "x.jpeg")
        argument = tmp_path / "x.jpeg"
    else:
        argument = tmp_path / "x.npy"
        np.save(argument, noise(1, channels)[0].numpy())
    assert re.fullmatch(r"(cat|dog|cow): \d+\.\d %\n", run_example(tmp_path / "out", argument))


def test_the_network_is_left_as_it_was(bundle, tmp_path):
    bundle.network.train()
    export(bundle, tmp_path / "out")
    assert bundle.network.training
    assert all(weight.requires_grad for weight in bundle.network.parameters())


def test_the_same_network_gives_the_same_files(folder, bundle, tmp_path):
    export(bundle, tmp_path / "again")
    for name in ("weights.safetensors", "genotype.json", "genotype.png", "metrics.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_an_empty_folder_is_filled(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    assert [path.name for path in export(bundle, tmp_path / "empty")] == FILES


def test_a_folder_that_holds_something_is_refused_and_left_alone(bundle, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for output in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigError, match="exists already; allowed: a new folder, or an empty"):
            export(bundle, output)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_refused(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--output: .* cannot be made"):
        export(bundle, tmp_path / "file" / "sub" / "out")


def test_nothing_is_left_where_the_program_differs_from_the_network(bundle, tmp_path, monkeypatch):
    write = formats.write

    def write_another(program, bundle, chosen, folder):
        program.network.classifier.bias.data[0] += 0.01
        write(program, bundle, chosen, folder)
        program.network.classifier.bias.data[0] -= 0.01

    monkeypatch.setattr(formats, "write", write_another)
    with pytest.raises(TrialError, match=r"model.pt2 differs from the network by up to 0.00"):
        export(bundle, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(bundle, tmp_path, monkeypatch):
    def full(path, _text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(TrialError, match=r"^export: .* cannot be written .*No space left"):
        export(bundle, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
