"""Cut a network in two.

Decides what a valid pair of halves is: any set of nodes that needs nothing from the rest can be the head,
the tail gets the full frontier. A half that loses a tensor still looks like a model, so the frontier is
computed from the graph, never guessed, and ONNX's checker sees every half. `parity` proves them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.onnx_file import one_line
from isthmus.partitioner.network.onnx_writer import write_model
from isthmus.partitioner.network.subgraphs import bodies, makes, reads
from isthmus.partitioner.network.weights import MAX_BYTES, outline
from isthmus.runtime.errors import InputError, PlanError

# What ONNX Runtime's Python interface and a payload can both hold.
_CAN_CROSS = frozenset(
    {"float16", "float32", "float64", "bool"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# Longer names of folders do not fit every file system.
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halves:
    """The two halves of a network.

    Attributes:
        frontier: The tensors that cross, inputs of the network among them if the tail reads those.
        head: From the network's inputs to the frontier's other tensors, and to the outputs made on the way.
        tail: From the frontier to the remaining outputs.
        folder: Where external weights of either are.
    """

    frontier: tuple[str, ...]
    head: ModelProto
    tail: ModelProto
    folder: Path


def extract_halves(network: Network, frontier: Sequence[str]) -> Halves:
    """Return head and tail of `network` at `frontier`, checked.

    Operator set and IR version stay the network's. What the tail does not read does not cross, even if it is
    listed.

    Raises:
        PlanError: If a tensor does not exist, cannot cross, or something passes beside the frontier.
    """
    cut = tuple(dict.fromkeys(frontier))
    for name in cut:
        if name in network.enclosed:
            raise PlanError(
                f"{network.name}: tensor {name!r} is inside control flow, which is not cut; "
                f"cut before or after {network.enclosed[name]!r}"
            )
    network.graph.require_cut(cut, network.name)
    nodes = network.graph.head_of(cut)
    if not 0 < len(nodes) < len(network.graph.nodes):
        raise PlanError(f"{network.name}: cutting at {', '.join(cut)} leaves one half empty")
    crossing = network.graph.frontier_of(nodes)
    return _halves(network, nodes, tuple(name for name in cut if name in crossing))


def extract_at(network: Network, device_nodes: Collection[str]) -> Halves:
    """Return head and tail of `network` with the nodes `device_nodes` in the head, checked.

    Args:
        network: The network.
        device_nodes: Keys of nodes; with a node all that it depends on.

    Raises:
        PlanError: If one does not exist, the set lacks what one of them needs, a half would be empty, or a
            tensor that has to cross cannot.
    """
    nodes = frozenset(device_nodes)
    network.graph.require_closed(nodes, network.name)
    if not 0 < len(nodes) < (total := len(network.graph.nodes)):
        raise PlanError(f"{network.name}: {len(nodes)} of {total} nodes on the device leave one half empty")
    return _halves(network, nodes, network.graph.frontier_of(nodes))


def _halves(network: Network, nodes: frozenset[str], frontier: tuple[str, ...]) -> Halves:
    for name in frontier:
        _require_crossing(network, name)
    inside = [node for node in network.graph.nodes if node.key in nodes]
    made = {name for node in inside for name in node.outputs}
    outputs = [value.name for value in network.proto.graph.output]
    # What the head answers itself: outputs that it makes, and inputs that are outputs as they stand.
    answered = [name for name in outputs if name in made or name in network.graph.inputs]
    crossing = [name for name in frontier if name in made]
    read = {name for node in inside for name in node.inputs} | {*answered}
    return Halves(
        frontier=frontier,
        head=_half(
            "head",
            network,
            nodes,
            inputs=[name for name in network.graph.inputs if name in read],
            outputs=list(dict.fromkeys([*crossing, *answered])),
        ),
        tail=_half(
            "tail",
            network,
            {node.key for node in network.graph.nodes} - nodes,
            inputs=list(frontier),
            outputs=[name for name in outputs if name not in answered],
        ),
        folder=network.folder,
    )


def can_cross(fact: TensorFact) -> bool:
    """Say whether a tensor may cross: its size is fixed, and a payload can hold its type."""
    return fact.nbytes is not None and fact.dtype in _CAN_CROSS


def _require_crossing(network: Network, name: str) -> None:
    fact = network.graph.tensors[name]
    if fact.dtype not in _CAN_CROSS:
        kind = "strings" if fact.dtype == "string" else f"a value of type {fact.dtype}"
        raise PlanError(f"{network.name}: tensor {name!r} holds {kind}, which cannot cross; cut elsewhere")
    if fact.nbytes is None:
        raise PlanError(f"{network.name}: tensor {name!r} has no fixed size, so it cannot cross")


def _half(
    role: str, network: Network, keys: Collection[str], *, inputs: list[str], outputs: list[str]
) -> ModelProto:
    """Return the model of the nodes `keys`, and of what is constant before them, checked and stripped."""
    source = network.proto.graph
    chosen = _with_constants(source, keys, stop=inputs, outputs=outputs)
    used = {name for node in chosen for name in reads(node)} | {*outputs}
    declared = {value.name: value for value in (*source.value_info, *source.input, *source.output)}
    half = ModelProto(ir_version=network.proto.ir_version, producer_name="isthmus")
    half.opset_import.extend(network.proto.opset_import)
    half.functions.extend(network.proto.functions)
    graph = half.graph
    graph.name = role
    graph.node.extend(chosen)
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in used)
    graph.input.extend(declared[name] for name in inputs)
    graph.output.extend(declared.get(name, ValueInfoProto(name=name)) for name in outputs)
    inner = {name for node in chosen for name in makes(node)} - {*outputs}
    graph.value_info.extend(declared[name] for name in sorted(inner) if name in declared)
    _strip(graph)
    try:
        onnx.checker.check_model(outline(half), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        cut = ", ".join(inputs if role == "tail" else outputs)
        raise PlanError(f"{network.name}: the {role} cut at {cut} is not valid: {one_line(error)}") from None
    return half


def _with_constants(
    graph: GraphProto, keys: Collection[str], *, stop: Collection[str], outputs: Collection[str]
) -> list[NodeProto]:
    """Return the nodes `keys`, with the constant nodes that they or `outputs` need, in the graph's order."""
    needed = {*outputs}
    chosen: list[NodeProto] = []
    for node in reversed(graph.node):
        made = makes(node)
        if made and (made[0] in keys or (not needed.isdisjoint(made) and not {*made} & {*stop})):
            chosen.append(node)
            needed.update(reads(node))
    return chosen[::-1]


def _strip(graph: GraphProto) -> None:
    """Remove what exporters leave behind: paths, stack traces and notes say nothing about the network."""
    for part in _parts(graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _parts(graph: GraphProto) -> Iterator[Any]:
    yield graph
    yield from (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from _parts(body)


def write_halves(halves: Halves, folder: Path, *, largest_bytes: int = MAX_BYTES) -> tuple[Path, Path]:
    """Write `halves` below `folder` as CUT/head.onnx and CUT/tail.onnx; return both paths.

    Args:
        halves: The halves.
        folder: Where to.
        largest_bytes: A half above this gets its weights in a file beside it, HALF.onnx.data.

    Raises:
        InputError: If the folder cannot be written.
    """
    # Tensor names may hold anything; a folder keeps the harmless characters.
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "+".join(halves.frontier)).strip(".")
    if len(name) > _LONGEST_NAME:
        mark = hashlib.sha256("+".join(halves.frontier).encode()).hexdigest()[:12]
        name = f"{name[: _LONGEST_NAME - 13]}-{mark}"
    target = folder / name
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, half in (("head.onnx", halves.head), ("tail.onnx", halves.tail)):
            write_model(half, target / file, halves.folder, largest_bytes=largest_bytes)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}; choose another folder") from None
    return target / "head.onnx", target / "tail.onnx"
