"""What a source of frames is, and the two things it may say instead of giving one.

A source is asked on the event loop whenever the capture clock ticks, so it never waits: what has to be
fetched or decoded is fetched and decoded on a thread of its own.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.runtime.bundle import InputSpec
from isthmus.runtime.datasets.folder import cover


class SourceEnded(Exception):  # noqa: N818 - it ends a run, it is no error
    """A source that is finite has given its last frame."""


class NoNewFrame(Exception):  # noqa: N818 - nothing is captured at this tick, and that is no error
    """Since the last frame no other has come: a camera slower than the capture clock, or one that is away.

    To give the last one again would answer an old image as if it were new.
    """


class FrameSource(Protocol):
    """Gives the newest image whenever the capture clock asks."""

    @property
    def name(self) -> str:
        """What the event log calls it."""
        ...

    def frame(self) -> tuple[NDArray[np.uint8], int | None]:
        """Return an image uint8 [height, width, channels] and its class index, None where unknown.

        Raises:
            NoNewFrame: If there is none at this tick.
            SourceEnded: If there will be none any more.
        """
        ...


class OpenSource(FrameSource, Protocol):
    """A source that holds a device, a file or a thread."""

    def close(self) -> None:
        """Let go of what it holds; it gives no frame afterwards."""
        ...


def fit(image_hwc: NDArray[np.uint8], needed: InputSpec) -> NDArray[np.uint8]:
    """Return an image scaled to cover the bundle's input and cropped at the centre, as for training.

    Args:
        image_hwc: uint8 [height, width, channels] of any size, channels 1 (grey) or 3 (RGB).
        needed: The bundle's input; colour becomes grey (ITU-R BT.601 luma), grey becomes equal channels.

    Returns:
        uint8 [needed.height, needed.width, needed.channels].
    """
    pixels = image_hwc[..., 0] if image_hwc.shape[2] == 1 else image_hwc
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L" if needed.channels == 1 else "RGB")
    return cover(image, (needed.height, needed.width)).reshape(needed.height, needed.width, needed.channels)
