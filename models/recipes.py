"""Recipes that suit kinds of images, so that a first training needs no flags.

Chosen by the shape of the images alone; every value can be overridden.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.models.augment import Augmentation
from isthmus.models.design import BottleneckSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A bottleneck's size and how it is trained.

    Attributes:
        name: What the command line calls it.
        size: The bottleneck.
        epochs, exit_epochs, batch_size, learning_rate: As in `TrainSettings`.
        target_bytes: Mean bytes of a whole latent to steer to.
        augmentation: Of the training images.
    """

    name: str
    size: BottleneckSize
    epochs: int
    batch_size: int
    learning_rate: float
    target_bytes: float
    augmentation: Augmentation
    exit_epochs: int = 0


SMALL_GREY = Recipe(
    name="small grey images",
    size=BottleneckSize(
        channel_counts=(1, 2, 4, 16),
        encoder=((16, 0), (32, 1)),
        decoder_channels=64,
        decoder_blocks=1,
        exit_channels=48,
    ),
    epochs=22,
    batch_size=64,
    learning_rate=5e-3,
    target_bytes=180,
    augmentation=Augmentation(shift=2),
    exit_epochs=4,
)
SMALL_COLOUR = Recipe(
    name="small colour images",
    size=BottleneckSize(
        encoder=((48, 1), (96, 1)), decoder_channels=128, decoder_blocks=2, exit_channels=128
    ),
    epochs=24,
    batch_size=64,
    learning_rate=1.5e-3,
    target_bytes=315,
    augmentation=Augmentation(shift=4, flip=True),
    exit_epochs=12,
)
LARGE = Recipe(
    name="large images",
    size=BottleneckSize(
        channels=24,
        encoder=((32, 0), (64, 1), (96, 1)),
        decoder_channels=128,
        decoder_blocks=2,
        exit_channels=128,
    ),
    epochs=12,
    batch_size=32,
    learning_rate=1e-3,
    target_bytes=4000,
    augmentation=Augmentation(shift=16, flip=True),
    exit_epochs=4,
)
# Above this side an image is large: one more halving brings its latent to a plane that is cheap to decode.
_SMALL_SIDE = 64


def recipe_for(shape_hwc: tuple[int, int, int]) -> Recipe:
    """Return the recipe for images of `shape_hwc`."""
    height, width, channels = shape_hwc
    if max(height, width) > _SMALL_SIDE:
        return LARGE
    return SMALL_GREY if channels == 1 else SMALL_COLOUR
