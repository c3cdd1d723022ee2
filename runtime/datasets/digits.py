"""scikit-learn's handwritten digits: the data set that needs no download.

1,797 grey images, 8×8 with values 0..16, enlarged to 32×32 with values 0..255.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.runtime.datasets.image_set import ImageSet
from isthmus.runtime.errors import MissingExtraError

SIZE_HW = (32, 32)
_SOURCE_MAX = 16.0
# Every fifth image of a class is a test image: an 80/20 split with equal classes that needs no random
# numbers, so it is the same under every numpy.
_TEST_EVERY = 5


def load_digits(split: Literal["train", "test"]) -> ImageSet:
    """Return the digits of `split`: uint8 [N, 32, 32, 1], N = 1,440 or so for train, the rest for test.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ModuleNotFoundError:
        raise MissingExtraError("the data set 'digits'", "train") from None
    source = sklearn_digits()
    labels = np.asarray(source.target, dtype=np.int64)
    chosen = np.flatnonzero(_is_test(labels) == (split == "test"))
    images = np.stack([_enlarge(image) for image in np.asarray(source.images)[chosen]])
    return ImageSet(
        images=images[..., np.newaxis],
        labels=labels[chosen],
        classes=tuple(str(digit) for digit in range(10)),
        name=f"digits ({split})",
    )


def _is_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    test = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return test


def _enlarge(image_hw: NDArray[np.float64]) -> NDArray[np.uint8]:
    pixels = np.rint(image_hw * (255.0 / _SOURCE_MAX)).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize(SIZE_HW[::-1], Image.Resampling.BILINEAR))
