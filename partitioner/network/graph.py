"""The data flow of a network: what crosses when some of its nodes run on the device.

A set of nodes can run on the device if it holds, with a node, all that the node depends on. What crosses then
is the frontier: every tensor made on the device, or input of the network, that another node reads. An output
of the network that is made on the device is an answer there and does not cross.

Pure: made from names and facts, without ONNX or files. A node or a tensor is in it only if it lies on a path
from an input to an output; weights, constants and dead branches never cross a cut, so they are not data flow.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.partitioner.facts import TensorFact
from isthmus.runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowNode:
    """An operator.

    Attributes:
        key: Name of its first output, as it stands in the file: unique, while node names may be missing.
        op: Its operator type.
        inputs: The tensors of the data flow that it reads.
        outputs: The tensors of the data flow that it makes.
    """

    key: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleCut:
    """A tensor through which every path from the inputs to the outputs passes.

    Attributes:
        tensor: The tensor.
        head_nodes: How many nodes are before it: in the graph's order, exactly the first so many.
    """

    tensor: str
    head_nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowGraph:
    """The live data flow.

    Attributes:
        inputs: The inputs that reach an output.
        outputs: The outputs that depend on an input.
        nodes: The nodes in a topological order.
        tensors: Facts of every tensor of the data flow.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[FlowNode, ...]
    tensors: Mapping[str, TensorFact]

    @classmethod
    def build(
        cls,
        inputs: Iterable[str],
        outputs: Iterable[str],
        nodes: Sequence[FlowNode],
        tensors: Mapping[str, TensorFact],
    ) -> FlowGraph:
        """Keep what lies on a path from `inputs` to `outputs`, in time O(V+E).

        Args:
            inputs: Names of the graph's inputs.
            outputs: Names of the graph's outputs.
            nodes: All nodes in a topological order, with all tensors they read and make.
            tensors: Facts of at least the tensors that are kept.
        """
        dependent = set(inputs)
        for node in nodes:
            if not dependent.isdisjoint(node.inputs):
                dependent.update(node.outputs)
        live = dependent.intersection(outputs)
        for node in reversed(nodes):
            if not live.isdisjoint(node.outputs):
                live.update(dependent.intersection(node.inputs))
        kept = tuple(
            FlowNode(
                key=node.key,
                op=node.op,
                inputs=tuple(name for name in dict.fromkeys(node.inputs) if name in live),
                outputs=tuple(name for name in node.outputs if name in live),
            )
            for node in nodes
            if not live.isdisjoint(node.outputs)
        )
        return cls(
            inputs=tuple(name for name in inputs if name in live),
            outputs=tuple(name for name in dict.fromkeys(outputs) if name in live),
            nodes=kept,
            tensors={name: tensors[name] for name in tensors if name in live},
        )

    def single_tensor_cuts(self) -> list[SingleCut]:
        """Return every single-tensor cut in the order of execution, in time O(V+E).

        Vertices are tensors and nodes. In a topological order in which all of them lie on a path from the
        inputs to the outputs, one is on every path exactly if no edge jumps over it: an edge that does is the
        middle of a path around it, and a path that avoids it has to jump over it somewhere.

        The input is a cut with no node before it and the last output one with all nodes before it, where they
        are single: these are the two endpoints.
        """
        last_use = self._last_uses()
        end = sum(1 + len(node.outputs) for node in self.nodes) + len(self.inputs)
        cuts: list[SingleCut] = []
        # The furthest position that an edge from an earlier vertex reaches; the source reaches all inputs.
        position, reach = 0, len(self.inputs) - 1
        for name in self.inputs:
            if reach <= position:
                cuts.append(SingleCut(tensor=name, head_nodes=0))
            reach = max(reach, last_use.get(name, end))
            position += 1
        for count, node in enumerate(self.nodes, start=1):
            reach = max(reach, position + len(node.outputs))
            for offset, name in enumerate(node.outputs, start=1):
                if reach <= position + offset:
                    cuts.append(SingleCut(tensor=name, head_nodes=count))
                reach = max(reach, last_use.get(name, end))
            position += 1 + len(node.outputs)
        return cuts

    def _last_uses(self) -> dict[str, int]:
        """Return the position of the last node that reads each tensor; outputs are read at the very end."""
        position = len(self.inputs)
        last: dict[str, int] = {}
        for node in self.nodes:
            for name in node.inputs:
                last[name] = position
            position += 1 + len(node.outputs)
        for name in self.outputs:
            last[name] = position
        return last

    def interior_cuts(self) -> list[SingleCut]:
        """Return the single-tensor cuts with a node on either side."""
        return [cut for cut in self.single_tensor_cuts() if 0 < cut.head_nodes < len(self.nodes)]

    def frontier_of(self, nodes: Collection[str]) -> tuple[str, ...]:
        """Return the tensors that cross when `nodes` run on the device, in the graph's order.

        Args:
            nodes: Their keys; with a node all that it depends on (see `require_closed`).
        """
        inside = frozenset(nodes)
        made = [name for node in self.nodes if node.key in inside for name in node.outputs]
        read = {name for node in self.nodes if node.key not in inside for name in node.inputs}
        return tuple(name for name in (*self.inputs, *made) if name in read)

    def head_of(self, frontier: Collection[str]) -> frozenset[str]:
        """Return the keys of the fewest nodes that make nothing cross but `frontier`.

        It holds what the frontier depends on and, where that makes or reads something else, whatever reads
        it too. These are all nodes if `frontier` does not separate the inputs from the outputs.
        """
        maker = {name: node for node in self.nodes for name in node.outputs}
        readers: dict[str, list[FlowNode]] = {}
        for node in self.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        crossing = frozenset(frontier)
        found: dict[str, FlowNode] = {}
        pending = [maker[name] for name in crossing if name in maker]
        pending += [node for name in self.inputs if name not in crossing for node in readers[name]]
        while pending:
            node = pending.pop()
            if node.key in found:
                continue
            found[node.key] = node
            pending.extend(maker[name] for name in node.inputs if name in maker)
            kept = (name for name in node.outputs if name not in crossing)
            pending.extend(reader for name in kept for reader in readers.get(name, ()))
        return frozenset(found)

    def bypasses(self, frontier: Collection[str]) -> list[str]:
        """Return the tensors that cross beside `frontier` when only what it depends on runs on the device."""
        maker = {name: node for node in self.nodes for name in node.outputs}
        before: set[str] = set()
        pending = [maker[name] for name in frontier if name in maker]
        while pending:
            node = pending.pop()
            if node.key not in before:
                before.add(node.key)
                pending.extend(maker[name] for name in node.inputs if name in maker)
        return [name for name in self.frontier_of(before) if name not in frontier]

    def require_closed(self, nodes: Collection[str], model: str) -> None:
        """Check that `nodes` can run on the device: they exist and need nothing of what is not among them.

        Args:
            nodes: Keys of nodes.
            model: What to call the model in an error.

        Raises:
            PlanError: If one does not exist, or reads what a node outside makes.
        """
        inside = frozenset(nodes)
        if unknown := inside - {node.key for node in self.nodes}:
            raise PlanError(
                f"{model}: no node of its data flow has the key {min(unknown)!r}; keys are first outputs"
            )
        maker = {name: node.key for node in self.nodes for name in node.outputs}
        for node in self.nodes:
            for name in node.inputs:
                if node.key in inside and name in maker and maker[name] not in inside:
                    raise PlanError(
                        f"{model}: the node that makes {node.key!r} is on the device and reads {name!r}, "
                        "which is made on the server; put both on one side"
                    )

    def require_cut(self, frontier: Collection[str], model: str) -> None:
        """Check that `frontier` separates the inputs from the outputs.

        Args:
            frontier: Names of tensors.
            model: What to call the model in an error.

        Raises:
            PlanError: If a tensor does not exist, or something passes beside the frontier.
        """
        for name in frontier:
            if name not in self.tensors:
                raise PlanError(f"{model}: no tensor {name!r} in its data flow; {self._suggest(name)}")
        missing = self.bypasses(frontier)
        if missing and len(self.head_of(frontier)) == len(self.nodes):
            listed = ", ".join(repr(name) for name in missing[:3])
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            cut = ", ".join(repr(name) for name in frontier)
            raise PlanError(
                f"{model}: cutting at {cut} leaves a way around it through {listed}{more}; cut there too"
            )

    def _suggest(self, name: str) -> str:
        cuts = [cut.tensor for cut in self.interior_cuts()]
        close = difflib.get_close_matches(name, cuts, n=3) or cuts[:3]
        return f"it can be cut at e.g. {', '.join(close)}" if close else "it has no single-tensor cut"
