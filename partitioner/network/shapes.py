"""Concrete shapes of every tensor, and shape arithmetic folded away.

Exporters compute shapes inside the graph (`Shape` → `Gather` → `Concat` → `Reshape`). Such a branch carries
no data, but it bypasses every cut between its ends. Inference at two batch sizes tells which dimensions
follow the batch; what does not is a constant, and a `Reshape` in which one dimension does can say −1 there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TensorShapeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.network.weights import is_external, tensor_bytes

# Shape arithmetic needs the values of small integer tensors only; inference without the weights is quick.
_SMALL_ELEMENTS = 4096
# Not 1, so that broadcasting a batch against a dimension of one is not mistaken for a constant.
OTHER_BATCH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeTable:
    """What shape inference found.

    Attributes:
        types: ONNX element type by tensor; 0 where unknown.
        single: Shape with a batch of one, by tensor; absent where it depends on values.
        other: The same with a batch of `OTHER_BATCH`; equal to `single` for a model of fixed batch.
        kinds: What a value is that is no tensor: `sequence`, `optional`, `sparse tensor` or `map`.
    """

    types: Mapping[str, int]
    single: Mapping[str, tuple[int, ...]]
    other: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def varying(self, name: str) -> list[int] | None:
        """Return the axes of tensor `name` that follow the batch, or None where its shape is unknown."""
        single, other = self.single.get(name), self.other.get(name)
        if single is None or other is None or len(single) != len(other):
            return None
        return [axis for axis, (one, more) in enumerate(zip(single, other, strict=True)) if one != more]

    def fact(self, name: str, *, batch: int = 1) -> TensorFact:
        """Return the facts of tensor `name` with a batch of one, or of `OTHER_BATCH`."""
        shape, kind = (self.single if batch == 1 else self.other).get(name), self.types.get(name, 0)
        dtype = self.kinds.get(name, "string" if kind == TensorProto.STRING else "unknown")
        nbytes = None
        if kind not in (TensorProto.UNDEFINED, TensorProto.STRING):
            dtype = str(helper.tensor_dtype_to_np_dtype(kind))
            nbytes = None if shape is None else tensor_bytes(shape, kind)
        return TensorFact(name=name, dtype=dtype, shape=shape, nbytes=nbytes)

    def value_info(self, name: str, batch: str) -> ValueInfoProto | None:
        """Return the ONNX declaration of tensor `name`; axes that equal the batch are called `batch`."""
        kind = self.types.get(name, 0)
        if kind == TensorProto.UNDEFINED:
            return None
        axes = self.varying(name)
        if axes is None:
            return helper.make_tensor_value_info(name, kind, None)
        dims: list[int | str | None] = list(self.single[name])
        for axis in axes:
            follows = (self.single[name][axis], self.other[name][axis]) == (1, OTHER_BATCH)
            dims[axis] = batch if follows else None
        return helper.make_tensor_value_info(name, kind, dims)


def infer(model: ModelProto, inputs: Mapping[str, ValueInfoProto]) -> ShapeTable:
    """Infer the shapes of all tensors of `model` with a batch of one and with another.

    Args:
        model: The network; it is not altered.
        inputs: Its real inputs (no initialisers); whatever dimension of theirs is symbolic is the batch.

    Raises:
        onnx.shape_inference.InferenceError: If shapes contradict each other at a batch of one.
    """
    single = _infer_at(model, inputs, 1)
    if not any(dim.HasField("dim_param") for value in inputs.values() for dim in dims_of(value)):
        return single
    try:
        other = _infer_at(model, inputs, OTHER_BATCH).single
    except onnx.shape_inference.InferenceError:
        return single  # it calls a dimension dynamic that only 1 fits
    return ShapeTable(types=single.types, single=single.single, other=other, kinds=single.kinds)


def dims_of(value: ValueInfoProto) -> Sequence[TensorShapeProto.Dimension]:
    """Return the declared dimensions of a tensor."""
    return value.type.tensor_type.shape.dim


def fold_shape_branches(model: ModelProto, table: ShapeTable) -> None:
    """Replace shape arithmetic in `model` by constants wherever it does not depend on the batch.

    Alters `model`: a `Shape` of fixed dimensions becomes a constant, and a `Reshape` of whose output at most
    one dimension follows the batch gets a constant target with −1 there.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    constant = {tensor.name for tensor in graph.initializer}
    taken = constant | {name for node in graph.node for name in node.output}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Shape" and node.domain == "" and node.output[0] not in outputs:
            dims = _fixed_dims(node, table)
            if dims is not None:
                graph.initializer.append(_int64(dims, node.output[0]))
                continue
        if node.op_type == "Reshape" and node.domain == "" and node.input[1] not in constant:
            target = _reshape_target(node, table)
            if target is not None:
                name = f"{node.output[0]}/target"
                while name in taken:
                    name += "_"
                graph.initializer.append(_int64(target, name))
                node.input[1] = name
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _fixed_dims(node: NodeProto, table: ShapeTable) -> list[int] | None:
    """Return the dimensions that a `Shape` node yields, or None if one of them follows the batch."""
    axes = table.varying(node.input[0])
    if axes is None:
        return None
    shape = table.single[node.input[0]]
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    chosen = range(len(shape))[slice(limits.get("start", 0), limits.get("end"))]
    return None if any(axis in chosen for axis in axes) else [shape[axis] for axis in chosen]


def _reshape_target(node: NodeProto, table: ShapeTable) -> list[int] | None:
    """Return a constant target that gives a `Reshape` its shape at every batch, or None if there is none."""
    axes = table.varying(node.output[0])
    # A dimension of zero in a target means "copy", so an empty tensor keeps its own arithmetic.
    if axes is None or len(axes) > 1 or 0 in table.single[node.output[0]]:
        return None
    target = list(table.single[node.output[0]])
    for axis in axes:
        target[axis] = -1
    return target


def _int64(values: list[int], name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.int64), name)


def _infer_at(model: ModelProto, inputs: Mapping[str, ValueInfoProto], batch: int) -> ShapeTable:
    """Return types and complete shapes with every symbolic dimension of an input set to `batch`."""
    skeleton = _skeleton(model, inputs, batch)
    inferred = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    types: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}
    for value in _declared(inferred.graph):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            if kind is not None:
                kinds[value.name] = kind.removesuffix("_type").replace("_", " ")
            continue
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return ShapeTable(types=types, single=shapes, other=shapes, kinds=kinds)


def _declared(graph: GraphProto) -> Iterator[ValueInfoProto]:
    yield from graph.value_info
    yield from graph.input
    yield from graph.output


def _skeleton(model: ModelProto, inputs: Mapping[str, ValueInfoProto], batch: int) -> ModelProto:
    """Return a copy of `model` at one batch size, its weights declared as inputs instead of carried along."""
    copy = ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    for value in inputs.values():
        fixed = graph.input.add()
        fixed.CopyFrom(value)
        for dim in dims_of(fixed):
            if dim.HasField("dim_param"):
                dim.dim_value = batch
    for tensor in model.graph.initializer:
        if not is_external(tensor) and math.prod(tensor.dims) <= _SMALL_ELEMENTS:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    for value in model.graph.output:
        # Declared shapes may name the batch; without them inference states what it is at this one.
        output = graph.output.add(name=value.name)
        if value.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.elem_type = value.type.tensor_type.elem_type
        else:
            output.type.CopyFrom(value.type)
    return copy
