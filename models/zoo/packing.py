"""Tensors in few bytes: matrices in 16 bits, large ones and differences to known tensors in 8, vectors whole.

Decides how a state becomes arrays and back. What is rounded is said in the names: `NAME` alone holds values,
`NAME+` what is added to the known value (zero, if none is known), `NAME+8` the same in 8 bits, by
`NAME+scale` per first index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ADDED, _ADDED_INT8, _SCALE = "+", "+8", "+scale"
_LEVELS = 127
# Of so many numbers each matters little, and all of them weigh much.
_LARGE = 100_000


def pack(state: Mapping[str, Tensor], known: Mapping[str, Tensor] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays that hold `state`.

    Args:
        state: Tensors by name.
        known: Tensors that whoever unpacks has too: only what differs from them is stored.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu()
        if known is None and value.numel() >= _LARGE:
            arrays |= _difference(name, value, torch.zeros_like(value))
        elif known is None:
            arrays[name] = _halved(value)
        elif not torch.equal(value, known[name]):
            arrays |= _difference(name, value, known[name])
    return arrays


def unpack(
    arrays: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, Tensor],
    known: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the state that `arrays` hold.

    Args:
        arrays: What `pack` returned.
        wanted: Names, shapes and types of the state.
        known: As for `pack`.

    Raises:
        ValueError: If a tensor is missing, unknown or of another shape.
    """
    state = {}
    unused = set(arrays)
    for name, like in wanted.items():
        keys = [key for key in (name, name + _ADDED, name + _ADDED_INT8) if key in arrays]
        unused -= {*keys, name + _SCALE}
        if not keys and known is None:
            raise ValueError(f"lacks {name}")
        value = _value(arrays, keys[0], name) if keys else np.zeros(like.shape)
        if value.shape != tuple(like.shape):
            raise ValueError(f"{name} has shape {value.shape}, expected {tuple(like.shape)}")
        added = known is not None and keys != [name]
        base = known[name].detach().cpu().double() if added and known is not None else 0.0
        state[name] = (torch.from_numpy(value.astype(np.float64)) + base).to(like.dtype)
    if unused:
        raise ValueError(f"has unknown {sorted(unused)[:3]}")
    return state


def _halved(value: Tensor) -> NDArray[Any]:
    array = value.numpy()
    if value.dim() < 2 or not value.is_floating_point():
        return array
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and stays in 32 bits
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _difference(name: str, value: Tensor, known: Tensor) -> dict[str, NDArray[Any]]:
    if not value.is_floating_point():
        return {name: value.numpy()}
    added = (value.double() - known.detach().cpu().double()).numpy()
    if value.dim() < 2:
        return {name + _ADDED: added.astype(np.float32)}
    scale = np.abs(added.reshape(len(added), -1)).max(axis=1) / _LEVELS
    # A step that 32 bits hold only roughly, or not at all, is of a difference that they do not hold either.
    scale = np.where(scale >= np.finfo(np.float32).tiny, scale, 1.0).astype(np.float32)
    levels = np.rint(added / _per_first(scale, added.ndim))
    return {name + _ADDED_INT8: levels.astype(np.int8), name + _SCALE: scale}


def _value(arrays: Mapping[str, NDArray[Any]], key: str, name: str) -> NDArray[Any]:
    value = arrays[key]
    if not key.endswith(_ADDED_INT8):
        return value
    scale = arrays.get(name + _SCALE)
    if scale is None or scale.shape != value.shape[:1]:
        raise ValueError(f"lacks the scales of {name}")
    scaled: NDArray[Any] = value * _per_first(scale.astype(np.float64), value.ndim)
    return scaled


def _per_first(scale: NDArray[Any], dims: int) -> NDArray[Any]:
    return scale.reshape(-1, *(1,) * (dims - 1))
