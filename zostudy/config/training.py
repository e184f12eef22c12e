"""Settings of a training: its optimizer, and the augmentation of its pictures."""

import math
from typing import Self

from pydantic import Field, model_validator

from zostudy.config.base import Settings


class AugmentSettings(Settings):
    """Augmentation of whole training batches on the device."""

    crop_padding: int = Field(default=4, ge=0, le=1024)
    """Pixels of zero padding around the picture before a random crop of its own size."""
    flip: bool = True
    """Whether to flip half of the pictures left to right."""
    cutout: int = Field(default=0, ge=0, le=4096)
    """Side of the square that is blanked in every picture, in pixels; 0 for none."""


class SGDSettings(Settings):
    """SGD with momentum and a cosine schedule without restarts."""

    learning_rate: float = Field(default=0.1, gt=0, le=1000)
    """Learning rate of the first epoch."""
    minimum_learning_rate: float = Field(default=0.0, ge=0, le=1000)
    """Learning rate at the end of the cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum."""
    weight_decay: float = Field(default=3e-4, ge=0, le=1000)
    """Weight decay."""
    clip_norm: float = Field(default=5.0, gt=0, le=1e9)
    """Largest norm of the whole gradient."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.minimum_learning_rate > self.learning_rate:
            raise ValueError(
                f"minimum_learning_rate: {self.minimum_learning_rate} is above learning_rate "
                f"{self.learning_rate}; allowed: 0 to {self.learning_rate}"
            )
        return self

    def learning_rate_at(self, epoch: int, epochs: int) -> float:
        """The learning rate of an epoch, from 0, by a cosine without restarts over all epochs."""
        low = self.minimum_learning_rate
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * epoch / epochs)) / 2
