"""What each node of a network has to do: operations, bytes and weights, whatever machine does it.

Counted from shapes for a batch of one, so that a machine's speed per class of operator gives a time. A
multiplication with its addition counts as two operations, as in Williams et al., "Roofline" (CACM 52(4),
2009), eq. 1, whose two quantities these are: operations, and bytes to and from memory. Caches and fusion are
not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.operators import COPIED, DISCARDED, FREE, classify, count_flops
from isthmus.partitioner.network.subgraphs import makes, reads
from isthmus.partitioner.network.weights import stored_bytes
from isthmus.runtime.machines import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWork:
    """The work of one node for one sample.

    Attributes:
        operator: Its class.
        flops: Operations; a multiplication with its addition counts as two.
        bytes_moved: Bytes of its inputs, weights and outputs; of a look-up only what is looked up, of a
            reshape none, because it copies nothing.
        weight_bytes: Bytes of the weights that this node is the first to need, so that the sum over nodes
            counts each once.
        known: Whether all shapes are known and the operator is one with a formula; otherwise `flops` and
            `bytes_moved` are lower bounds.
    """

    operator: Operator
    flops: int
    bytes_moved: int
    weight_bytes: int
    known: bool


def node_work(network: Network) -> dict[str, NodeWork]:
    """Return the work of every node in the data flow of `network`, by its key, in the graph's order."""
    graph = network.proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sizes = _Sizes(network, weights)
    nodes = {next(iter(makes(node))): node for node in graph.node if makes(node)}
    needs = _weights_behind(network, nodes, weights)
    counted: set[str] = set()
    work: dict[str, NodeWork] = {}
    for flow in network.graph.nodes:
        node = nodes[flow.key]
        fresh = [name for name in needs[flow.key] if name not in counted]
        counted.update(fresh)
        flops = count_flops(node, sizes.shape)
        moved = _bytes_moved(node, sizes)
        work[flow.key] = NodeWork(
            operator=classify(node, sizes.shape),
            flops=flops or 0,
            bytes_moved=sum(nbytes or 0 for nbytes in moved),
            weight_bytes=sum(sizes.stored_bytes(name) for name in fresh),
            known=flops is not None and None not in moved,
        )
    return work


class _Sizes:
    """Shapes and bytes of every tensor, weights included."""

    def __init__(self, network: Network, weights: Mapping[str, TensorProto]) -> None:
        self._table = network.shapes
        self._weights = weights

    def shape(self, name: str) -> tuple[int, ...] | None:
        if name in self._weights:
            return tuple(self._weights[name].dims)
        return self._table.single.get(name)

    def nbytes(self, name: str) -> int | None:
        return self.stored_bytes(name) if name in self._weights else self._table.fact(name).nbytes

    def stored_bytes(self, name: str) -> int:
        return stored_bytes(self._weights[name])


def _bytes_moved(node: NodeProto, sizes: _Sizes) -> list[int | None]:
    """Return the bytes of everything that `node` reads and writes; None for a tensor of unknown size."""
    if node.op_type in FREE:
        return []
    written = [sizes.nbytes(name) for name in makes(node)]
    if node.op_type in DISCARDED:
        return written
    if node.op_type in COPIED:
        # Of its first input it reads what it writes, however large a table that is.
        return [*written, *written, *(sizes.nbytes(name) for name in node.input[1:] if name)]
    return [*(sizes.nbytes(name) for name in reads(node)), *written]


def _weights_behind(
    network: Network, nodes: Mapping[str, NodeProto], weights: Mapping[str, TensorProto]
) -> dict[str, list[str]]:
    """Return, for each node of the data flow, the weights that it needs, also through constant nodes."""
    maker = {name: node for node in nodes.values() for name in makes(node)}
    flow = {name for node in network.graph.nodes for name in node.outputs} | set(network.graph.inputs)
    found: dict[str, list[str]] = {}
    for item in network.graph.nodes:
        behind: dict[str, None] = {}
        pending = list(reversed(reads(nodes[item.key])))
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            if name in seen or name in flow:
                continue
            seen.add(name)
            if name in weights:
                behind[name] = None
            elif name in maker:
                pending.extend(reads(maker[name]))
        found[item.key] = list(behind)
    return found
