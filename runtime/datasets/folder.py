"""`folder:DIR`: one folder of images per class, or, where no classes are needed, images alone.

Skips nothing silently: a file among the images that is none ends the loading. Only names that start with a
dot are passed over (what file managers leave behind).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from isthmus.runtime.datasets.image_set import ImageSet, spread
from isthmus.runtime.errors import InputError

_LAYOUT = "put the images of each class in a folder of its own: DIR/cat/1.jpg (or DIR/train/cat/1.jpg)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderListing:
    """The image files of a folder, in the order of their names.

    Attributes:
        files: The images.
        labels: The class of each as an index into `classes`; None without class folders.
        classes: Names of the class folders; empty without.
        name: What the user wrote, the split and, where images were left out, how many remain.
    """

    files: tuple[Path, ...]
    labels: tuple[int | None, ...]
    classes: tuple[str, ...]
    name: str


def load_folder(
    root: Path, spec: str, *, split: Literal["train", "test"], size: tuple[int, int] | None, limit: int | None
) -> ImageSet:
    """Return the RGB images below `root` with their classes; see `list_folder`.

    Args:
        root: The folder DIR.
        spec: What the user wrote, for names and messages.
        split: Which part.
        size: Height and width; images are scaled to cover it and cropped at the centre. None: all must agree.
        limit: At most so many images, evenly spread.

    Raises:
        InputError: If the layout is another, an image cannot be read, or sizes differ and no `size` is given.
    """
    listing = list_folder(root, spec, split=split, limit=limit)
    return ImageSet(
        images=_read_images(listing.files, size),
        labels=np.array(listing.labels, dtype=np.int64),
        classes=listing.classes,
        name=listing.name,
    )


def list_folder(
    root: Path,
    spec: str,
    *,
    split: Literal["train", "test"],
    limit: int | None = None,
    unlabelled: bool = False,
) -> FolderListing:
    """Return the image files below `root`, classes and files in the order of their names.

    `DIR/train` is used for training and `DIR/test` (or `DIR/val`) for testing where they exist, otherwise
    `DIR` itself for both. A test set may lack a class of the training set, never add one.

    Args:
        root: The folder DIR.
        spec: What the user wrote, for names and messages.
        split: Which part.
        limit: At most so many images, evenly spread.
        unlabelled: Take images that lie in no class folder, if there are no class folders.

    Raises:
        InputError: If the layout is another.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; {_LAYOUT}")
    base, split_name = _split_folder(root, split)
    files: list[tuple[Path, int | None]]
    loose = _loose_files(base) if unlabelled else []
    if loose:
        classes: tuple[str, ...] = ()
        files = [(file, None) for file in loose]
    else:
        found = _class_files(base)
        classes = _classes(root, base, found, split_name, split)
        files = [(file, classes.index(name)) for name, members in found.items() for file in members]
    kept = spread(len(files), limit)
    share = "" if len(kept) == len(files) else f"{len(kept)} of {len(files)}"
    note = ", ".join(part for part in (split_name, share) if part)
    return FolderListing(
        files=tuple(files[index][0] for index in kept),
        labels=tuple(files[index][1] for index in kept),
        classes=classes,
        name=f"{spec} ({note})" if note else spec,
    )


def _classes(
    root: Path, base: Path, found: dict[str, list[Path]], split_name: str | None, split: str
) -> tuple[str, ...]:
    """Return the class names: those of the training set where there is one."""
    if split_name is None or split != "test" or not (root / "train").is_dir():
        return tuple(found)
    classes = tuple(_class_files(root / "train"))
    for name in found:
        if name not in classes:
            raise InputError(f"{base / name}: {root / 'train'} lacks this class; add it or remove it here")
    return classes


def _loose_files(base: Path) -> list[Path]:
    """Return the images of a folder without class folders; nothing if it has any folder or no image."""
    entries = sorted(entry for entry in base.iterdir() if not entry.name.startswith("."))
    extensions = Image.registered_extensions()
    images = [entry for entry in entries if entry.suffix.lower() in extensions]
    if not images or any(entry.is_dir() for entry in entries):
        return []
    if len(images) < len(entries):
        foreign = next(entry for entry in entries if entry not in images)
        raise InputError(f"{foreign}: not an image, among images; move it elsewhere")
    return images


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


def _read_images(files: tuple[Path, ...], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    first = read_image(files[0], size)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for index, file in enumerate(files):
        image = first if index == 0 else read_image(file, size)
        if image.shape != first.shape:
            raise InputError(
                f"{file}: {_size_text(image)} pixels, but {files[0].name} has {_size_text(first)}; "
                "give one --size for all, or make them the same size"
            )
        images[index] = image
    return images


def _size_text(image_hwc: NDArray[np.uint8]) -> str:
    return f"{image_hwc.shape[1]}x{image_hwc.shape[0]}"


def read_image(file: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return an image file as RGB, uint8 [height, width, 3], upright and, with a `size`, covering it.

    Raises:
        InputError: If it cannot be read.
    """
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
