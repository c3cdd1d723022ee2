"""Write an ONNX model: in one file, or with its weights beside it where one file cannot hold them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto, numpy_helper

from isthmus.partitioner.network.weights import (
    MAX_BYTES,
    SMALL_BYTES,
    bring_in,
    external_range,
    is_external,
    read_range,
    stored_bytes,
)

# The ONNX IR recommends whole pages, so that a runtime can map the file.
_PAGE = 4096


def full_bytes(model: ModelProto) -> int:
    """Return the bytes of `model` with all its weights inside."""
    outside = sum(stored_bytes(tensor) for tensor in model.graph.initializer if is_external(tensor))
    return model.ByteSize() + outside


def write_model(model: ModelProto, path: Path, folder: Path, *, largest_bytes: int = MAX_BYTES) -> None:
    """Write `model` to `path`; above `largest_bytes` with its weights in `path` + `.data`.

    Args:
        model: The model; it is not altered.
        path: Where to.
        folder: Where its own external weights are.
        largest_bytes: The most that one file may hold.

    Raises:
        InputError: If a file of weights has become shorter.
        OSError: If a file cannot be written.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    data = path.with_name(path.name + ".data")
    if full_bytes(model) <= largest_bytes:
        for tensor in copy.graph.initializer:
            if is_external(tensor):
                bring_in(tensor, folder)
        data.unlink(missing_ok=True)
    else:
        with data.open("wb") as target:
            for tensor in copy.graph.initializer:
                if stored_bytes(tensor) > SMALL_BYTES:
                    _move_out(tensor, folder, target, data.name)
    path.write_bytes(copy.SerializeToString())


def _move_out(tensor: TensorProto, folder: Path, target: BinaryIO, location: str) -> None:
    """Append the values of `tensor` to `target` on a page of their own, and leave a reference in it."""
    if is_external(tensor):
        pieces: Iterable[bytes] = read_range(external_range(tensor), folder)
    else:
        values = numpy_helper.from_array(numpy_helper.to_array(tensor))  # they may stand in a typed field
        pieces = [values.raw_data]
    offset = -(-target.tell() // _PAGE) * _PAGE
    target.seek(offset)
    target.writelines(pieces)
    reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", target.tell() - offset)):
        reference.external_data.add(key=key, value=str(value))
    tensor.CopyFrom(reference)
