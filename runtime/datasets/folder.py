"""`folder:DIR`: one folder of images per class.

Skips nothing silently: a file in a class folder that is not an image ends the loading. Only names that start
with a dot are passed over (what file managers leave behind).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from isthmus.runtime.datasets.image_set import ImageSet, spread
from isthmus.runtime.errors import InputError

_LAYOUT = "put the images of each class in a folder of its own: DIR/cat/1.jpg (or DIR/train/cat/1.jpg)"


def load_folder(
    root: Path, spec: str, *, split: Literal["train", "test"], size: tuple[int, int] | None, limit: int | None
) -> ImageSet:
    """Return the RGB images below `root`, classes and files in the order of their names.

    `DIR/train` is used for training and `DIR/test` (or `DIR/val`) for testing where they exist, otherwise
    `DIR` itself for both. A test set may lack a class of the training set, never add one.

    Args:
        root: The folder DIR.
        spec: What the user wrote, for names and messages.
        split: Which part.
        size: Height and width; images are scaled to cover it and cropped at the centre. None: all must agree.
        limit: At most so many images, evenly spread.

    Raises:
        InputError: If the layout is another, an image cannot be read, or sizes differ and no `size` is given.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; {_LAYOUT}")
    base, split_name = _split_folder(root, split)
    found = _class_files(base)
    classes = tuple(found)
    if split_name is not None and split == "test" and (root / "train").is_dir():
        classes = tuple(_class_files(root / "train"))
        for name in found:
            if name not in classes:
                raise InputError(
                    f"{base / name}: {root / 'train'} lacks this class; add it or remove it here"
                )
    files = [(file, classes.index(name)) for name, members in found.items() for file in members]
    kept = spread(len(files), limit)
    labels = np.array([files[index][1] for index in kept], dtype=np.int64)
    images = _read_images([files[index][0] for index in kept], size)
    share = "" if len(kept) == len(files) else f"{len(kept)} of {len(files)}"
    note = ", ".join(part for part in (split_name, share) if part)
    return ImageSet(images=images, labels=labels, classes=classes, name=f"{spec} ({note})" if note else spec)


def _split_folder(root: Path, split: Literal["train", "test"]) -> tuple[Path, str | None]:
    names = ("train",) if split == "train" else ("test", "val")
    for name in names:
        if (root / name).is_dir():
            return root / name, name
    others = [name for name in ("train", "test", "val") if (root / name).is_dir()]
    if others:
        raise InputError(
            f"{root}: has {others[0]}/ but no {' or '.join(n + '/' for n in names)}; add that folder"
        )
    return root, None


def _class_files(base: Path) -> dict[str, list[Path]]:
    """Return the files of every class folder below `base`, both in the order of their names."""
    entries = sorted(entry for entry in base.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    extensions = Image.registered_extensions()
    loose = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in extensions]
    if not folders:
        what = f"holds files such as {entries[0].name}, no class folders" if entries else "is empty"
        raise InputError(f"{base}: {what}; {_LAYOUT}")
    if loose:
        raise InputError(f"{loose[0]}: an image beside the class folders has no class; move it into one")
    found: dict[str, list[Path]] = {}
    for folder in folders:
        members = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        if not members:
            raise InputError(f"{folder}: the class folder is empty; add images or remove the folder")
        nested = next((entry for entry in members if entry.is_dir()), None)
        if nested is not None:
            raise InputError(f"{nested}: a folder inside a class folder; {_LAYOUT}")
        found[folder.name] = members
    return found


def _read_images(files: list[Path], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    first = _read_image(files[0], size)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for index, file in enumerate(files):
        image = first if index == 0 else _read_image(file, size)
        if image.shape != first.shape:
            raise InputError(
                f"{file}: {_size_text(image)} pixels, but {files[0].name} has {_size_text(first)}; "
                "give one --size for all, or make them the same size"
            )
        images[index] = image
    return images


def _size_text(image_hwc: NDArray[np.uint8]) -> str:
    return f"{image_hwc.shape[1]}x{image_hwc.shape[0]}"


def _read_image(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as opened:
            # Photographs are often stored turned, with a tag that says how.
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as error:  # a decoder that meets damaged bytes raises more than OSError
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{file}: not a readable image ({detail}); replace the file or remove it") from None
    return np.asarray(image) if size is None else cover(image, size)


def cover(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return `image` scaled (bilinear) to cover `size` = (height, width) and cropped at the centre, uint8."""
    return np.asarray(ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR))
