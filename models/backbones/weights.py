"""Load a checkpoint into a network and say exactly what does not fit.

Accepts a plain state dict or one under `state_dict`, `model_state_dict` or `model`, with or without the
`module.` prefix that data-parallel training leaves, and with the names that published files have; and, where
the file's name ends in .npz, arrays.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.models.backbones.npz_weights import read_npz
from isthmus.runtime.errors import InputError

_PREFIX = "module."
# Counters of BatchNorm that old checkpoints lack and evaluation never reads.
_OPTIONAL = "num_batches_tracked"
# DenseNet and ViT files in circulation are older than their networks' present parameter names.
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the tensors of `path` into `module`; every key and shape must fit.

    Raises:
        InputError: If the file cannot be read as plain tensors, or a key or shape differs.
    """
    wanted = module.state_dict()
    contents = read_npz(path) if path.suffix == ".npz" else _state_dict(_read(path), path)
    state = {_present_name(name, wanted): tensor for name, tensor in contents.items()}
    missing = [name for name in wanted if name not in state and not name.endswith(_OPTIONAL)]
    unknown = [name for name in state if name not in wanted]
    if missing or unknown:
        raise InputError(
            f"{path}: does not fit {type(module).__name__}: lacks {_few(missing)}, has unknown "
            f"{_few(unknown)}; give the weights of this network"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, {type(module).__name__} needs "
                f"{tuple(wanted[name].shape)}; check the number of classes and the model"
            )
    module.load_state_dict(state, strict=False)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give --weights FILE") from None
    except Exception as error:  # the reader raises whatever damaged bytes lead it to
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a file of plain tensors ({reason}); "
            "save it with torch.save(module.state_dict(), FILE)"
        ) from None


def _state_dict(contents: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
    if not isinstance(contents, Mapping) or not contents:
        raise InputError(f"{path}: holds a {type(contents).__name__}, not a state dict")
    strange = [name for name, value in contents.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(f"{path}: {_few([str(name) for name in strange])} is no tensor; give a state dict")
    return {str(name): tensor for name, tensor in contents.items()}


def _present_name(name: str, wanted: Container[str]) -> str:
    # A network of the user's may well have a part called `module`: what fits as it is stays as it is.
    bare = name if name in wanted else name.removeprefix(_PREFIX)
    if bare not in wanted:
        for old, new in _OLD_NAMES:
            bare = old.sub(new, bare)
    return bare


def _few(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
