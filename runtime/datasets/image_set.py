"""A labelled set of images in memory, and the rules it must meet.

Decides what a well-formed set is. Knows nothing of where it came from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import InputError

_HELD_OUT_AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Images with their classes.

    Attributes:
        images: uint8 [N, height, width, channels], channels 1 (grey) or 3 (RGB).
        labels: int64 [N], each the index of a class.
        classes: Class names, index = label.
        name: The specification, the split and, where images were left out, how many remain.

    Raises:
        InputError: If shapes, types or labels contradict each other.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8:
            raise InputError(f"{self.name}: images are {self.images.dtype}; store pixels 0..255 as uint8")
        if self.images.ndim != 4 or self.images.shape[3] not in (1, 3):
            raise InputError(
                f"{self.name}: images have shape {self.images.shape}; N x H x W or N x H x W x 3 is needed"
            )
        count = len(self.images)
        if count == 0 or 0 in self.images.shape:
            raise InputError(f"{self.name}: images have shape {self.images.shape}, no pixel in them")
        if self.labels.shape != (count,):
            raise InputError(
                f"{self.name}: labels have shape {self.labels.shape} for {count} images; give each one"
            )
        if self.labels.dtype != np.int64:
            raise InputError(f"{self.name}: labels are {self.labels.dtype}; int64 class indices are needed")
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(outside):
            first = int(outside[0])
            raise InputError(
                f"{self.name}: label {int(self.labels[first])} of image {first} is outside the "
                f"{len(self.classes)} classes 0..{len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape_hwc(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.images.shape[1:]
        return int(height), int(width), int(channels)

    def check_fits(self, shape_hwc: tuple[int, int, int], labels: Sequence[str]) -> None:
        """Check that these are images a network takes, labelled as its outputs are.

        A set that only numbers its classes, or lacks the last ones, fits too.

        Args:
            shape_hwc: Height, width and channels of the network's input.
            labels: Class names of the network's outputs.

        Raises:
            InputError: If they do not fit.
        """
        if self.shape_hwc != shape_hwc:
            found, wanted = _shape_text(self.shape_hwc), _shape_text(shape_hwc)
            raise InputError(f"{self.name}: images are {found}, the network takes {wanted}")
        numbers = tuple(str(number) for number in range(len(self.classes)))
        known = tuple(labels[: len(self.classes)])
        if len(self.classes) > len(labels) or self.classes not in (known, numbers):
            found, wanted = _class_text(self.classes), _class_text(labels)
            raise InputError(f"{self.name}: classes {found} are not the network's {wanted}")

    def with_classes(self, labels: Sequence[str]) -> ImageSet:
        """Return this set with its classes' places among `labels` as labels; itself, if one is not there."""
        places = {name: place for place, name in enumerate(labels)}
        if self.classes == tuple(labels) or not all(name in places for name in self.classes):
            return self
        order = np.array([places[name] for name in self.classes], dtype=np.int64)
        return ImageSet(images=self.images, labels=order[self.labels], classes=tuple(labels), name=self.name)

    def subset(self, indices: NDArray[np.int64], *, name: str) -> ImageSet:
        """Return the images at `indices` (int64 [n], in that order) as a set called `name`."""
        return ImageSet(
            images=self.images[indices], labels=self.labels[indices], classes=self.classes, name=name
        )


def _shape_text(shape_hwc: tuple[int, int, int]) -> str:
    height, width, channels = shape_hwc
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def _class_text(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
    return f"({len(classes)}: {shown})"


def spread(count: int, limit: int | None) -> NDArray[np.int64]:
    """Return at most `limit` of the indices 0..count−1, evenly spread (int64, ascending).

    Sets are often sorted by class, so the first `limit` images would be images of one class.

    Raises:
        InputError: If `limit` is less than 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: at least 1 image is needed")
    kept = count if limit is None else min(count, limit)
    return np.arange(kept, dtype=np.int64) * count // max(kept, 1)


def hold_out(images: ImageSet, count: int | None = None) -> tuple[ImageSet, ImageSet]:
    """Split a training set into the images that train and the `count` that are held out.

    Training and export call this on the same set and get the same parts: frequency tables are fitted on the
    first, the utilities that a policy reads are measured on the second, and neither ever on a test set. The
    classes keep their shares, and no random numbers are involved: every machine holds out the same images.

    Args:
        images: The training set.
        count: How many to hold out; None: an eighth, at most 1,000.

    Raises:
        InputError: If nothing would be held out, or nothing left to train on.
    """
    if count is None:
        count = min(len(images) // 8, _HELD_OUT_AT_MOST)
    if not 1 <= count < len(images):
        raise InputError(
            f"{images.name}: has only {len(images)} images; {count} cannot be held out of training"
        )
    by_class = np.argsort(images.labels, kind="stable")
    # The end of every class, not images spread over it: neighbours are often frames of one scene.
    held = np.sort(
        np.concatenate([part[len(part) - share :] for part, share in _shares(images, by_class, count)])
    )
    rest = np.setdiff1d(np.arange(len(images)), held)
    return (
        images.subset(rest, name=f"{images.name} less {count} held out"),
        images.subset(held, name=f"{count} held out of {images.name}"),
    )


def _shares(images: ImageSet, by_class: NDArray[np.int64], count: int) -> list[tuple[NDArray[np.int64], int]]:
    """Return the images of each class, and how many of them make up `count` together, in proportion."""
    starts = np.searchsorted(images.labels[by_class], np.unique(images.labels))
    parts = np.split(by_class, starts[1:])
    ends = np.cumsum([len(part) for part in parts])
    taken = np.diff(np.rint(ends * count / len(images)).astype(np.int64), prepend=0)
    return [(part, int(share)) for part, share in zip(parts, taken, strict=True)]


def save_npz(path: str | os.PathLike[str], images: ImageSet) -> None:
    """Write `images` to `path`, so that `load_dataset("npz:PATH")` gives the same set again.

    Raises:
        InputError: If the file cannot be written.
    """
    file = Path(path)
    try:
        # A handle, because numpy appends ".npz" to a bare name that lacks it.
        with file.open("wb") as handle:
            np.savez_compressed(
                handle,
                images=images.images,
                labels=images.labels,
                classes=np.array(images.classes, dtype=np.str_),
            )
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another file") from None
