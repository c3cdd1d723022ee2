"""Networks for benchmarks and slow tests as ONNX files, and inputs for them.

Any network that `isthmus` knows by name, with seeded random weights under which it answers differently to
different images, is exported once into a cache; `yolox-nano` is taken from the real data, where that is.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.models import backbones, onnx_export, teacher_export
from isthmus.models.backbones import MODELS, make_model, randomise
from isthmus.runtime.datasets.folder import cover
from isthmus.runtime.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "runs" / "networks"
YOLOX = "yolox-nano"
_YOLOX_SIDE, _YOLOX_GREY = 416, 114
Images = NDArray[np.float32]


def data_folder() -> Path:
    """Return where real data lies, whether it is there or not: ISTHMUS_DATA, or beside the project."""
    return Path(os.environ.get("ISTHMUS_DATA") or ROOT.parent / "shared" / "data")


def has_network(name: str) -> bool:
    """Return whether `network_file` can give the network `name` here."""
    return name in MODELS or (name == YOLOX and _yolox_file().is_file())


def network_file(name: str, folder: Path = CACHE, *, seed: int = 0) -> Path:
    """Return the ONNX file of the network `name`, exporting it unless `folder` has it already.

    Args:
        name: A name that `isthmus.models.backbones.MODELS` has, or `yolox-nano`.
        folder: The cache; files are named after all that their content depends on.
        seed: Of the random weights.

    Raises:
        InputError: If there is no such network, or its file cannot be written or found.
    """
    if name == YOLOX:
        if not has_network(name):
            raise InputError(f"{_yolox_file()}: not here; set ISTHMUS_DATA, or leave {YOLOX} out")
        return _yolox_file()
    if name not in MODELS:
        raise InputError(f"network {name!r}: give one of {', '.join([*MODELS, YOLOX])}")
    file = folder / f"{name}-{seed}-{_MAKER}.onnx"
    if not file.is_file():
        # Under a name of this process first: another may export the same network.
        own = folder / f"{name}-{os.getpid()}.onnx"
        _export(name, own, seed)
        own.replace(file)
    return file


def real_inputs(name: str, count: int) -> list[Images]:
    """Return up to `count` real images as the network `name` takes them, float32 [1, c, h, w] each.

    There are none without the real data, or for networks that do not take photographs.
    """
    if name == YOLOX:
        photo = data_folder() / "weights" / "coco_detect" / "dog.jpg"
        return [_letterboxed(photo)][:count] if photo.is_file() else []
    backbone = MODELS[name]
    height, width, channels = backbone.shape_hwc
    if channels != 3:
        return []
    files = sorted((data_folder() / "imagenette224" / "val").glob("*/*.JPEG"))
    chosen = [files[index * len(files) // count] for index in range(count)] if files else []
    mean, std = (np.asarray(values, dtype=np.float32) for values in (backbone.mean, backbone.std))
    inputs = []
    for file in chosen:
        with Image.open(file) as image:
            pixels = cover(image.convert("RGB"), (height, width)).astype(np.float32) / 255
        inputs.append(_nchw(((pixels - mean) / std).astype(np.float32)))
    return inputs


def _export(name: str, file: Path, seed: int) -> None:
    import torch

    backbone = MODELS[name]
    height, width, channels = backbone.shape_hwc
    network = make_model(name, backbone.num_classes, channels)
    randomise(network, (channels, height, width), seed=seed)
    teacher_export.export_onnx(network, torch.zeros(1, channels, height, width), file)


def _maker_digest() -> str:
    """Return a digest of the code and libraries that make the files."""
    sources = [*Path(backbones.__file__).parent.glob("*.py"), onnx_export.__file__, teacher_export.__file__]
    digest = hashlib.sha256("".join(f"{name} {version(name)}\n" for name in ("torch", "onnxscript")).encode())
    for source in sorted(map(str, sources)):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:12]


# Taken when the code is loaded: a later edit of it must not name what this process exports.
_MAKER = _maker_digest()


def _yolox_file() -> Path:
    return data_folder() / "weights" / "coco_detect" / "yolox_nano.onnx"


def _letterboxed(photo: Path) -> Images:
    """Return the photo at the upper left of a grey square, blue first, 0 to 255."""
    with Image.open(photo) as image:
        scale = _YOLOX_SIDE / max(image.size)
        small = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    square = np.full((_YOLOX_SIDE, _YOLOX_SIDE, 3), _YOLOX_GREY, dtype=np.float32)
    square[: small.height, : small.width] = np.asarray(small)
    return _nchw(square[..., ::-1])


def _nchw(pixels_hwc: NDArray[np.float32]) -> Images:
    """Return [1, c, h, w] of [h, w, c]."""
    return np.ascontiguousarray(pixels_hwc.transpose(2, 0, 1)[None], dtype=np.float32)
