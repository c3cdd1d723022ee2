"""What a node reads, the tensors that its bodies of control flow capture included.

The branches of an `If` and the bodies of `Loop` and `Scan` may read any tensor of the graph around them
without naming it as an input. A half that leaves such a tensor out still looks like a model, so every step
that asks what a node reads asks here.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, NodeProto


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that `node` holds as attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captures(graph: GraphProto) -> list[str]:
    """Return the tensors that the body `graph` reads and does not define, in the order of reading."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    free: dict[str, None] = {}
    for node in graph.node:
        free.update(dict.fromkeys(name for name in reads(node) if name not in known))
        known.update(node.output)
    free.update(dict.fromkeys(value.name for value in graph.output if value.name not in known))
    return list(free)


def reads(node: NodeProto) -> tuple[str, ...]:
    """Return every tensor that `node` reads: its inputs, then what its bodies capture; each once."""
    names = dict.fromkeys(name for name in node.input if name)
    for body in bodies(node):
        names.update(dict.fromkeys(captures(body)))
    return tuple(names)


def made_inside(node: NodeProto) -> Iterator[str]:
    """Yield the names of all tensors that exist only inside the bodies of `node`."""
    for body in bodies(node):
        yield from (value.name for value in body.input)
        for inner in body.node:
            yield from (name for name in inner.output if name)
            yield from made_inside(inner)


def makes(node: NodeProto) -> tuple[str, ...]:
    """Return the tensors that `node` makes; outputs that are left out have no name."""
    return tuple(name for name in node.output if name)
