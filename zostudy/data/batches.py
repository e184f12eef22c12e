"""Batches on the device: normalized, and augmented as a whole.

A training batch is cropped and flipped as bytes, normalized, and then cut out, so that the border
of a crop is black and the cut-out square is the mean (the order of the public DARTS code). Each of
these is index arithmetic over the whole batch. Every draw comes from one CPU generator; its state
between two epochs is all that an exact resume needs.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from zostudy.config.training import AugmentSettings
from zostudy.data.dataset import Dataset
from zostudy.data.sources import Pictures
from zostudy.runtime import sent

Images = Float[Tensor, "batch channels height width"]
Batch = tuple[Images, Int64[Tensor, " batch"]]


def number_of_training_batches(pictures: int, batch_size: int) -> int:
    """Batches of an epoch of :func:`training_batches`.

    Args:
        pictures: Pictures in the part.
        batch_size: Pictures in a batch.
    """
    whole, left = divmod(pictures, batch_size)
    return whole + (left > 1)


def training_batches(
    dataset: Dataset,
    pictures: Pictures,
    batch_size: int,
    augment: AugmentSettings | None,
    generator: torch.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    """One epoch in random order.

    The last batch holds what is left over; a single picture left over is dropped, because it has
    no batch statistics. A part smaller than a batch gives one batch of everything.

    Args:
        dataset: Whose mean and standard deviation normalize.
        pictures: The part to go through.
        batch_size: Pictures in a batch.
        augment: How to augment; None for not at all.
        generator: CPU generator of the order and of the augmentation.
        device: Where the batches go.

    Yields:
        Images, channels last in memory where there are several, and their labels.
    """

    def batch(indices: Int64[Tensor, " batch"]) -> Batch:
        images, labels = _moved(pictures, indices, device)
        if augment is not None and (augment.crop_padding or augment.flip):
            images = _shifted(images, augment, generator)
        normal = normalized(images, dataset)
        if augment is not None and augment.cutout:
            normal = _cut_out(normal, augment.cutout, generator)
        return normal, labels

    order = torch.randperm(len(pictures), generator=generator)
    for start in range(number_of_training_batches(len(pictures), batch_size)):
        # Nothing of a batch is kept here while it is worked on.
        yield batch(order[start * batch_size : (start + 1) * batch_size])


def evaluation_batches(
    dataset: Dataset, pictures: Pictures, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Every picture once, in order, not augmented.

    Args:
        dataset: Whose mean and standard deviation normalize.
        pictures: The part to go through.
        batch_size: Pictures in a batch; the last may hold fewer.
        device: Where the batches go.

    Yields:
        Images, channels last in memory where there are several, and their labels.
    """
    for start in range(0, len(pictures), batch_size):
        indices = torch.arange(start, min(start + batch_size, len(pictures)))
        images, labels = _moved(pictures, indices, device)
        yield normalized(images, dataset), labels


def normalized(images: UInt8[Tensor, "batch channels height width"], dataset: Dataset) -> Images:
    """Pixels minus the training part's mean, over its standard deviation, channel by channel."""
    shape = (1, -1, 1, 1)
    mean = sent(torch.tensor(dataset.mean), images.device).view(shape)
    std = sent(torch.tensor(dataset.std), images.device).view(shape)
    if images.shape[1] > 1:
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(mean.dtype).div_(255).sub_(mean).div_(std)


def _moved(
    pictures: Pictures, indices: Int64[Tensor, " batch"], device: torch.device
) -> tuple[UInt8[Tensor, "batch channels height width"], Int64[Tensor, " batch"]]:
    """A batch of bytes on the device."""
    batch = pictures.select(indices)
    return sent(batch.images, device), sent(batch.labels, device)


def _shifted(
    images: UInt8[Tensor, "batch channels height width"],
    augment: AugmentSettings,
    generator: torch.Generator,
) -> UInt8[Tensor, "batch channels height width"]:
    """Each picture moved by up to the padding, zeros moving in, and half of them flipped.

    Crop and flip are one gather: pixel (y, x) of a picture comes from (y + its row offset, x' + its
    column offset) of the padded picture, with x' = x or, flipped, width − 1 − x.
    """
    batch, _, height, width = images.shape
    padding, device = augment.crop_padding, images.device
    offsets = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    flipped = torch.rand(batch, 1, generator=generator) < 0.5
    columns = torch.arange(width).expand(batch, width)
    if augment.flip:
        columns = torch.where(flipped, width - 1 - columns, columns)
    rows = sent(torch.arange(height) + offsets[0], device)
    columns = sent(columns + offsets[1], device)
    padded = functional.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    picture = torch.arange(batch, device=device)
    return padded[picture[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cut_out(images: Images, side: int, generator: torch.Generator) -> Images:
    """Blank a square around a random pixel of each picture; what lies outside is clipped.

    Differs from: the public DARTS code in that an odd side is not rounded down to an even one.

    References:
        DeVries and Taylor 2017, Improved Regularization of CNNs with Cutout.
    """

    def covered(length: int) -> Bool[Tensor, "batch length"]:
        centre = torch.randint(0, length, (len(images), 1), generator=generator)
        start = centre - side // 2
        positions = torch.arange(length)
        return sent((positions >= start) & (positions < start + side), images.device)

    rows, columns = covered(images.shape[2]), covered(images.shape[3])
    return images.masked_fill_(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
