"""Weights that stay in files beside the model: where they are, whether they are all there, how to copy them.

A protobuf message ends at 2 GiB, so a network above that keeps its weights outside (ONNX external data).
They are never read as a whole: a graph is analysed with the references alone, ONNX Runtime reads the files
itself, and a half that is written copies its own ranges.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto, helper

from isthmus.partitioner.network.subgraphs import bodies
from isthmus.runtime.errors import InputError

_CHUNK = 1 << 22
# Above this protobuf cannot hand a model over in memory.
MAX_BYTES = (1 << 31) - (1 << 20)
# Shape arithmetic needs the values of small tensors; reading them costs nothing.
SMALL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The bytes of one tensor in a file beside the model."""

    location: str
    offset: int
    nbytes: int


def tensor_bytes(shape: tuple[int, ...], kind: int) -> int | None:
    """Return the bytes of a tensor of ONNX element type `kind` as it is stored, or None for strings.

    Types below one byte are packed two or four to a byte, the last one padded (ONNX IR, `TensorProto`).
    """
    if kind in (TensorProto.UNDEFINED, TensorProto.STRING):
        return None
    numpy_type = helper.tensor_dtype_to_np_dtype(kind)
    # ml_dtypes gives a whole byte to what ONNX packs; the width is in the name: int4, uint2, float4_e2m1fn.
    narrow = re.fullmatch(r"(?:u?int|float)([24])(?:_\w+)?", numpy_type.name)
    bits = int(narrow[1]) if narrow else 8 * numpy_type.itemsize
    return -(-math.prod(shape) * bits // 8)


def is_external(tensor: TensorProto) -> bool:
    """Say whether the values of `tensor` are in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def stored_bytes(tensor: TensorProto) -> int:
    """Return the bytes that the values of `tensor` take; 0 for strings, which are never external."""
    return tensor_bytes(tuple(tensor.dims), tensor.data_type) or 0


def external_range(tensor: TensorProto) -> Range:
    """Return where the values of the external `tensor` are.

    Raises:
        ValueError: If offset or length are no numbers.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return Range(
        location=entries.get("location", ""),
        offset=int(entries.get("offset", "0")),
        nbytes=int(entries.get("length", "") or stored_bytes(tensor)),
    )


def all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every constant tensor of `graph`: its initialisers, then those inside its nodes."""
    yield from graph.initializer
    yield from inner_tensors(graph)


def inner_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the tensors that the nodes of `graph` hold as attributes or in bodies of control flow."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for body in bodies(node):
            yield from all_tensors(body)


def data_files(model: ModelProto) -> list[str]:
    """Return the names of the files that hold weights of `model`, sorted, each once."""
    held = {external_range(tensor).location for tensor in all_tensors(model.graph) if is_external(tensor)}
    return sorted(held)


def check_external(model: ModelProto, file: Path) -> None:
    """Check that the weights of `model` are where its file `file` says, beside it and complete.

    Raises:
        InputError: If a location leaves the model's folder, a file is missing, or is too short; names the
            tensor and the file.
    """
    folder = file.parent.resolve()
    for tensor in all_tensors(model.graph):
        if not is_external(tensor):
            continue
        where = f"{file}: external data of {tensor.name!r}"
        try:
            place = external_range(tensor)
        except ValueError:
            raise InputError(f"{where} has an offset or length that is no number; export it again") from None
        target = (folder / place.location).resolve()
        if not place.location or not target.is_relative_to(folder):
            raise InputError(
                f"{where} is at {place.location!r}, outside the model's folder; keep it beside the model"
            )
        if not target.is_file():
            raise InputError(f"{where}: no file {place.location!r}; keep external data beside the model")
        if place.nbytes != stored_bytes(tensor) or place.offset < 0:
            raise InputError(
                f"{where}: {place.nbytes} bytes at {place.offset} for a tensor that takes "
                f"{stored_bytes(tensor)}; export it again"
            )
        if place.offset + place.nbytes > (size := target.stat().st_size):
            raise InputError(
                f"{where}: {place.location!r} has {size:,} bytes, it needs {place.offset + place.nbytes:,}; "
                "the file is cut short, copy it again"
            )


def check_inline(model: ModelProto, file: Path) -> None:
    """Check that the weights inside `model` are as long as their shapes say.

    Raises:
        InputError: If one is not; names it.
    """
    for tensor in model.graph.initializer:
        needed = stored_bytes(tensor)
        if tensor.HasField("raw_data") and not is_external(tensor) and len(tensor.raw_data) != needed:
            raise InputError(
                f"{file}: initialiser {tensor.name!r} has {len(tensor.raw_data)} bytes, its shape "
                f"{list(tensor.dims)} takes {needed}; export it again"
            )


def load_small(model: ModelProto, folder: Path) -> None:
    """Bring into `model` what analysis needs: small weights, and all inside nodes."""
    small = (tensor for tensor in model.graph.initializer if stored_bytes(tensor) <= SMALL_BYTES)
    for tensor in itertools.chain(small, inner_tensors(model.graph)):
        if is_external(tensor):
            bring_in(tensor, folder)


def bring_in(tensor: TensorProto, folder: Path) -> None:
    """Replace the reference in `tensor` by its values."""
    tensor.raw_data = b"".join(read_range(external_range(tensor), folder))
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT


def read_range(place: Range, folder: Path) -> Iterator[bytes]:
    """Yield the bytes at `place` piece by piece.

    Raises:
        InputError: If the file has become shorter since it was checked.
    """
    left = place.nbytes
    with (folder / place.location).open("rb") as source:
        source.seek(place.offset)
        while left:
            piece = source.read(min(left, _CHUNK))
            if not piece:
                raise InputError(f"{folder / place.location}: ended {left:,} bytes early; copy it again")
            left -= len(piece)
            yield piece


def outline(model: ModelProto) -> ModelProto:
    """Return a copy of `model` for ONNX's checker: it declares all but the small weights as inputs.

    The checker takes a model as bytes, and to hand it all weights would cost more than all else together.
    """
    copy = ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    declared = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if not is_external(tensor) and stored_bytes(tensor) <= SMALL_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return copy
