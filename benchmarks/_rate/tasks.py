"""The tasks: a network with published weights and the images that it is measured on.

What is trained on and what is only measured on is decided here and nowhere else.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import _networks
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from isthmus.models.backbones import MODELS, load_weights, make_model
from isthmus.runtime.datasets import load_dataset
from isthmus.runtime.errors import InputError

KEPT_PER_CLASS = 70


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Images on which every method is measured.

    Attributes:
        name: What they are.
        images_nhwc: uint8 [n, h, w, c].
        truth_n: int64 [n], the right output of the network.
    """

    name: str
    images_nhwc: NDArray[np.uint8]
    truth_n: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A network, the images it is measured on, and its cut.

    Attributes:
        name: As given to `--task`.
        teacher: The uncut network, normalised float NCHW → logits.
        ref: Its name among the backbones.
        mean, std: Of its normalisation, on pixels in [0, 1].
        parts: The images; the first one's accuracy is the headline.
    """

    name: str
    teacher: nn.Module
    ref: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    parts: tuple[Part, ...]


def load_task(name: str, *, limit: int | None = None) -> Task:
    """Return the task `name` with at most `limit` images a part, evenly spread.

    Raises:
        InputError: If there is no such task, or the real data is not here.
    """
    if name not in TASKS:
        raise InputError(f"--task {name!r}: give one of {', '.join(TASKS)}")
    data = _networks.data_folder()
    if not data.is_dir():
        raise InputError(f"{data}: no real data here; set ISTHMUS_DATA to its folder")
    return TASKS[name](data, limit)


def kept_files(folder: Path) -> list[Path]:
    """Return the training images kept out of all training: the last `KEPT_PER_CLASS` of every class."""
    return [
        file
        for label in sorted(path for path in folder.iterdir() if path.is_dir())
        for file in sorted(label.glob("*.JPEG"))[-KEPT_PER_CLASS:]
    ]


def _cifar(data: Path, limit: int | None) -> Task:
    ref = "cifar-resnet56"
    images = load_dataset(f"npz:{data / 'cifar10' / 'test.npz'}", split="test", limit=limit)
    part = Part(name="test", images_nhwc=images.images, truth_n=images.labels)
    return _task(
        "cifar10-resnet56", ref, 10, data / "weights/cifar10_akamaster/resnet56-4bfd9763.th", (part,)
    )


def _imagenette(data: Path, limit: int | None) -> Task:
    root = data / "imagenette224"
    with (root / "classes.csv").open() as file:
        output = {row["wnid"]: int(row["imagenet_class_index"]) for row in csv.DictReader(file)}
    val = sorted((root / "val").glob("*/*.JPEG"))
    parts = (
        _read("val", val, output, limit),
        _read("training images kept out", kept_files(root / "train"), output, limit),
    )
    weights = data / "weights/imagenet_mobilenet_v2/mobilenet_v2_i8perchannel.npz"
    return _task("imagenette-mobilenetv2", "mobilenet-v2-same", 1000, weights, parts)


def _task(name: str, ref: str, classes: int, weights: Path, parts: tuple[Part, ...]) -> Task:
    teacher = make_model(ref, classes, 3)
    load_weights(teacher, weights)
    backbone = MODELS[ref]
    frozen = teacher.eval().requires_grad_(False)
    return Task(name=name, teacher=frozen, ref=ref, mean=backbone.mean, std=backbone.std, parts=parts)


def _read(name: str, files: list[Path], output: dict[str, int], limit: int | None) -> Part:
    chosen = files if limit is None else files[:: max(1, len(files) // limit)][:limit]
    images = []
    for file in chosen:
        with Image.open(file) as image:
            images.append(np.asarray(image.convert("RGB"), dtype=np.uint8))
    truth = np.array([output[file.parent.name] for file in chosen], dtype=np.int64)
    return Part(name=name, images_nhwc=np.stack(images), truth_n=truth)


TASKS: dict[str, Callable[[Path, int | None], Task]] = {
    "cifar10-resnet56": _cifar,
    "imagenette-mobilenetv2": _imagenette,
}
