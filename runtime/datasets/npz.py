"""`npz:FILE`: a numpy archive with `images`, `labels` and, if wanted, `classes`. Never unpickles."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.datasets.image_set import ImageSet
from isthmus.runtime.errors import InputError

_NEEDS = "an npz file with 'images' (uint8, N x H x W or N x H x W x C) and 'labels' (integers, N) is needed"
# Above this, the largest label is no count of classes but a mistake in the file.
_MAX_INFERRED_CLASSES = 65_535


def load_npz(file: Path, name: str) -> ImageSet:
    """Return the images of the archive `file` as a set called `name`.

    Without `classes`, the classes are the numbers 0 to the largest label.

    Raises:
        InputError: If the file is missing, is no such archive, or its arrays do not fit each other.
    """
    arrays = _read_arrays(file)
    images = arrays["images"]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    labels = arrays["labels"]
    if labels.dtype.kind not in "iu":
        raise InputError(f"{file}: labels are {labels.dtype}; integer class indices are needed")
    classes = _classes(file, arrays.get("classes"), labels)
    return ImageSet(images=images, labels=labels.astype(np.int64), classes=classes, name=name)


def _read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{file}: holds a single array; {_NEEDS}")
            missing = {"images", "labels"} - set(archive.files)
            if missing:
                found = ", ".join(archive.files) or "nothing"
                raise InputError(f"{file}: has no '{sorted(missing)[0]}' (found: {found}); {_NEEDS}")
            return {key: archive[key] for key in ("images", "labels", "classes") if key in archive.files}
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; {_NEEDS}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file}: cannot be read as npz without unpickling ({error}); {_NEEDS}") from None


def _classes(file: Path, stored: NDArray[Any] | None, labels: NDArray[Any]) -> tuple[str, ...]:
    if stored is None:
        largest = int(labels.max(initial=0))
        if largest > _MAX_INFERRED_CLASSES:
            raise InputError(f"{file}: label {largest} is no class index; store 'classes' or mend it")
        return tuple(str(label) for label in range(largest + 1))
    if stored.ndim != 1 or stored.dtype.kind != "U":
        raise InputError(
            f"{file}: classes are {stored.dtype} of shape {stored.shape}; one text per class is needed"
        )
    return tuple(str(name) for name in stored)
