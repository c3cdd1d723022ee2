"""How the totals of a device set change when one more node joins it.

Nodes join in the graph's order, which is the order in which the device runs them. Then everything is a
difference: a tensor starts to cross when it is made and stops with its last reader, and the live bytes at a
node's turn do not depend on the nodes after it, because what waits for them waits for the link as well.
"""

from __future__ import annotations

from typing import NamedTuple

from isthmus.partitioner.search.graph import SearchGraph


class State(NamedTuple):
    """A device set and its totals.

    `server_s` is what its nodes would take on the server; `nbytes` leaves out the network's inputs, whose
    crossing ones are the bits of `inputs`; `unknown` counts crossing tensors of unknown size; `live` is the
    bytes that stay in memory after the last node, `peak` the most that ever stood there.
    """

    mask: int
    device_s: float
    server_s: float
    device_j: float
    weight_bytes: int
    nbytes: int
    inputs: int
    unknown: int
    live: int
    peak: int


class Growth:
    """A graph, prepared for growing device sets; sets of nodes are bits of an int.

    Attributes:
        graph: The graph.
        full: All nodes.
        made, read: The tensors of each node, as indices.
        readers: The nodes that read each tensor.
        needs, next: The nodes each node reads from, and those that read from it.
        ancestors, descendants: The same, all the way.
        input_bit: The bit in `State.inputs` of each input of the network that is read.
        empty: Nothing on the device.
    """

    def __init__(self, graph: SearchGraph) -> None:
        """Prepare `graph`."""
        count = len(graph.nodes)
        self.graph = graph
        self.full = (1 << count) - 1
        self.readers = [_bits(tensor.consumers) for tensor in graph.tensors]
        self.made: list[list[int]] = [[] for _ in range(count)]
        self.read: list[list[int]] = [[] for _ in range(count)]
        self.needs, self.next = [0] * count, [0] * count
        self.input_bit: dict[int, int] = {}
        for index, tensor in enumerate(graph.tensors):
            if tensor.producer is not None:
                self.made[tensor.producer].append(index)
                self.next[tensor.producer] |= self.readers[index]
            elif tensor.consumers:
                self.input_bit[index] = 1 << len(self.input_bit)
            for reader in tensor.consumers:
                self.read[reader].append(index)
                if tensor.producer is not None:
                    self.needs[reader] |= 1 << tensor.producer
        self.ancestors, self.descendants = [0] * count, [0] * count
        for node in range(count):
            for before in members(self.needs[node]):
                self.ancestors[node] |= self.ancestors[before] | 1 << before
        for node in reversed(range(count)):
            for after in members(self.next[node]):
                self.descendants[node] |= self.descendants[after] | 1 << after
        live = sum(graph.tensors[index].nbytes or 0 for index in self.input_bit)
        self.empty = State(0, 0, 0, 0, 0, 0, (1 << len(self.input_bit)) - 1, 0, live, 0)

    def grown(self, state: State, node: int) -> State:
        """Return `state` with `node` added, which has to come after all its nodes."""
        fact, tensors = self.graph.nodes[node], self.graph.tensors
        mask, device_s, server_s, device_j, weight_bytes, nbytes, inputs, unknown, live, peak = state
        mask |= 1 << node
        # While the node runs, all that waits for a reader is live, and so is all it makes.
        running = live
        for index in self.made[node]:
            tensor = tensors[index]
            size = tensor.nbytes
            running += size or 0
            if tensor.consumers:
                nbytes += size or 0
                unknown += size is None
            if tensor.consumers or tensor.is_output:
                live += size or 0
        outside = ~mask
        for index in self.read[node]:
            if self.readers[index] & outside:
                continue
            tensor = tensors[index]
            size = tensor.nbytes
            if tensor.producer is None:
                inputs &= ~self.input_bit[index]
            else:
                nbytes -= size or 0
                unknown -= size is None
            if not tensor.is_output:
                live -= size or 0
        return State(
            mask,
            device_s + fact.device_s,
            server_s + fact.server_s,
            device_j + fact.device_j,
            weight_bytes + fact.weight_bytes,
            nbytes,
            inputs,
            unknown,
            live,
            max(peak, running),
        )

    def state_of(self, mask: int) -> State:
        """Return the state of the device set `mask`."""
        state = self.empty
        for node in members(mask):
            state = self.grown(state, node)
        return state

    def frontier(self, mask: int) -> list[int]:
        """Return the indices of the tensors that cross with the device set `mask`."""
        return [
            index
            for index, tensor in enumerate(self.graph.tensors)
            if self.readers[index] & ~mask and (tensor.producer is None or mask >> tensor.producer & 1)
        ]


def members(mask: int) -> list[int]:
    """Return the indices of the bits of `mask`, ascending."""
    # Through the digits: shifting a large int bit by bit costs its length every time.
    digits = bin(mask)[:1:-1]
    found, at = [], digits.find("1")
    while at >= 0:
        found.append(at)
        at = digits.find("1", at + 1)
    return found


def _bits(indices: tuple[int, ...]) -> int:
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask
