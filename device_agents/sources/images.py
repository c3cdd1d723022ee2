"""Images that are all there before the run: in memory, or in files that a thread reads ahead.

Decides how the classes of a data set become indices into the bundle's labels, and that arrays (`npz`,
`digits`) must fit the bundle exactly: a silent resize would hide that the wrong file was given. The images
of a folder are scaled, for such files have any size anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.read_ahead import ReadAhead
from isthmus.device_agents.sources.source import OpenSource, SourceEnded, fit
from isthmus.runtime.bundle import Manifest
from isthmus.runtime.datasets import load_dataset
from isthmus.runtime.datasets.folder import list_folder, read_image
from isthmus.runtime.errors import InputError

# What a folder may take as decoded images; a larger one is read while the agent runs.
_MOST_IN_MEMORY = 64 << 20


class ImageSource:
    """Gives images in memory, in their order.

    Args:
        name: What the event log calls it.
        images_nhwc: uint8 [n, height, width, channels].
        truths: One class index, or None, per image.
        loop: Whether the first comes again after the last.
    """

    def __init__(
        self, name: str, images_nhwc: NDArray[np.uint8], truths: list[int | None], *, loop: bool = True
    ) -> None:
        assert len(images_nhwc) == len(truths) > 0
        self._name = name
        self._images = np.ascontiguousarray(images_nhwc)
        self._truths = truths
        self._loop = loop
        self._next = 0

    @property
    def name(self) -> str:
        """What the event log calls it."""
        return self._name

    def frame(self) -> tuple[NDArray[np.uint8], int | None]:
        """Return the next image and its class index.

        Raises:
            SourceEnded: After the last image, unless the source loops.
        """
        if self._next == len(self._truths):
            if not self._loop:
                raise SourceEnded
            self._next = 0
        index = self._next
        self._next += 1
        return self._images[index], self._truths[index]

    def close(self) -> None:
        """Do nothing: it holds memory alone."""


def open_arrays(spec: str, manifest: Manifest, *, loop: bool) -> OpenSource:
    """Open `digits` or `npz:FILE` as a source for the bundle described by `manifest`.

    Raises:
        InputError: If the data set cannot be loaded, or its images do not fit the bundle's input.
        MissingExtraError: If `digits` is asked for without scikit-learn.
    """
    images, needed = load_dataset(spec, split="test"), manifest.input
    height, width, channels = images.shape_hwc
    if (height, width, channels) != (needed.height, needed.width, needed.channels):
        remedy = "give images of that size, or a folder, whose images are scaled"
        if (height, width) == (needed.height, needed.width):
            remedy = "give grey images" if needed.channels == 1 else "give colour images"
        raise InputError(
            f"source {spec}: images are {height}x{width}x{channels} (height x width x channels), bundle "
            f"{manifest.name} takes {needed.height}x{needed.width}x{needed.channels}; {remedy}"
        )
    labels: list[int | None] = [int(label) for label in images.labels]
    truths = _truths(labels, images.classes, manifest.labels, spec)
    return ImageSource(images.name, images.images, truths, loop=loop)


def open_folder(spec: str, manifest: Manifest, *, loop: bool) -> OpenSource:
    """Open `folder:DIR` as a source: class folders give truths, loose images have none.

    Raises:
        InputError: If there is no image, the layout is neither, or a class is not one of the bundle's.
    """
    root = Path(spec.partition(":")[2]).expanduser()
    listing = list_folder(root, spec, split="test", unlabelled=True)
    truths = _truths(list(listing.labels), listing.classes, manifest.labels, spec)
    files, needed = listing.files, manifest.input

    def read(file: Path) -> NDArray[np.uint8]:
        return fit(read_image(file), needed)

    if len(files) * needed.height * needed.width * needed.channels <= _MOST_IN_MEMORY:
        return ImageSource(listing.name, np.stack([read(file) for file in files]), truths, loop=loop)

    def once() -> Iterator[tuple[NDArray[np.uint8], int | None]]:
        for file, truth in zip(files, truths, strict=True):
            yield read(file), truth

    return ReadAhead(listing.name, once, loop=loop)


def _truths(
    labels: list[int | None], classes: tuple[str, ...], bundle_labels: tuple[str, ...], spec: str
) -> list[int | None]:
    """Return the class of every image as an index into the bundle's labels.

    A source may hold fewer classes, or the same in another order, so classes are matched by name. Names that
    are plain numbers 0..n-1 (a file without class names) are indices already.
    """
    index_of = {name: index for index, name in enumerate(bundle_labels)}
    if all(name in index_of for name in classes):
        return [None if label is None else index_of[classes[label]] for label in labels]
    unnamed = classes == tuple(str(index) for index in range(len(classes)))
    if unnamed and len(classes) <= len(bundle_labels):
        return labels
    foreign = next(name for name in classes if name not in index_of)
    raise InputError(
        f"source {spec}: class {foreign!r} is not one of the bundle's labels ({', '.join(bundle_labels[:5])}"
        f"{', …' if len(bundle_labels) > 5 else ''}); give images of the classes the bundle was trained on"
    )
