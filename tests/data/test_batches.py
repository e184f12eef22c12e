import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import augmentation as reference
from zostudy.config.settings import DatasetSettings
from zostudy.config.training import AugmentSettings
from zostudy.data.batches import (
    evaluation_batches,
    number_of_training_batches,
    training_batches,
)
from zostudy.data.dataset import load
from zostudy.data.sources import Pictures

CPU = torch.device("cpu")
PLAIN = AugmentSettings(crop_padding=0, flip=False)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load(DatasetSettings())


@pytest.fixture(scope="module")
def colour(digits):
    """Random colour pictures, 8 high and 10 wide, of which each label is the position."""
    images = torch.randint(0, 256, (21, 3, 8, 10), generator=seeded(), dtype=torch.uint8)
    return dataclasses.replace(
        digits,
        train=Pictures(images, torch.arange(21)),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
    )


def epoch(dataset, augment, seed=0, batch_size=6, pictures=None, device=CPU):
    part = dataset.train if pictures is None else pictures
    return list(training_batches(dataset, part, batch_size, augment, seeded(seed), device))


@pytest.mark.parametrize("padding", [0, 1, 4, 12])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("cutout", [0, 3, 4, 16])
def test_augmentation_is_that_of_one_picture_at_a_time(colour, padding, flip, cutout):
    augment = AugmentSettings(crop_padding=padding, flip=flip, cutout=cutout)
    draws = seeded(3)
    order = torch.randperm(21, generator=draws).tolist()
    for images, labels in epoch(colour, augment, seed=3):
        count = len(labels)
        assert labels.tolist() == order[:count]
        order = order[count:]
        offsets, flipped = torch.zeros(2, count, dtype=torch.int64), torch.zeros(count)
        if padding or flip:
            offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=draws)[..., 0]
            flipped = torch.rand(count, 1, generator=draws)[:, 0] < 0.5
        centres = [
            torch.randint(0, side, (count, 1), generator=draws) for side in (8, 10) if cutout
        ]
        for index, label in enumerate(labels.tolist()):
            expected = reference.augmented(
                colour.train.images[label].tolist(),
                padding,
                offsets[:, index].tolist(),
                flip and flipped[index],
                colour.mean,
                colour.std,
            )
            if cutout:
                centre = [int(drawn[index]) for drawn in centres]
                expected = reference.cut_out(expected, cutout, centre)
            torch.testing.assert_close(images[index], torch.tensor(expected))
    assert order[1:] == []


def test_every_crop_and_both_orientations_occur(digits):
    corner = torch.zeros(600, 1, 8, 8, dtype=torch.uint8)
    corner[:, 0, 3, 2] = 255
    pictures = Pictures(corner, torch.zeros(600, dtype=torch.int64))
    augment = AugmentSettings(crop_padding=1)
    ((images, _),) = epoch(digits, augment, batch_size=600, pictures=pictures)
    places = torch.nonzero(images[:, 0] > images.min())[:, 1:]
    assert {tuple(place) for place in places.tolist()} == {
        (y, x) for y in (2, 3, 4) for x in (1, 2, 3, 4, 5, 6)
    }


def test_squares_are_centred_uniformly_and_clipped_at_the_border(digits):
    black = Pictures(torch.zeros(8000, 1, 8, 8, dtype=torch.uint8), torch.zeros(8000).long())
    augment = AugmentSettings(crop_padding=0, flip=False, cutout=2)
    ((images, _),) = epoch(digits, augment, batch_size=8000, pictures=black)
    share = (images == 0).float().mean(0)[0]
    covering = torch.tensor([2, 2, 2, 2, 2, 2, 2, 1]) / 8  # of 8 centres, those that reach a row
    torch.testing.assert_close(share, torch.outer(covering, covering), atol=0.02, rtol=0)


def test_training_batches_are_normalized_to_mean_zero_and_deviation_one(digits):
    images = torch.cat([images for images, _ in epoch(digits, None, batch_size=100)])
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-3)


def test_an_epoch_visits_every_picture_once_in_an_order_that_the_seed_fixes(colour):
    def order(seed):
        return torch.cat([labels for _, labels in epoch(colour, None, seed)]).tolist()

    assert sorted(order(0)) == list(range(21))
    assert order(0) == order(0) != order(1)


def test_a_generator_restored_between_epochs_gives_the_same_bits(colour):
    augment = AugmentSettings(cutout=4)
    generator = seeded(5)
    first = [*training_batches(colour, colour.train, 6, augment, generator, CPU)]
    state = generator.get_state()
    second = [*training_batches(colour, colour.train, 6, augment, generator, CPU)]
    resumed = torch.Generator()
    resumed.set_state(state)
    again = [*training_batches(colour, colour.train, 6, augment, resumed, CPU)]
    for (images, labels), (images_again, labels_again) in zip(second, again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)
    assert not torch.equal(first[0][0], second[0][0])


def test_training_draws_from_no_global_generator_and_changes_no_picture(colour):
    state, before = torch.random.get_rng_state(), colour.train.images.clone()
    epoch(colour, AugmentSettings(cutout=4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(before, colour.train.images)


@given(count=st.integers(2, 40), batch_size=st.integers(2, 50))
@settings(max_examples=40, deadline=None)
def test_no_training_batch_holds_a_single_picture(colour, count, batch_size):
    pictures = colour.train.select(torch.arange(count) % 21)
    sizes = [len(labels) for _, labels in epoch(colour, None, 0, batch_size, pictures)]
    assert len(sizes) == number_of_training_batches(count, batch_size) >= 1
    assert all(2 <= size <= batch_size for size in sizes)
    assert count - 1 <= sum(sizes) <= count


def test_evaluation_sees_every_picture_in_order_even_a_single_one_at_the_end(colour):
    batches = list(evaluation_batches(colour, colour.train, 10, CPU))
    assert [len(labels) for _, labels in batches] == [10, 10, 1]
    images = torch.cat([images for images, _ in batches])
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(21))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (colour.mean, colour.std))
    torch.testing.assert_close(images, (colour.train.images / 255 - mean) / std)


@pytest.mark.parametrize("augment", [None, PLAIN, AugmentSettings(cutout=4)])
def test_colour_batches_are_channels_last_in_memory(colour, augment):
    for images, labels in epoch(colour, augment):
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_those_on_the_cpu(colour):
    augment = AugmentSettings(cutout=4)
    on_gpu = epoch(colour, augment, device=torch.device("cuda"))
    for (images, labels), (gpu_images, gpu_labels) in zip(
        epoch(colour, augment), on_gpu, strict=True
    ):
        assert gpu_images.is_cuda
        torch.testing.assert_close(gpu_images.cpu(), images)
        assert torch.equal(gpu_labels.cpu(), labels)
