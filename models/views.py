"""Augmented copies of the training images, drawn once, with the teacher's features and answers for each.

The teacher is a large part of a step on a CPU; with a fixed number of views per image it works once per view
instead of once per epoch. Held in memory-mapped files, because they may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from isthmus.models.folding import folded
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import GateError, InputError

# Images at a time: as many pixels as the caches like, enough images to be mixed with each other.
_PIXELS, _FEWEST, _MOST = 1 << 20, 32, 128
_FACTS = "views.json"
# Seconds between the questions to whoever waits for another run's views.
_ASKED_EVERY_S = 0.5


class AugmentedViews:
    """View v of image i is row v · images + i of every file."""

    def __init__(
        self, images: int, pixels: NDArray[np.uint8], targets: Sequence[NDArray[Any] | None]
    ) -> None:
        """Take the number of images and the open arrays; None for a target that no loss looks at."""
        self._images, self._pixels, self._targets = images, pixels, targets

    def pixels(self, view: int, chosen: Tensor) -> Tensor:
        """Return uint8 images [n, h, w, c] of `view`, augmented, at the indices `chosen`."""
        return torch.from_numpy(self._pixels[view * self._images + chosen.numpy()])

    def recall(self, view: int, chosen: Tensor, device: torch.device) -> Callable[[int], list[Tensor]]:
        """Return a function that gives the teacher's first so many targets for these images."""
        rows = view * self._images + chosen.numpy()

        def targets(wanted: int) -> list[Tensor]:
            parts = [None if array is None else array[rows] for array in self._targets[:wanted]]
            tensors = [torch.empty(0) if part is None else torch.from_numpy(part) for part in parts]
            return [tensor.to(device, non_blocking=True) for tensor in tensors]

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
        folder: Where their files are; those of another teacher, data set or augmentation are replaced. Runs
            that share it wait for the one that makes them.
        network: Its teacher answers, on the network's device.
        pixels_nhwc: Training images, uint8.
        settings: How many views, how they are augmented and mixed, the seed, and the teacher's precision.
        progress: Called after each batch with how many are done, and their count; while another run makes
            them, with 0.

    Raises:
        InputError: If there is no room for them.
        GateError: If the teacher's features are out of the range of half precision.
    """
    images = len(pixels_nhwc)
    teacher = _Teacher(network, settings)
    shapes = teacher.shapes(pixels_nhwc, images * settings.views)
    config = network.config
    facts = {
        # Networks of different padding or normalisation may have the same tensors.
        "model": config.model,
        "normalisation": [list(config.mean), list(config.std)],
        "teacher": config.teacher_digest,
        "cut": config.cut,
        "pixels": hashlib.sha256(np.ascontiguousarray(pixels_nhwc.numpy()).data).hexdigest()[:16],
        "augmentation": repr((settings.augmentation, settings.mixing)),
        "views": settings.views,
        "seed": settings.seed,
        "precision": settings.precision,
        "kept": teacher.kept,
        "shapes": [[str(np.dtype(kind)), list(shape)] for kind, shape in shapes],
    }
    files = [folder / f"{name}.npy" for name in ("pixels", *teacher.kept)]
    rows = images * settings.views
    with _alone(folder, progress and (lambda: progress(0, rows))):
        if _facts(folder) != facts:
            _make_room(folder, shapes)
            arrays = [
                np.lib.format.open_memmap(file, "w+", dtype=kind, shape=shape)
                for file, (kind, shape) in zip(files, shapes, strict=True)
            ]
            _fill(arrays, teacher, pixels_nhwc, settings, progress)
            (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        pixels, *opened = (np.load(file, mmap_mode="r") for file in files)
    by_index = dict(zip(teacher.kept, opened, strict=True))
    return AugmentedViews(images, pixels, [by_index.get(index) for index in range(len(teacher.segments))])


class _Teacher:
    """The teacher as it runs fastest, and which of its answers are kept: those that a loss looks at."""

    def __init__(self, network: SplitNetwork, settings: TrainSettings) -> None:
        self._network, self._settings = network, settings
        self._device = next(network.parameters()).device
        dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        self.segments = folded([network.teacher_head, *network.teacher_tail], dtype)
        last, weights = len(self.segments) - 1, settings.level_weights
        level = [weights[min(index, len(weights) - 1)] for index in range(last)]
        self.kept = [*(index for index in range(last) if level[index]), last]

    @torch.no_grad()
    def __call__(self, batch_nhwc: Tensor) -> list[Tensor]:
        """Return the targets that are kept for uint8 images, on the CPU."""
        x_nchw = self._network.normalise(batch_nhwc.to(self._device))
        targets = [x_nchw.contiguous(memory_format=torch.channels_last)]
        enabled = self._settings.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=enabled):
            for segment in self.segments:
                targets.append(segment(targets[-1]))
        return [targets[1 + index].float().cpu() for index in self.kept]

    def shapes(self, pixels_nhwc: Tensor, rows: int) -> list[tuple[Any, tuple[int, ...]]]:
        """Return type and shape of every file: pixels, features in half precision, logits in single."""
        targets = self(pixels_nhwc[:1])
        kinds = [np.float16] * (len(targets) - 1) + [np.float32]
        shapes = [(kind, (rows, *target.shape[1:])) for kind, target in zip(kinds, targets, strict=True)]
        return [(np.uint8, (rows, *pixels_nhwc.shape[1:])), *shapes]


@contextmanager
def _alone(folder: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Keep other runs out of `folder`; call `waiting` now and then while one of them does."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_ASKED_EVERY_S)
            except Timeout:
                if waiting is not None:
                    waiting()
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; choose another --out") from None
    try:
        yield
    finally:
        lock.release()


def _facts(folder: Path) -> object:
    """Return what the finished views in `folder` were made of; None if there are none."""
    try:
        return json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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


def _fill(
    arrays: Sequence[NDArray[Any]],
    teacher: _Teacher,
    pixels_nhwc: Tensor,
    settings: TrainSettings,
    progress: Callable[[int, int], None] | None,
) -> None:
    images, rows = len(pixels_nhwc), len(arrays[0])
    generator = torch.Generator().manual_seed(settings.seed)
    # Shuffled within each view: images that are mixed are neighbours, and sets are often sorted by class.
    order = torch.cat([torch.randperm(images, generator=generator) for _ in range(settings.views)])
    size = max(_FEWEST, min(_MOST, _PIXELS // math.prod(pixels_nhwc.shape[1:3])))
    for start in range(0, rows, size):
        places = torch.arange(start, min(rows, start + size))
        chosen = order[places]
        batch_nhwc = settings.augmentation(pixels_nhwc[chosen], generator)
        if settings.mixing.active:
            batch_nhwc, _, _ = settings.mixing(batch_nhwc, generator)
        part = (places // images * images + chosen).numpy()
        arrays[0][part] = batch_nhwc.numpy()
        for array, target in zip(arrays[1:], teacher(batch_nhwc), strict=True):
            with np.errstate(over="ignore"):  # what is too large is told below
                values = target.numpy().astype(array.dtype)
            if not np.isfinite(values).all():
                raise GateError(
                    "views: the network's features are too large for half precision; give 0 views"
                )
            array[part] = values
        if progress is not None:
            progress(min(rows, start + size), rows)
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()
