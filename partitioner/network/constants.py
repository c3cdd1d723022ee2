"""Turn what is constant in a graph into initialisers.

A `Constant` node is a weight that stands among the nodes; a node that reads constants alone is one that
exporters left for the runtime to compute. Either would be copied into both halves and computed there. What
a runtime fuses better itself (quantised weights) and what would grow the file stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from isthmus.partitioner.network.shapes import ShapeTable
from isthmus.partitioner.network.subgraphs import bodies, makes, reads
from isthmus.partitioner.network.weights import is_external, stored_bytes, tensor_bytes
from isthmus.partitioner.running.execution import open_session, run, session_options
from isthmus.runtime.errors import InputError

# Kernels for quantised operators look for these in front of their inputs.
_LEFT_ALONE = frozenset({"QuantizeLinear", "DequantizeLinear"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_SMALL_BYTES = 1 << 16


def lift_constants(model: ModelProto) -> None:
    """Replace the `Constant` nodes of `model` by initialisers; those of strings or sparse values stay."""
    outputs = {value.name for value in model.graph.output}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        value = None
        if node.op_type == "Constant" and node.domain == "" and node.output[0] not in outputs:
            value = _value(node)
        if value is None:
            kept.append(node)
        else:
            model.graph.initializer.append(value)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def fold_constants(model: ModelProto, table: ShapeTable, folder: Path) -> None:
    """Replace the nodes of `model` that read constants alone by what they compute, where that is no larger.

    Args:
        model: The graph, its nodes in a topological order; it is altered.
        table: Its shapes.
        folder: Where its external weights are.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    sizes = {name: stored_bytes(tensor) for name, tensor in weights.items()}
    outputs = {value.name for value in model.graph.output}
    chosen: list[NodeProto] = []
    for node in model.graph.node:
        if not _may_fold(node, outputs) or not all(name in sizes for name in reads(node)):
            continue
        made = {name: _size(table, name) for name in makes(node)}
        limit = max(_SMALL_BYTES, sum(sizes[name] for name in reads(node)))
        if all(nbytes is not None and nbytes <= limit for nbytes in made.values()):
            chosen.append(node)
            sizes.update({name: nbytes or 0 for name, nbytes in made.items()})
    needed = {name for node in chosen for name in reads(node)} & weights.keys()
    if not chosen or any(is_external(weights[name]) for name in needed):
        return
    try:
        values = _compute(model, chosen, [weights[name] for name in sorted(needed)], folder)
    except InputError:
        return  # an operator that does not run here: the graph is as good with it
    folded = {node.output[0] for node in chosen}
    kept = [node for node in model.graph.node if not node.output or node.output[0] not in folded]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(values)


def _value(node: NodeProto) -> TensorProto | None:
    """Return the value of a `Constant` node as an initialiser, or None where it has to stay a node."""
    (attribute,) = node.attribute
    tensor = TensorProto()
    if attribute.name == "value":
        tensor.CopyFrom(attribute.t)
    elif attribute.name in ("value_float", "value_floats"):
        numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        tensor = numpy_helper.from_array(np.asarray(numbers, np.float32))
    elif attribute.name in ("value_int", "value_ints"):
        whole = attribute.i if attribute.name == "value_int" else list(attribute.ints)
        tensor = numpy_helper.from_array(np.asarray(whole, np.int64))
    else:
        return None
    if tensor.data_type == TensorProto.STRING:
        return None
    tensor.name = node.output[0]
    return tensor


def _may_fold(node: NodeProto, outputs: set[str]) -> bool:
    if node.domain != "" or node.op_type in _LEFT_ALONE or node.op_type in _RANDOM or any(bodies(node)):
        return False
    return bool(reads(node)) and bool(makes(node)) and node.output[0] != "" and not outputs & {*makes(node)}


def _size(table: ShapeTable, name: str) -> int | None:
    shape = table.single.get(name)
    return None if shape is None else tensor_bytes(shape, table.types.get(name, 0))


def _compute(
    model: ModelProto, nodes: list[NodeProto], weights: list[TensorProto], folder: Path
) -> list[TensorProto]:
    """Return what `nodes` make, as initialisers."""
    probe = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    probe.graph.name = "constants"
    probe.graph.node.extend(nodes)
    probe.graph.initializer.extend(weights)
    probe.graph.output.extend(ValueInfoProto(name=name) for node in nodes for name in makes(node))
    session = open_session(probe, "constants", session_options(1), folder=folder)
    return [numpy_helper.from_array(value, name) for name, value in run(session, {}, "constants").items()]
