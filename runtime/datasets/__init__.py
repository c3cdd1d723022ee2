"""Data sets: what `--dataset`, `--test` and `--source` accept, and nothing else.

`digits`, `npz:FILE` or `folder:DIR`. The order of the images never depends on the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from isthmus.runtime.datasets.digits import load_digits
from isthmus.runtime.datasets.folder import cover, load_folder
from isthmus.runtime.datasets.image_set import ImageSet, hold_out, save_npz, spread
from isthmus.runtime.datasets.npz import load_npz
from isthmus.runtime.errors import InputError

__all__ = [
    "SPEC_HELP",
    "ImageSet",
    "hold_out",
    "load_dataset",
    "load_prepared",
    "parse_size",
    "save_npz",
    "spread",
]

SPEC_HELP = "digits, npz:FILE or folder:DIR"


def load_dataset(
    spec: str,
    *,
    split: Literal["train", "test"],
    size: tuple[int, int] | None = None,
    limit: int | None = None,
) -> ImageSet:
    """Load the data set that `spec` names.

    Args:
        spec: `digits` (scikit-learn's, 32×32 grey, fixed 80/20 split), `npz:FILE` (the whole file whatever
            the split) or `folder:DIR` (one folder per class; DIR/train, DIR/test or DIR/val if present).
        split: The part to load.
        size: Height and width to bring every image to: scaled to cover, then cropped at the centre.
        limit: At most so many images, evenly spread over the set.

    Raises:
        InputError: If `spec` is none of these, or what it names cannot be used.
        MissingExtraError: If `digits` is asked for without scikit-learn.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"size {size}: height and width must be at least 1 pixel")
    kind, _, path = spec.partition(":")
    if kind == "folder" and path:
        return load_folder(Path(path).expanduser(), spec, split=split, size=size, limit=limit)
    if kind == "npz" and path:
        images = load_npz(Path(path).expanduser(), spec)
    elif spec == "digits":
        images = load_digits(split)
    else:
        raise InputError(f"data set {spec!r}: give {SPEC_HELP}")
    return _resized(_limited(images, limit), size)


def load_prepared(
    spec: str,
    *,
    split: Literal["train", "test"],
    size: tuple[int, int],
    arrays_too: bool,
    limit: int | None = None,
) -> ImageSet:
    """Load images for a network that takes `size`, prepared as those that it was trained on.

    Photographs come in all sizes and are brought to the network's. Arrays were prepared by someone and stay
    as they are, unless training brought its own to a size.

    Args:
        spec: As `load_dataset` takes it; likewise `split` and `limit`.
        split: The part to load.
        size: Height and width of the network's images.
        arrays_too: Whether training had a size to bring its images to.
        limit: At most so many images.

    Raises:
        InputError: As `load_dataset`.
        MissingExtraError: Likewise.
    """
    fitted = arrays_too or spec.startswith("folder:")
    return load_dataset(spec, split=split, size=size if fitted else None, limit=limit)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from `HEIGHTxWIDTH` or, for squares, one number.

    Raises:
        InputError: If `text` is neither, or a side is 0.
    """
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and int(side) for side in sides):
        raise InputError(f"size {text!r}: give HEIGHTxWIDTH in pixels, e.g. 224x224")
    return int(sides[0]), int(sides[-1])


def _limited(images: ImageSet, limit: int | None) -> ImageSet:
    kept = spread(len(images), limit)
    if len(kept) == len(images):
        return images
    return images.subset(kept, name=f"{images.name} ({len(kept)} of {len(images)})")


def _resized(images: ImageSet, size: tuple[int, int] | None) -> ImageSet:
    height, width, channels = images.shape_hwc
    if size is None or size == (height, width):
        return images
    pixels = images.images[..., 0] if channels == 1 else images.images
    resized = np.stack([cover(Image.fromarray(image), size) for image in pixels])
    return ImageSet(
        images=resized.reshape(len(images), *size, channels),
        labels=images.labels,
        classes=images.classes,
        name=images.name,
    )
