"""What a training is given, checked before anything is made."""

from __future__ import annotations

from pathlib import Path

from isthmus.models.linear_start import check_linear
from isthmus.models.objective import rate_price
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError


def check_input(network: SplitNetwork, images: ImageSet, settings: TrainSettings, out: Path | None) -> None:
    """Refuse images and settings that cannot train every width of `network`.

    Raises:
        InputError: If the images are too few or of another shape, a width would never be trained, settings
            do not fit its widths and channel counts or its bottleneck, or views have no place to be.
    """
    config = network.config
    wanted = (config.input_height, config.input_width, config.input_channels)
    if images.shape_hwc != wanted:
        raise InputError(f"{images.name}: images are {images.shape_hwc}, the network takes {wanted}")
    if len(images) < 2 or settings.batch_size < 2:
        raise InputError(
            f"{images.name}: {len(images)} images in batches of {settings.batch_size}; "
            "BatchNorm needs at least 2"
        )
    settings.schedule.check_widths(len(config.widths), min(settings.batch_size, len(images)))
    rate_price(settings, len(config.widths), config.channel_counts)
    if settings.nested is not None:
        settings.nested.check(config.channel_counts)
    if settings.linear_start:
        check_linear(network)
    if settings.views and out is None:
        raise InputError(f"{settings.views} views need a directory for their files; give one, or 0 views")
