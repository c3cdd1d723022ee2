"""Read an ONNX file as a network that can be cut.

Decides what is accepted: inputs of numbers whose only symbolic dimension is a batch, outputs that are
tensors. Everything else is one line that names what is wrong. Control flow is a node like any other: what
its bodies capture counts among what it reads, and nothing is cut inside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from onnx import ModelProto, TensorProto, ValueInfoProto

from isthmus.partitioner.network.constants import fold_constants, lift_constants
from isthmus.partitioner.network.graph import FlowGraph, FlowNode
from isthmus.partitioner.network.observe import observe_shapes
from isthmus.partitioner.network.onnx_file import one_line, read_onnx, sort_nodes
from isthmus.partitioner.network.shapes import ShapeTable, dims_of, fold_shape_branches, infer
from isthmus.partitioner.network.subgraphs import made_inside, makes, reads
from isthmus.partitioner.network.weights import load_small
from isthmus.runtime.errors import InputError

# What numpy and ONNX Runtime's Python interface can both hold.
_NUMBERS = frozenset(
    {
        TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL,
        TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
        TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """An ONNX network with its data flow.

    Attributes:
        name: The file's name, for messages and plans.
        proto: The graph with constants and shape arithmetic folded, in a topological order, every tensor
            declared; halves are taken from it. Large external weights are references.
        original: The file's content, untouched; parity is measured against it. External weights are
            references.
        folder: Where the files of external weights are; sessions of `proto`, `original` and halves need it.
        digest: SHA-256 of the file and its external data, in hex.
        graph: The live data flow.
        shapes: Shapes for one sample.
        dynamic_batch: Whether a dimension of an input is symbolic.
        enclosed: Tensors that exist only inside control flow, with the key of the node that holds them.
    """

    name: str
    proto: ModelProto
    original: ModelProto
    folder: Path
    digest: str
    graph: FlowGraph
    shapes: ShapeTable
    dynamic_batch: bool
    enclosed: Mapping[str, str]


def load_network(path: str | os.PathLike[str], *, sizes: Mapping[str, int] | None = None) -> Network:
    """Load and check the ONNX model in the file `path`.

    Args:
        path: The file; external weights stay where they are, and may exceed 2 GiB.
        sizes: Sizes for symbolic dimensions other than the batch, by their names.

    Raises:
        InputError: If the file is missing, not ONNX, damaged, or a network that cannot be cut; says which and
            why.
    """
    file = Path(path)
    source = read_onnx(file)
    proto = _own_copy(source.model, source.folder, file.name)
    inputs = _real_inputs(proto, file.name, sizes or {})
    try:
        fold_shape_branches(proto, _shapes(proto, inputs, source.folder))
        shapes = _shapes(proto, inputs, source.folder)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(
            f"{file}: shapes contradict each other: {one_line(error)}; export it again"
        ) from None
    fold_constants(proto, shapes, source.folder)
    _refuse_outputs(proto, shapes, file.name)
    graph = _flow(proto, inputs, shapes)
    if not graph.nodes:
        raise InputError(f"{file}: no output depends on an input through a node; there is nothing to cut")
    dynamic = any(shapes.varying(name) for name in inputs)
    _declare(proto, inputs, shapes)
    return Network(
        name=file.name,
        proto=proto,
        original=source.model,
        folder=source.folder,
        digest=source.digest,
        graph=graph,
        shapes=shapes,
        dynamic_batch=dynamic,
        enclosed={name: makes(node)[0] for node in proto.graph.node for name in made_inside(node)},
    )


def _own_copy(original: ModelProto, folder: Path, name: str) -> ModelProto:
    """Return a copy with functions inlined, nodes sorted, and weights that are weights only."""
    proto = ModelProto()
    proto.CopyFrom(original)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    load_small(proto, folder)
    del proto.graph.quantization_annotation[:]
    # Before IR 4 every initialiser had to be an input too; halves made of such a file get IR 4.
    proto.ir_version = max(proto.ir_version, 4)
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    sort_nodes(proto.graph, name)
    lift_constants(proto)
    return proto


def _real_inputs(model: ModelProto, name: str, sizes: Mapping[str, int]) -> dict[str, ValueInfoProto]:
    """Return the inputs by name; afterwards each dimension of theirs is a number or a symbol of the batch."""
    inputs = {value.name: value for value in model.graph.input}
    if not inputs:
        raise InputError(f"{name}: has no input; a network that is cut takes one")
    for value in inputs.values():
        _require_numbers(value, name)
    _set_sizes([dim for value in inputs.values() for dim in dims_of(value)], sizes, name)
    firsts = [dims_of(value)[0] for value in inputs.values() if dims_of(value)]
    symbols = [dim.dim_param for dim in firsts if dim.dim_param]
    for dim in firsts:
        # An anonymous dimension is a batch as well; a name lets every later step treat it alike.
        if not dim.HasField("dim_value") and not dim.dim_param:
            dim.dim_param = symbols[0] if symbols else "batch"
            symbols.append(dim.dim_param)
    for value in inputs.values():
        dims = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims_of(value)
        ]
        for axis, size in enumerate(dims):
            if size not in symbols and (isinstance(size, str) or size < 1):
                raise InputError(
                    f"{name}: input {value.name!r} has shape {dims}; "
                    f"only the batch may vary, export it with dimension {axis} fixed"
                )
    return inputs


def _require_numbers(value: ValueInfoProto, name: str) -> None:
    tensor, kind = value.type.tensor_type, value.type.WhichOneof("value")
    if kind != "tensor_type":
        label = "value" if kind is None else kind.removesuffix("_type").replace("_", " ")
        raise InputError(f"{name}: input {value.name!r} is of type {label}; export it with tensors as inputs")
    if tensor.elem_type not in _NUMBERS:
        label = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise InputError(
            f"{name}: input {value.name!r} is of type {label}; export it with numbers that numpy has"
        )


def _set_sizes(dims: Sequence[onnx.TensorShapeProto.Dimension], sizes: Mapping[str, int], name: str) -> None:
    known = sorted({dim.dim_param for dim in dims if dim.dim_param})
    for symbol, size in sizes.items():
        if symbol not in known:
            raise InputError(
                f"{name}: no input has a dimension {symbol!r}; symbolic are {', '.join(known) or 'none'}"
            )
        if size < 1:
            raise InputError(f"{name}: size {size} of dimension {symbol!r}; give at least 1")
    for dim in dims:
        if dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]


def _shapes(proto: ModelProto, inputs: Mapping[str, ValueInfoProto], folder: Path) -> ShapeTable:
    names = [name for node in proto.graph.node for name in makes(node)]
    return observe_shapes(proto, inputs, infer(proto, inputs), names, folder)


def _refuse_outputs(proto: ModelProto, shapes: ShapeTable, name: str) -> None:
    """Refuse outputs that are no tensors: there is no comparing and no sending them."""
    for value in proto.graph.output:
        if kind := shapes.kinds.get(value.name):
            raise InputError(
                f"{name}: output {value.name!r} is of type {kind}; export it with tensors as outputs"
            )


def _flow(proto: ModelProto, inputs: Mapping[str, ValueInfoProto], shapes: ShapeTable) -> FlowGraph:
    nodes = [
        FlowNode(key=makes(node)[0], op=node.op_type, inputs=reads(node), outputs=makes(node))
        for node in proto.graph.node
        if makes(node)
    ]
    names = [*inputs, *(name for node in nodes for name in node.outputs)]
    return FlowGraph.build(
        inputs,
        [value.name for value in proto.graph.output],
        nodes,
        {name: shapes.fact(name) for name in names},
    )


def _declare(proto: ModelProto, inputs: Mapping[str, ValueInfoProto], shapes: ShapeTable) -> None:
    """Declare every tensor, so that any of them can become an input or output of a half."""
    symbols = [dim.dim_param for value in inputs.values() for dim in dims_of(value) if dim.dim_param]
    follows = any(shapes.varying(name) for name in inputs)
    for dim in (dim for value in inputs.values() for dim in dims_of(value)):
        if dim.dim_param and not follows:
            dim.dim_value = 1
    batch = symbols[0] if symbols else "batch"
    for value in proto.graph.output:
        named = {dim.dim_param for dim in dims_of(value)}
        # A file may leave an output's shape out, or name dimensions that have a size now.
        if not value.type.tensor_type.HasField("shape") or not (named - {""}) <= {*symbols} or not follows:
            info = shapes.value_info(value.name, batch)
            if info is not None and info.type.tensor_type.HasField("shape"):
                value.CopyFrom(info)
    outside = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    made = [name for node in proto.graph.node for name in makes(node) if name not in outside]
    infos = (shapes.value_info(name, batch) for name in made)
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(info for info in infos if info is not None)
