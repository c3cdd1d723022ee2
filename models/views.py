"""Augmented copies of the training images, drawn once, with the teacher's features and answers for each.

The teacher is a large part of a step on a CPU; with a fixed number of views per image it works once per view
instead of once per epoch. Held in memory-mapped files, because they may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import GateError, InputError

_BATCH = 128
_FACTS = "views.json"


class AugmentedViews:
    """View v of image i is row v · images + i of every file."""

    def __init__(self, folder: Path, images: int, arrays: Sequence[NDArray[Any]]) -> None:
        """Take the open arrays: pixels first, then the teacher's targets in their order."""
        self.folder, self._images, self._arrays = folder, images, arrays

    def pixels(self, view: int, chosen: Tensor) -> Tensor:
        """Return uint8 images [n, h, w, c] of `view`, augmented, at the indices `chosen`."""
        return torch.from_numpy(self._arrays[0][view * self._images + chosen.numpy()])

    def recall(self, view: int, chosen: Tensor, device: torch.device) -> Callable[[int], list[Tensor]]:
        """Return a function that gives the teacher's first so many targets for these images."""
        rows = view * self._images + chosen.numpy()

        def targets(wanted: int) -> list[Tensor]:
            parts = [torch.from_numpy(array[rows]) for array in self._arrays[1 : 1 + wanted]]
            return [part.to(device, non_blocking=True) for part in parts]

        return targets


def open_views(
    folder: Path,
    network: SplitNetwork,
    pixels_nhwc: Tensor,
    settings: TrainSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> AugmentedViews:
    """Return the `settings.views` views in `folder`, made first where they are not there yet.

    Args:
        folder: Where their files are; those of another teacher, data set or augmentation are replaced.
        network: Its teacher answers, on the network's device.
        pixels_nhwc: Training images, uint8.
        settings: How many views, how they are augmented and mixed, the seed, and the teacher's precision.
        progress: Called after each batch with how many are done, and their count.

    Raises:
        InputError: If there is no room for them.
        GateError: If the teacher's features are out of the range of half precision.
    """
    images = len(pixels_nhwc)
    shapes = _shapes(network, pixels_nhwc, images * settings.views)
    facts = {
        "teacher": network.config.teacher_digest,
        "cut": network.config.cut,
        "pixels": hashlib.sha256(pixels_nhwc.numpy().tobytes()).hexdigest()[:16],
        "augmentation": repr((settings.augmentation, settings.mixing)),
        "views": settings.views,
        "seed": settings.seed,
        "precision": settings.precision,
        "shapes": [[str(np.dtype(kind)), list(shape)] for kind, shape in shapes],
    }
    files = [folder / f"{index}.npy" for index in range(len(shapes))]
    if _facts(folder) != facts:
        _make_room(folder, shapes)
        arrays = [
            np.lib.format.open_memmap(file, "w+", dtype=kind, shape=shape)
            for file, (kind, shape) in zip(files, shapes, strict=True)
        ]
        _fill(arrays, network, pixels_nhwc, settings, progress)
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return AugmentedViews(folder, images, [np.load(file, mmap_mode="r") for file in files])


def _facts(folder: Path) -> object:
    """Return what the finished views in `folder` were made of; None if there are none."""
    try:
        return json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@torch.no_grad()
def _shapes(network: SplitNetwork, pixels_nhwc: Tensor, rows: int) -> list[tuple[Any, tuple[int, ...]]]:
    """Return type and shape of every file: pixels, features in half precision, logits in single."""
    device = next(network.parameters()).device
    targets = _targets(network, pixels_nhwc[:1].to(device))
    kinds = [np.float16] * (len(targets) - 1) + [np.float32]
    shapes = [(kind, (rows, *target.shape[1:])) for kind, target in zip(kinds, targets, strict=True)]
    return [(np.uint8, (rows, *pixels_nhwc.shape[1:])), *shapes]


def _make_room(folder: Path, shapes: Sequence[tuple[Any, tuple[int, ...]]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    needed = sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in shapes)
    try:
        folder.mkdir(parents=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; choose another --out") from None
    if needed > free:
        raise InputError(
            f"{folder}: the views need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "give fewer --views, or 0"
        )


@torch.no_grad()
def _fill(
    arrays: Sequence[NDArray[Any]],
    network: SplitNetwork,
    pixels_nhwc: Tensor,
    settings: TrainSettings,
    progress: Callable[[int, int], None] | None,
) -> None:
    device = next(network.parameters()).device
    images, rows = len(pixels_nhwc), len(arrays[0])
    generator = torch.Generator().manual_seed(settings.seed)
    enabled = settings.precision == "bfloat16"
    # Shuffled within each view: images that are mixed are neighbours, and sets are often sorted by class.
    order = torch.cat([torch.randperm(images, generator=generator) for _ in range(settings.views)])
    for start in range(0, rows, _BATCH):
        places = torch.arange(start, min(rows, start + _BATCH))
        chosen = order[places]
        batch_nhwc = settings.augmentation(pixels_nhwc[chosen], generator)
        if settings.mixing.active:
            batch_nhwc, _, _ = settings.mixing(batch_nhwc, generator)
        part = (places // images * images + chosen).numpy()
        arrays[0][part] = batch_nhwc.numpy()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            targets = _targets(network, batch_nhwc.to(device))
        for array, target in zip(arrays[1:], targets, strict=True):
            values = target.float().cpu().numpy().astype(array.dtype)
            array[part] = values
            if not np.isfinite(values).all():
                raise GateError(
                    "views: the network's features are too large for half precision; give 0 views"
                )
        if progress is not None:
            progress(min(rows, start + _BATCH), rows)
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()


def _targets(network: SplitNetwork, batch_nhwc: Tensor) -> list[Tensor]:
    x_nchw = network.normalise(batch_nhwc).contiguous(memory_format=torch.channels_last)
    targets = [network.teacher_head(x_nchw)]
    for segment in network.teacher_tail:
        targets.append(segment(targets[-1]))
    return targets
