"""Where frames come from.

A source yields images that fit the bundle's input, and the true class where it is known, as an index into the
bundle's labels. Only a folder of image files is brought to the bundle's size (scaled to cover it,
centre-cropped, as it was for training): those files have any size anyway. Arrays (`npz`, `digits`) must fit
exactly, because a silent resize would hide that the wrong file was given.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import Manifest
from isthmus.runtime.datasets import load_dataset
from isthmus.runtime.errors import InputError


class FrameSource(Protocol):
    """Gives the newest image whenever the capture clock asks."""

    @property
    def name(self) -> str:
        """What the event log calls it."""
        ...

    def frame(self) -> tuple[NDArray[np.uint8], int | None]:
        """Return an image uint8 [height, width, channels] and its class index, None where unknown."""
        ...


class ImageSource:
    """Loops over images in memory, in their order.

    Args:
        name: What the event log calls it.
        images_nhwc: uint8 [n, height, width, channels].
        truths: One class index, or None, per image.
    """

    def __init__(self, name: str, images_nhwc: NDArray[np.uint8], truths: list[int | None]) -> None:
        assert len(images_nhwc) == len(truths) > 0
        self._name = name
        self._images = np.ascontiguousarray(images_nhwc)
        self._truths = truths
        self._next = 0

    @property
    def name(self) -> str:
        """What the event log calls it."""
        return self._name

    def frame(self) -> tuple[NDArray[np.uint8], int | None]:
        """Return the next image and its class index; after the last comes the first."""
        index = self._next
        self._next = (index + 1) % len(self._truths)
        return self._images[index], self._truths[index]


def open_source(spec: str, manifest: Manifest) -> ImageSource:
    """Open the data set that `spec` names as a source for the bundle described by `manifest`.

    Raises:
        InputError: If the data set cannot be loaded, or its images do not fit the bundle's input.
    """
    needed = manifest.input
    size = (needed.height, needed.width) if spec.startswith("folder:") else None
    images = load_dataset(spec, split="test", size=size)
    height, width, channels = images.shape_hwc
    if (height, width, channels) != (needed.height, needed.width, needed.channels):
        remedy = "give images of that size, or a folder, whose images are scaled"
        if (height, width) == (needed.height, needed.width):
            remedy = "give grey images" if needed.channels == 1 else "give colour images"
        raise InputError(
            f"source {spec}: images are {height}x{width}x{channels} (height x width x channels), bundle "
            f"{manifest.name} takes {needed.height}x{needed.width}x{needed.channels}; {remedy}"
        )
    truths = _truths(images.labels, images.classes, manifest.labels, spec)
    return ImageSource(images.name, images.images, truths)


def _truths(
    labels: NDArray[np.int64], classes: tuple[str, ...], bundle_labels: tuple[str, ...], spec: str
) -> list[int | None]:
    """Return the class of every image as an index into the bundle's labels.

    A source may hold fewer classes, or the same in another order, so classes are matched by name. Names that
    are plain numbers 0..n-1 (a file without class names) are indices already.
    """
    index_of = {name: index for index, name in enumerate(bundle_labels)}
    if all(name in index_of for name in classes):
        return [index_of[classes[label]] for label in labels]
    unnamed = classes == tuple(str(index) for index in range(len(classes)))
    if unnamed and len(classes) <= len(bundle_labels):
        return [int(label) for label in labels]
    foreign = next(name for name in classes if name not in index_of)
    raise InputError(
        f"source {spec}: class {foreign!r} is not one of the bundle's labels ({', '.join(bundle_labels[:5])}"
        f"{', …' if len(bundle_labels) > 5 else ''}); give images of the classes the bundle was trained on"
    )
