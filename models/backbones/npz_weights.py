"""Read published weights that come as NumPy arrays, under the parameter names of the networks here.

Two layouts are known: int8 MobileNetV2 with its program, and SqueezeNet 1.0 from Caffe. Any other file must
hold a state dict as arrays.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.runtime.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
# Where torchvision's SqueezeNet keeps the modules that Caffe's calls fire2 to fire9.
_FIRES = {2: 3, 3: 4, 4: 5, 5: 7, 6: 8, 7: 9, 8: 10, 9: 12}
_FIRE_PARTS = {"conv1x1_1": "squeeze", "conv1x1_2": "expand1x1", "conv3x3_2": "expand3x3"}
_BATCHNORM_EPS = 1e-5


def read_npz(path: Path) -> dict[str, Tensor]:
    """Return the state dict that `path` holds.

    Raises:
        InputError: If the file cannot be read as plain arrays, or lacks what its layout needs.
    """
    try:
        # An open file, because NumPy leaves one that it opened itself open when it is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give --weights FILE") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:  # TypeError: a bare .npy
        raise InputError(f"{path}: not a file of plain arrays ({error})") from None
    try:
        if "program" in arrays:
            return _folded_mobilenet_v2(arrays)
        if "conv_final.w" in arrays:
            return _caffe_squeezenet(arrays)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: incomplete weights ({error}); fetch the file again") from None
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} is no array of numbers; give a state dict")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _folded_mobilenet_v2(arrays: Arrays) -> dict[str, Tensor]:
    """Return MobileNetV2's state from int8 weights, scales per output channel, and biases.

    The norms were folded into the convolutions, so each norm keeps only the bias. The classifier's first
    output stands for "background", which the thousand classes lack.
    """
    names = [step["name"] for step in json.loads(str(arrays["program"])) if "name" in step]
    state: dict[str, Tensor] = {}
    places = _mobilenet_v2_places()
    for name, (convolution, norm) in zip(names, places, strict=False):
        scale = arrays[f"{name}.scale"].astype(np.float32)
        weight = arrays[f"{name}.weight_i8"].astype(np.float32) * scale[:, None, None, None]
        bias = torch.from_numpy(arrays[f"{name}.bias"].astype(np.float32))
        if norm is None:
            state[f"{convolution}.weight"] = torch.from_numpy(weight[1:, :, 0, 0])
            state[f"{convolution}.bias"] = bias[1:]
        else:
            state[f"{convolution}.weight"] = torch.from_numpy(weight)
            state.update(_shift(norm, bias))
    if len(names) != len(places):
        raise ValueError(f"{len(names)} layers, MobileNetV2 has {len(places)}")
    return state


def _shift(norm: str, bias: Tensor) -> dict[str, Tensor]:
    """Return the state of a BatchNorm that only adds `bias`."""
    ones = torch.ones_like(bias)
    return {
        f"{norm}.weight": ones,
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": ones - _BATCHNORM_EPS,
    }


def _mobilenet_v2_places() -> list[tuple[str, str | None]]:
    """Return the paths of convolution and norm of the 53 layers, in the order in which they run."""
    places: list[tuple[str, str | None]] = [("features.0.0", "features.0.1")]
    for block in range(1, 18):
        # The first block has nothing to expand.
        hidden = 1 if block == 1 else 2
        path = f"features.{block}.conv"
        places += [(f"{path}.{index}.0", f"{path}.{index}.1") for index in range(hidden)]
        places.append((f"{path}.{hidden}", f"{path}.{hidden + 1}"))
    return [*places, ("features.18.0", "features.18.1"), ("classifier.1", None)]


def _caffe_squeezenet(arrays: Arrays) -> dict[str, Tensor]:
    """Return SqueezeNet's state; its first convolution expects blue first, ours red."""
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if layer == "conv1":
            path = "features.0"
            array = np.ascontiguousarray(array[:, ::-1]) if kind == "w" else array
        elif layer == "conv_final":
            path = "classifier.1"
        else:
            fire, _, part = layer.partition("/")
            path = f"features.{_FIRES[int(fire.removeprefix('fire'))]}.{_FIRE_PARTS[part]}"
        state[f"{path}.{'weight' if kind == 'w' else 'bias'}"] = torch.from_numpy(array)
    return state
