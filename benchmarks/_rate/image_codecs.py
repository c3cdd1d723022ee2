"""JPEG, WebP and AVIF as contenders: the image is coded, sent, decoded, and answered by the uncut network.

A codec's files and the answers to them depend on the images, the codec and the uncut network alone, and good
files take long to write. So what was found is kept, under a name that says what it depends on; only the time
to write a file is taken anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

from _rate.contenders import Codes, UncutNetwork, median_seconds
from _rate.curves import Setting
from _rate.tasks import Part

IMAGE_CODECS = ("JPEG", "WebP", "AVIF")
_QUALITIES = {
    "JPEG": (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
    "WebP": (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
    "AVIF": (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
}
# The slow, small settings of each: a codec is not made worse than its users would run it.
_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"optimize": True, "progressive": True},
    "WebP": {"method": 6},
    "AVIF": {"speed": 4},
}
_LIBRARIES = {"JPEG": "jpg", "WebP": "webp", "AVIF": "avif"}
_Found = tuple[NDArray[np.int64], NDArray[np.int64]]


def image_codec(
    name: str, part: Part, uncut: UncutNetwork, kept: Path | None, *, every: int = 1
) -> Iterator[Setting]:
    """Yield the image codec `name` at every (or every nth) quality.

    Args:
        name: One of `IMAGE_CODECS`.
        part: The images.
        uncut: Answers the decoded images.
        kept: Folder of what was found before; None: everything is found anew.
        every: Take each so many-th quality.
    """
    for quality in _QUALITIES[name][::every]:
        sizes_n, answers_n = _kept(name, quality, part, uncut, kept)

        def code(batch: Codes, quality: int = quality) -> bytes:
            return _coded(batch[0], name, quality)

        yield Setting(
            method=name,
            setting=f"quality {quality}",
            sizes_n=sizes_n,
            answers_n=answers_n,
            device_s=median_seconds(code, part.images_nhwc),
        )


def _kept(name: str, quality: int, part: Part, uncut: UncutNetwork, folder: Path | None) -> _Found:
    if folder is None:
        return _found(name, quality, part, uncut)
    file = folder / f"{name.lower()}-{quality}-{_digest(name, quality, part, uncut)}.npz"
    if file.is_file():
        with np.load(file) as found:
            return found["sizes"], found["answers"]
    sizes_n, answers_n = _found(name, quality, part, uncut)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, sizes=sizes_n, answers=answers_n)
    partial.replace(file)  # whole or not at all
    return sizes_n, answers_n


def _found(name: str, quality: int, part: Part, uncut: UncutNetwork) -> _Found:
    """Return the size of every image's file and the class answered for what it decodes to, int64 [n]."""
    files = [_coded(image, name, quality) for image in part.images_nhwc]
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    return np.array([len(file) for file in files], dtype=np.int64), uncut.answer(decoded)


def _digest(name: str, quality: int, part: Part, uncut: UncutNetwork) -> str:
    """Return 16 hex digits over all that the files and the answers depend on."""
    versions = [pillow_version, features.version(_LIBRARIES[name])]
    said = json.dumps([name, quality, _OPTIONS[name], versions, uncut.digest, part.images_nhwc.shape])
    return hashlib.sha256(said.encode() + np.ascontiguousarray(part.images_nhwc).data).hexdigest()[:16]


def _coded(image_hwc: Codes, name: str, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_hwc).save(file, format=name, quality=quality, **_OPTIONS[name])
    return file.getvalue()
