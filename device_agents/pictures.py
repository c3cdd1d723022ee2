"""Images in the caller's hands as a source of frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources import SourceEnded
from isthmus.runtime.bundle import InputSpec
from isthmus.runtime.errors import InputError

Image = NDArray[np.uint8]


def check_image(image_hwc: Image, needed: InputSpec) -> None:
    """Check that an image is what the heads take.

    Raises:
        InputError: If not.
    """
    if not isinstance(image_hwc, np.ndarray):
        raise InputError(f"image is of type {type(image_hwc).__name__}; give a NumPy array")
    shape = (needed.height, needed.width, needed.channels)
    if image_hwc.shape != shape or image_hwc.dtype != np.uint8:
        raise InputError(
            f"image is {image_hwc.dtype} {image_hwc.shape}; give uint8 {shape}: height, width, channels"
        )


class PictureSource:
    """Gives each of `images` once, in their order, and ends.

    Args:
        images: uint8 [height, width, channels] each, alone or as a pair with its class index.
        needed: The bundle's input.
    """

    name = "images"

    def __init__(self, images: Iterable[Image | tuple[Image, int | None]], needed: InputSpec) -> None:
        self._images = iter(images)
        self._needed = needed

    def frame(self) -> tuple[Image, int | None]:
        """Return the next image and its class index.

        Raises:
            InputError: If it does not fit.
            SourceEnded: After the last.
        """
        try:
            item = next(self._images)
        except StopIteration:
            raise SourceEnded from None
        image_hwc, truth = item if isinstance(item, tuple) else (item, None)
        check_image(image_hwc, self._needed)
        return np.ascontiguousarray(image_hwc), truth
