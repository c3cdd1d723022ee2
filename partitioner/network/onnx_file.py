"""Read an ONNX file, and refuse in one line what is none.

Decides what counts as a sound model: a graph in which every tensor is made once and before it is read, with
all its weights where the file says. What can be cut in it is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto

from isthmus.partitioner.network.subgraphs import makes, reads
from isthmus.partitioner.network.weights import MAX_BYTES, check_external, check_inline, data_files, outline
from isthmus.runtime.errors import InputError

_EXPORT = "export it as ONNX, e.g. with torch.onnx.export"
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxFile:
    """A model as its file holds it.

    Attributes:
        model: The file's content; external weights are references, relative to `folder`.
        folder: Where the file is.
        digest: SHA-256 of the file and its external data, in hex.
    """

    model: ModelProto
    folder: Path
    digest: str


def read_onnx(file: Path) -> OnnxFile:
    """Read and check the ONNX model in `file`.

    Raises:
        InputError: If it is missing, not ONNX, damaged or malformed; says which and why.
    """
    model = _parse(file)
    check_external(model, file)
    check_inline(model, file)
    require_sound(model.graph, str(file))
    for value in model.graph.input:
        if value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape"):
            raise InputError(f"{file}: input {value.name!r} is of unknown rank; export it with a fixed shape")
    sound = outline(model)
    sort_nodes(sound.graph, str(file))
    # The checker wants a shape of every output; ONNX Runtime does without, and inference will find it.
    stated = [value for value in model.graph.output if value.type.tensor_type.HasField("shape")]
    del sound.graph.output[:]
    sound.graph.output.extend(stated)
    try:
        onnx.checker.check_model(sound)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{file}: not a valid ONNX model: {one_line(error)}; {_EXPORT}") from None
    return OnnxFile(model=model, folder=file.parent, digest=_digest(file, data_files(model)))


def require_sound(graph: GraphProto, where: str) -> None:
    """Check that every tensor of `graph` has one maker, and every node a name of its own or none.

    Raises:
        InputError: If not; the line begins with `where`.
    """
    weights = [tensor.name for tensor in graph.initializer]
    owners: dict[str, str] = {}
    for name in weights:
        if name in owners:
            raise InputError(f"{where}: two initialisers are called {name!r}; {_EXPORT}")
        owners[name] = "an initialiser"
    inputs: set[str] = set()
    for value in graph.input:
        if value.name in inputs:
            raise InputError(f"{where}: two inputs are called {value.name!r}; {_EXPORT}")
        inputs.add(value.name)
        owners.setdefault(value.name, "an input")
    labels: set[str] = set()
    for node in graph.node:
        if node.name and node.name in labels:
            raise InputError(f"{where}: two nodes are called {node.name!r}; give each its own name")
        labels.add(node.name)
        for name in makes(node):
            if name in owners:
                makers = f"by {owners[name]} and by {describe(node)}"
                raise InputError(f"{where}: tensor {name!r} is made twice, {makers}; {_EXPORT}")
            owners[name] = describe(node)
    for node in graph.node:
        for name in reads(node):
            if name not in owners:
                raise InputError(f"{where}: {describe(node)} reads {name!r}, which nothing makes; {_EXPORT}")
    for value in graph.output:
        if value.name not in owners:
            raise InputError(f"{where}: nothing makes the output {value.name!r}; {_EXPORT}")


def sort_nodes(graph: GraphProto, where: str) -> None:
    """Bring the nodes of `graph` into a topological order; those that are in one stay as they are.

    Raises:
        InputError: If there is none, because nodes wait for each other; names them.
    """
    maker = {name: index for index, node in enumerate(graph.node) for name in makes(node)}
    needs = [{maker[name] for name in reads(node) if name in maker} for node in graph.node]
    if all(needed < index for index, before in enumerate(needs) for needed in before):
        return
    order: list[int] = []
    # 1: its needs are being visited, 2: placed.
    state = [0] * len(needs)
    for start in range(len(needs)):
        pending: list[tuple[int, Iterator[int]]] = []
        if not state[start]:
            state[start] = 1
            pending = [(start, iter(sorted(needs[start])))]
        while pending:
            index, rest = pending[-1]
            needed = next((other for other in rest if state[other] != 2), None)
            if needed is None:
                state[index] = 2
                order.append(index)
                pending.pop()
            elif state[needed] == 1:
                path = [item for item, _ in pending]
                _refuse_cycle([graph.node[item] for item in path[path.index(needed) :]], where)
            else:
                state[needed] = 1
                pending.append((needed, iter(sorted(needs[needed]))))
    nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def describe(node: NodeProto) -> str:
    """Return how to call `node` in a message."""
    label = node.name or next(iter(makes(node)), "")
    return f"node {label!r} ({node.op_type})"


def one_line(error: Exception) -> str:
    """Return the first sentence or so of a library's message, on one line."""
    return " ".join(str(error).split()).removesuffix(".")[:200]


def _refuse_cycle(nodes: list[NodeProto], where: str) -> None:
    """Say which nodes wait for each other: each needs what the next one makes."""
    names = [node.name or makes(node)[0] for node in [*nodes, nodes[0]]]
    shown = [*names[:3], "...", names[-1]] if len(names) > 5 else names
    listed = " -> ".join(repr(name) if name != "..." else name for name in reversed(shown))
    raise InputError(f"{where}: its graph has a cycle, {listed}; a network that runs has none, {_EXPORT}")


def _parse(file: Path) -> ModelProto:
    try:
        size = file.stat().st_size
        if size == 0:
            raise InputError(f"{file}: the file is empty; {_EXPORT}")
        if file.is_file() and size > MAX_BYTES:
            raise InputError(
                f"{file}: {size:,} bytes in one file; ONNX ends at 2 GiB, export the weights as external data"
            )
        model = ModelProto.FromString(file.read_bytes())
    except DecodeError:
        raise InputError(f"{file}: not an ONNX model, or cut short; {_EXPORT}") from None
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; give an ONNX file") from None
    if not model.graph.node and not model.graph.output:
        raise InputError(f"{file}: not an ONNX model: it has no graph; {_EXPORT}")
    if model.graph.sparse_initializer:
        raise InputError(f"{file}: has sparse initialisers, which cannot be cut; store its weights densely")
    return model


def _digest(file: Path, beside: list[str]) -> str:
    """Return the SHA-256 of the file, followed by that of its external data in the order of their names."""
    digest = hashlib.sha256()
    for place in (file, *(file.parent / name for name in beside)):
        with place.open("rb") as source:
            while piece := source.read(_CHUNK):
                digest.update(piece)
    return digest.hexdigest()
