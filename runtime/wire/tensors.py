"""Tensor contents of the Open Inference Protocol: raw bytes and the typed lists, both ways.

Refuses whatever does not have exactly the length that its shape says, before anything of that size is
allocated.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import WireError

_LENGTH = struct.Struct("<I")


def pack_bytes(items: Sequence[bytes]) -> bytes:
    """Return a BYTES tensor's raw contents: each item after its length, 4 bytes little-endian."""
    return b"".join(part for item in items for part in (_LENGTH.pack(len(item)), item))


def unpack_bytes(raw: bytes, count: int, where: str) -> tuple[bytes, ...]:
    """Return the `count` items of a BYTES tensor's raw contents.

    Raises:
        WireError: If `raw` does not hold exactly `count` items; the message begins with `where`.
    """
    items = []
    position = 0
    for index in range(count):
        start = position + _LENGTH.size
        if start > len(raw):
            raise WireError(f"{where}: raw contents end before item {index} of {count}")
        (length,) = _LENGTH.unpack_from(raw, position)
        position = start + length
        if position > len(raw):
            raise WireError(f"{where}: item {index} claims {length} bytes, {len(raw) - start} are left")
        items.append(raw[start:position])
    if position != len(raw):
        raise WireError(f"{where}: {len(raw) - position} bytes after the last of {count} items")
    return tuple(items)


def unpack_uint8(raw: bytes, shape: Sequence[int], where: str) -> NDArray[np.uint8]:
    """Return a UINT8 tensor's raw contents as a read-only view of `shape`.

    Raises:
        WireError: If `raw` has another length.
    """
    _check_length(len(raw), math.prod(shape), shape, "bytes", where)
    return np.frombuffer(raw, np.uint8).reshape(shape)


def unpack_uint8_list(values: Sequence[int], shape: Sequence[int], where: str) -> NDArray[np.uint8]:
    """Return a UINT8 tensor's `uint_contents` as an array of `shape`.

    Raises:
        WireError: If there are more or fewer values, or one is above 255.
    """
    _check_length(len(values), math.prod(shape), shape, "values", where)
    wide = np.array(values, np.uint32)
    if wide.size and int(wide.max()) > 255:
        raise WireError(f"{where}: value {int(wide.max())} does not fit UINT8")
    return wide.astype(np.uint8).reshape(shape)


def unpack_float32(raw: bytes, shape: Sequence[int], where: str) -> NDArray[np.float32]:
    """Return an FP32 tensor's raw contents as a read-only view of `shape`.

    Raises:
        WireError: If `raw` has another length.
    """
    _check_length(len(raw), 4 * math.prod(shape), shape, "bytes", where)
    return np.frombuffer(raw, "<f4").reshape(shape)


def unpack_float32_list(values: Sequence[float], shape: Sequence[int], where: str) -> NDArray[np.float32]:
    """Return an FP32 tensor's `fp32_contents` as an array of `shape`.

    Raises:
        WireError: If there are more or fewer values.
    """
    _check_length(len(values), math.prod(shape), shape, "values", where)
    return np.array(values, np.float32).reshape(shape)


def check_shape(shape: Sequence[int], rank: int, where: str) -> tuple[int, ...]:
    """Return `shape` if it has `rank` dimensions, all at least 1.

    Raises:
        WireError: If not.
    """
    if len(shape) != rank or any(size < 1 for size in shape):
        raise WireError(f"{where}: shape {list(shape)} is not {rank} positive dimensions")
    return tuple(shape)


def _check_length(found: int, wanted: int, shape: Sequence[int], unit: str, where: str) -> None:
    if found != wanted:
        raise WireError(f"{where}: {found} {unit}, shape {list(shape)} needs {wanted}")
