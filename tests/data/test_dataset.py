import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from zostudy import registry
from zostudy.config.settings import DatasetSettings
from zostudy.data import dataset as module
from zostudy.data.dataset import load
from zostudy.data.sources import Pictures, Source
from zostudy.errors import ConfigError, DataError

EXTENSION = '''
import torch
from zostudy.data.sources import Pictures, Source
from zostudy.registry import dataset


@dataset("stripes")
def stripes(*, side: int = 8, label: int = 0, own_test: bool = True, rare: int = 10) -> Source:
    """Two classes, one of them rare, of random grey levels."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> Pictures:
        images = torch.randint(0, 256, (count + rare, 1, side, 9), generator=generator)
        labels = torch.tensor([0] * count + [1] * rare)
        labels[0] = label
        return Pictures(images.to(torch.uint8), labels)

    return Source(part(10), part(4) if own_test else None, ("often", "rare"))
'''


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """Loads the data set of an extension with some options."""
    (tmp_path / "striped.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()

    def loaded(**values):
        fields = set(DatasetSettings.model_fields)
        settings = {key: values.pop(key) for key in list(values) if key in fields}
        return load(DatasetSettings(name="stripes", options=values, **settings), ("striped",))

    return loaded


@pytest.fixture(scope="module")
def digits():
    return load(DatasetSettings())


def test_digits_are_split_in_disjoint_stratified_parts(digits):
    parts = digits.splits
    everything = sorted(parts["train"] + parts["validation"] + parts["test"])
    assert everything == list(range(1797))
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1151, 287, 359)
    for pictures in (digits.train, digits.validation, digits.test):
        share = torch.bincount(pictures.labels) / len(pictures)
        assert (share - 0.1).abs().max() < 0.01
    assert (digits.channels, digits.height, digits.width) == (1, 8, 8)
    assert digits.classes == tuple("0123456789")


def test_search_parts_are_stratified_halves_of_the_training_part(digits):
    weights, architecture = digits.search_parts(0.5)
    assert len(weights) + len(architecture) == len(digits.train)
    difference = torch.bincount(weights.labels) - torch.bincount(architecture.labels)
    assert difference.abs().max() <= 1
    again = digits.search_parts(0.5)
    assert torch.equal(again[0].images, weights.images)
    assert torch.equal(again[1].labels, architecture.labels)


def test_without_an_architecture_fraction_both_search_on_everything(digits):
    assert digits.search_parts(0.0) == (digits.train, digits.train)
    assert digits.record(0.0)["weights"] == digits.record(0.0)["architecture"]


def test_the_record_names_the_stored_pictures_of_every_part(digits):
    record = digits.record(0.25)
    assert sorted(record["weights"] + record["architecture"]) == record["train"]
    names = ("weights", "architecture", "validation", "test")
    assert sorted(index for name in names for index in record[name]) == list(range(1797))
    stored = load_source()
    for name, pictures in zip(("weights", "architecture"), digits.search_parts(0.25), strict=True):
        assert torch.equal(stored.images[record[name]], pictures.images)
    assert torch.equal(stored.images[record["test"]], digits.test.images)


def load_source():
    return registry.find("dataset", "digits", "dataset.name").load()().train


def test_mean_and_deviation_are_those_of_the_training_part(digits):
    pixels = digits.train.images.double() / 255
    assert digits.mean == pytest.approx([float(pixels.mean())])
    assert digits.std == pytest.approx([float(pixels.std(correction=0))])


def test_a_constant_channel_has_a_deviation_of_one_grey_level():
    flat = Pictures(torch.full((4, 3, 8, 8), 51, dtype=torch.uint8), torch.zeros(4).long())
    mean, std = module._statistics(flat)
    assert mean == pytest.approx((0.2,) * 3)
    assert std == pytest.approx((1 / 255,) * 3)


def test_the_seed_fixes_splits_and_digest(digits):
    again, other = load(DatasetSettings()), load(DatasetSettings(seed=1))
    assert again.digest == digits.digest
    assert again.splits == digits.splits
    assert other.digest != digits.digest
    assert other.splits["test"] != digits.splits["test"]
    assert not torch.equal(other.search_parts(0.5)[0].labels, digits.search_parts(0.5)[0].labels)


def test_with_splits_by_seed_each_trial_has_its_own_and_all_have_the_same_test_part(digits):
    settings = DatasetSettings(splits="by_seed")
    shared, *own = [load(settings, seed=seed) for seed in (None, 0, 1)]
    again = load(settings, seed=1)
    assert (shared.splits, shared.digest) == (digits.splits, digits.digest)
    assert (again.splits, again.digest) == (own[1].splits, own[1].digest)
    for part in ("train", "validation"):
        assert len({one.splits[part] for one in (shared, *own)}) == 3
        assert len({len(one.splits[part]) for one in (shared, *own)}) == 1
    assert {one.splits["test"] for one in own} == {shared.splits["test"]}
    assert len({one.digest for one in (shared, *own)}) == 3
    assert {one.study_digest for one in (shared, *own)} == {digits.digest}
    assert own[0].record(0.5)["architecture"] != own[1].record(0.5)["architecture"]
    for one in own:
        parts = [set(one.splits[part]) for part in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_where_trials_share_the_split_their_seed_changes_nothing(digits):
    assert load(DatasetSettings(), seed=5).digest == digits.digest


def test_without_a_validation_part_the_split_of_the_search_is_drawn_by_seed_all_the_same():
    settings = DatasetSettings(splits="by_seed", validation_fraction=0)
    one, other = load(settings, seed=0), load(settings, seed=1)
    assert one.splits == other.splits
    assert one.record(0.5) != other.record(0.5)
    assert one.digest != other.digest


def test_the_validation_fraction_leaves_the_test_part_as_it_is(digits):
    whole = load(DatasetSettings(validation_fraction=0.0))
    assert whole.validation is None
    assert whole.splits["test"] == digits.splits["test"]
    assert len(whole.train) == 1797 - 359
    assert "validation" not in whole.record(0.5)


def test_the_digest_changes_with_a_single_pixel_or_label_or_class_name():
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    source = Source(Pictures(images, torch.tensor([0, 0, 1, 1])), None, ("a", "b"))
    splits = {"train": (0, 1, 2), "test": (3,)}
    changed = images.clone()
    changed[3, 0, 7, 7] = 1
    other_labels = Pictures(images, torch.tensor([0, 1, 1, 1]))
    digests = {
        module._digest(source, splits),
        module._digest(
            dataclasses.replace(source, train=Pictures(changed, source.train.labels)), splits
        ),
        module._digest(dataclasses.replace(source, train=other_labels), splits),
        module._digest(dataclasses.replace(source, classes=("a", "c")), splits),
        module._digest(dataclasses.replace(source, test=source.train), splits),
        module._digest(source, {"train": (0, 1, 3), "test": (2,)}),
    }
    assert len(digests) == 6
    assert all(len(digest) == 64 for digest in digests)


def test_an_own_test_part_is_kept_whole(stripes):
    dataset = stripes(rare=8)
    assert dataset.splits["test"] == tuple(range(12))
    assert len(dataset.test) == 12
    assert len(dataset.train) + len(dataset.validation) == 18
    assert (dataset.height, dataset.width) == (8, 9)


def test_a_class_just_large_enough_is_in_every_part(stripes):
    dataset = stripes(own_test=False, rare=4)
    weights, architecture = dataset.search_parts(0.9)
    for pictures in (weights, architecture, dataset.validation, dataset.test):
        assert int((pictures.labels == 1).sum()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"own_test": False, "rare": 3}, "'rare' has 3 pictures; needs at least 4 .* test part"),
        ({"rare": 2}, "'rare' has 2 pictures; needs at least 3 .* validation part"),
        (
            {"rare": 1, "validation_fraction": 0.0},
            "'stripes' has 2 classes, 'rare' with 1 training pictures; needs at least 2",
        ),
        ({"side": 7}, "pictures of 'stripes' have 9×7 pixels; needs at least 8×8"),
        ({"label": 2}, "training part of 'stripes' has label 2; allowed: 0 to 1"),
        ({"label": -1}, "training part of 'stripes' has label -1; allowed: 0 to 1"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused(stripes, values, message):
    with pytest.raises(DataError, match=message):
        stripes(**values)


def test_an_unknown_data_set_or_option_is_a_config_error(stripes):
    with pytest.raises(ConfigError, match=r"dataset\.name: unknown dataset 'digit'; did you mean"):
        load(DatasetSettings(name="digit"))
    with pytest.raises(ConfigError, match=r"dataset\.sides: 'stripes' has no such option"):
        stripes(sides=3)


def test_a_class_of_one_picture_in_a_folder_is_refused_before_any_split(tmp_path):
    for name, count in (("a", 5), ("b", 1)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / f"{index}.png")
    with pytest.raises(DataError, match=r"class 'b' has 1 picture"):
        load(DatasetSettings(name="image_folder", options={"root": str(tmp_path)}))


def test_an_outline_has_the_same_parts_and_no_pixels(digits):
    outline = module.outline(DatasetSettings())
    assert outline.splits == digits.splits
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(outline, part), getattr(digits, part)
        assert ours.images.is_meta
        assert ours.images.shape == theirs.images.shape
        assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_outlined_without_its_files(name, classes, tmp_path):
    options = {"root": str(tmp_path / "nowhere")}
    outline = module.outline(DatasetSettings(name=name, options=options))
    assert outline.train.images.shape == (40_000, 3, 32, 32)
    assert len(outline.test) == 10_000
    assert len(outline.classes) == classes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("colours", [("L", "L"), ("L", "RGB")])
def test_a_folders_outline_has_the_shape_of_its_pictures(tmp_path, colours):
    for name, mode in zip("ab", colours, strict=True):
        (tmp_path / name).mkdir()
        for index in range(9):
            Image.new(mode, (11, 12)).save(tmp_path / name / f"{index}.png")
    for options in ({}, {"resize": 9}, {"channels": "colour"}, {"channels": "grey"}):
        settings = DatasetSettings(name="image_folder", options={"root": str(tmp_path), **options})
        outline, whole = module.outline(settings), load(settings)
        assert outline.train.images.shape == whole.train.images.shape
        assert outline.train.images.is_meta
        assert outline.splits == whole.splits
