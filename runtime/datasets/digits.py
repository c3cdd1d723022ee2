"""scikit-learn's handwritten digits as a camera might see them: the data set that needs no download.

1,797 grey digits of 8×8 pixels, each drawn three times into a 32×32 frame at its own size, place, angle and
contrast, over a stray piece of another digit and with sensor noise. Merely enlarged, a digit is 64 numbers:
every operating point of a bottleneck then scores within a point of every other, and nothing needs to adapt.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.runtime.datasets.image_set import ImageSet
from isthmus.runtime.errors import MissingExtraError

SIDE = 32
_SOURCE_MAX = 16.0
# Every fifth image of a class is a test image: an 80/20 split with equal classes that needs no random
# numbers, so it is the same under every numpy.
_TEST_EVERY = 5
_SEED = 8_675_309
_DRAWINGS = 3
_SIDES = (16, 25)  # of a drawn digit, in pixels: from, below
_CLUTTER_SIDES = (5, 9)
_ANGLE = 10.0
_NOISE = 6.0
# Where a digit is darker than this, what lies behind it shows through.
_INK = 60.0

Grey = NDArray[np.float64]


def load_digits(split: Literal["train", "test"]) -> ImageSet:
    """Return the digits of `split`: uint8 [N, 32, 32, 1], N = 4,326 for train, 1,065 for test.

    The drawings of one digit follow each other, so that a set split in stretches splits between digits.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    images, labels = _drawings(split)
    return ImageSet(
        images=images.copy(),
        labels=labels.copy(),
        classes=tuple(str(digit) for digit in range(10)),
        name=f"digits ({split})",
    )


@lru_cache(maxsize=2)  # the demo's verbs share a process, and would draw them five times
def _drawings(split: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ModuleNotFoundError:
        raise MissingExtraError("the data set 'digits'", "train") from None
    source = sklearn_digits()
    labels = np.asarray(source.target, dtype=np.int64)
    digits = np.asarray(source.images, dtype=np.float64) * (255.0 / _SOURCE_MAX)
    is_test = _is_test(labels)
    strays = digits[~is_test]
    chosen = np.flatnonzero(is_test == (split == "test"))
    images = [
        _frame(digits[index], strays, _SEED + _DRAWINGS * int(index) + drawing)
        for index in chosen
        for drawing in range(_DRAWINGS)
    ]
    return np.stack(images)[..., np.newaxis], np.repeat(labels[chosen], _DRAWINGS)


def _is_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    test = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return test


def _frame(digit: Grey, strays: Grey, seed: int) -> NDArray[np.uint8]:
    """Draw one digit; what is drawn depends on the seed alone, not on the other images asked for."""
    # RandomState's numbers are frozen for good, those of numpy's newer generators are not.
    random = np.random.RandomState(seed)
    frame = np.zeros((SIDE, SIDE))
    piece = _piece(strays[random.randint(len(strays))], random)
    top, left = random.randint(0, SIDE - len(piece) + 1, 2)
    frame[top : top + len(piece), left : left + len(piece)] = piece
    drawn = _scaled(digit, random.randint(*_SIDES), random.uniform(-_ANGLE, _ANGLE))
    side = len(drawn)
    top, left = random.randint(0, SIDE - side + 1, 2)
    under = frame[top : top + side, left : left + side]
    frame[top : top + side, left : left + side] = np.maximum(np.where(drawn < _INK, under, 0.0), drawn)
    frame = frame * random.uniform(0.6, 1.0) + random.uniform(0.0, 60.0)
    frame += random.normal(0.0, _NOISE, frame.shape)
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def _piece(stray: Grey, random: np.random.RandomState) -> Grey:
    whole = _scaled(stray, random.randint(*_SIDES), 0.0)
    side = random.randint(*_CLUTTER_SIDES)
    top, left = random.randint(0, len(whole) - side + 1, 2)
    return whole[top : top + side, left : left + side]


def _scaled(digit: Grey, side: int, degrees: float) -> Grey:
    image = Image.fromarray(np.rint(digit).astype(np.uint8))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image.rotate(degrees, Image.Resampling.BICUBIC), dtype=np.float64)
