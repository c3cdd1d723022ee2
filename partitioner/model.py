"""Read an ONNX file as a network that can be cut.

Decides what is accepted: a valid graph whose inputs have a batch and otherwise fixed dimensions, without
control flow that reads around its own inputs. Everything else is one line that names what is wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from isthmus.partitioner.graph import FlowGraph, FlowNode
from isthmus.partitioner.observe import observe_shapes
from isthmus.partitioner.shapes import ShapeTable, fold_shape_branches, infer
from isthmus.runtime.errors import InputError

# Above this protobuf cannot hand a model over in memory.
_MAX_BYTES = (1 << 31) - (1 << 20)
_EXPORT = "export it as ONNX, e.g. with torch.onnx.export"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """An ONNX network with its data flow.

    Attributes:
        name: The file's name, for messages and plans.
        proto: The graph with shape arithmetic folded and every tensor declared; halves are extracted from it.
        original: The file's bytes as an ONNX model, untouched; parity is measured against it.
        digest: SHA-256 of the file and its external data, in hex.
        graph: The live data flow.
        shapes: Shapes for one sample.
        dynamic_batch: Whether the first dimension of an input is symbolic.
    """

    name: str
    proto: ModelProto
    original: ModelProto
    digest: str
    graph: FlowGraph
    shapes: ShapeTable
    dynamic_batch: bool


def load_network(path: str | os.PathLike[str]) -> Network:
    """Load and check the ONNX model in the file `path`.

    Raises:
        InputError: If the file is missing, not ONNX, damaged, or a network that cannot be cut; says which and
            why.
    """
    file = Path(path)
    original = _read(file)
    _refuse_captures(original, file.name)
    proto = _plain_copy(original)
    inputs = _real_inputs(proto, file.name)
    try:
        fold_shape_branches(proto, _shapes(proto, inputs))
        shapes = _shapes(proto, inputs)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"{file}: shapes contradict each other: {_line(error)}; export it again") from None
    graph = _flow(proto, inputs, shapes)
    if not graph.nodes:
        raise InputError(f"{file}: no output depends on an input through a node; there is nothing to cut")
    _declare(proto, inputs, shapes)
    return Network(
        name=file.name,
        proto=proto,
        original=original,
        digest=_digest(file),
        graph=graph,
        shapes=shapes,
        dynamic_batch=any(_first(value).HasField("dim_param") for value in inputs.values()),
    )


def _read(file: Path) -> ModelProto:
    try:
        if file.stat().st_size == 0:
            raise InputError(f"{file}: the file is empty; {_EXPORT}")
        model = onnx.load(file)
    except DecodeError:
        raise InputError(f"{file}: not an ONNX model, or cut short; {_EXPORT}") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; give an ONNX file") from None
    except (onnx.checker.ValidationError, ValueError) as error:  # external data that is missing or elsewhere
        raise InputError(f"{file}: {_line(error)}; keep external data beside the model") from None
    if model.ByteSize() > _MAX_BYTES:
        raise InputError(f"{file}: {model.ByteSize():,} bytes; models above 2 GiB cannot be cut")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{file}: not a valid ONNX model: {_line(error)}; {_EXPORT}") from None
    if model.graph.sparse_initializer:
        raise InputError(f"{file}: has sparse initialisers, which cannot be cut; store its weights densely")
    return model


def _plain_copy(original: ModelProto) -> ModelProto:
    """Return a copy without annotations, in which weights are not inputs as well."""
    proto = ModelProto()
    proto.CopyFrom(original)
    del proto.graph.quantization_annotation[:]
    # Before IR 4 every initialiser had to be an input too; halves made of such a file get IR 4.
    proto.ir_version = max(proto.ir_version, 4)
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return proto


def _real_inputs(model: ModelProto, name: str) -> dict[str, ValueInfoProto]:
    """Return the inputs by name; each has a batch first and otherwise fixed dimensions."""
    inputs = {value.name: value for value in model.graph.input}
    if not inputs:
        raise InputError(f"{name}: has no input; a network that is cut takes one")
    for value in inputs.values():
        tensor = value.type.tensor_type
        if value.type.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape"):
            raise InputError(
                f"{name}: input {value.name!r} is no tensor of known rank; export it with a fixed shape"
            )
        dims = [
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in tensor.shape.dim
        ]
        if not dims or (isinstance(dims[0], int) and dims[0] != 1):
            raise InputError(
                f"{name}: input {value.name!r} has shape {dims}; "
                "its first dimension must be a batch, dynamic or 1"
            )
        for axis, dim in enumerate(dims[1:], start=1):
            if not isinstance(dim, int) or dim < 1:
                raise InputError(
                    f"{name}: input {value.name!r} has shape {dims}; "
                    f"only the batch may vary, export it with dimension {axis} fixed"
                )
        # An anonymous dimension is a batch as well; a name lets every later step treat it alike.
        if dims[0] == "?":
            tensor.shape.dim[0].dim_param = "batch"
    return inputs


def _shapes(proto: ModelProto, inputs: dict[str, ValueInfoProto]) -> ShapeTable:
    names = [name for node in proto.graph.node for name in node.output if name]
    return observe_shapes(proto, inputs, infer(proto, inputs), names)


def _first(value: ValueInfoProto) -> onnx.TensorShapeProto.Dimension:
    return value.type.tensor_type.shape.dim[0]


def _refuse_captures(model: ModelProto, name: str) -> None:
    """Refuse control flow whose branches read tensors of the graph around them: halves would lose those."""
    for node in model.graph.node:
        for body in _subgraphs(node):
            if captured := sorted(_captures(body)):
                label = f"{node.name!r} " if node.name else ""
                raise InputError(
                    f"{name}: node {label}({node.op_type}) reads {captured[0]!r} from around its subgraph; "
                    "control flow cannot be cut, export the model with the branch or loop resolved"
                )


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _captures(graph: GraphProto) -> set[str]:
    """Return the names that `graph` reads and does not define."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    free: set[str] = set()
    for node in graph.node:
        free.update(set(node.input) - known)
        for body in _subgraphs(node):
            free.update(_captures(body) - known)
        known.update(node.output)
    free.update({value.name for value in graph.output} - known)
    return free


def _flow(proto: ModelProto, inputs: dict[str, ValueInfoProto], shapes: ShapeTable) -> FlowGraph:
    nodes = [
        FlowNode(
            key=next(name for name in node.output if name),
            op=node.op_type,
            inputs=tuple(name for name in node.input if name),
            outputs=tuple(name for name in node.output if name),
        )
        for node in proto.graph.node
        if any(node.output)
    ]
    names = [*inputs, *(name for node in nodes for name in node.outputs)]
    return FlowGraph.build(
        inputs,
        [value.name for value in proto.graph.output],
        nodes,
        {name: shapes.fact(name) for name in names},
    )


def _declare(proto: ModelProto, inputs: dict[str, ValueInfoProto], shapes: ShapeTable) -> None:
    """Declare every intermediate tensor, so that any of them can become an input or output of a half."""
    symbols = [_first(value).dim_param for value in inputs.values() if _first(value).HasField("dim_param")]
    outside = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    made = [name for node in proto.graph.node for name in node.output if name and name not in outside]
    infos = (shapes.value_info(name, symbols[0] if symbols else "batch") for name in made)
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(info for info in infos if info is not None)


def _digest(file: Path) -> str:
    """Return the SHA-256 of the file, followed by that of its external data in the order of their names."""
    digest = hashlib.sha256(file.read_bytes())
    bare = onnx.load(file, load_external_data=False)
    places = {
        entry.value
        for tensor in bare.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for place in sorted(places):
        digest.update((file.parent / place).read_bytes())
    return digest.hexdigest()


def _line(error: Exception) -> str:
    """Return the first sentence or so of a library's message, on one line."""
    return " ".join(str(error).split()).removesuffix(".")[:200]
