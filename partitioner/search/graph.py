"""The graph a search works on: operators with their costs, tensors with their bytes.

Decides what a usable graph is, and refuses the rest in one line. Knows nothing of ONNX. Numbers may be ints,
floats or `fractions.Fraction`: the search only adds, multiplies, divides and compares them, so that with
exact numbers it is exact to the last digit.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from isthmus.runtime.errors import InputError, PlanError

Pin = Literal["device", "server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchNode:
    """An operator with what it costs on either machine.

    Attributes:
        key: Its name, unique in the graph.
        device_s: Seconds on the device.
        server_s: Seconds on the server.
        device_j: Joules on the device, counted as `SearchProblem.power` counts.
        weight_bytes: Bytes of its weights.
        pin: Where it has to run, or None.

    Raises:
        InputError: If a cost is negative, infinite or NaN, or the pin is none.
    """

    key: str
    device_s: float
    server_s: float
    device_j: float = 0
    weight_bytes: int = 0
    pin: Pin | None = None

    def __post_init__(self) -> None:
        where = f"node {self.key!r}"
        for name in ("device_s", "server_s", "device_j", "weight_bytes"):
            check_cost(where, name, getattr(self, name))
        if self.pin not in (None, "device", "server"):
            raise InputError(f"{where}: pin {self.pin!r} is no machine; give 'device', 'server' or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTensor:
    """A tensor of the data flow, for one sample.

    Attributes:
        name: Its name, unique in the graph.
        nbytes: Bytes of one sample, or None where they are unknown: it then never crosses, and counts as 0
            in the device's memory.
        producer: Index of the node that makes it, or None for an input of the network.
        consumers: Indices of the nodes that read it, each once.
        is_output: Whether it is an output of the network. Made on the device it does not cross.

    Raises:
        InputError: If the bytes are negative or NaN.
        PlanError: If a consumer is listed twice.
    """

    name: str
    nbytes: int | None
    producer: int | None
    consumers: tuple[int, ...]
    is_output: bool = False

    def __post_init__(self) -> None:
        if self.nbytes is not None:
            check_cost(f"tensor {self.name!r}", "nbytes", self.nbytes)
        if len(set(self.consumers)) != len(self.consumers):
            raise PlanError(f"tensor {self.name!r} lists a consumer twice; list each once")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchGraph:
    """A network's data flow.

    Attributes:
        nodes: In a topological order, which is also the order in which the device runs them.
        tensors: In any order.

    Raises:
        PlanError: If it has no node, a name is not unique, an index is out of range, or it has a cycle.
    """

    nodes: tuple[SearchNode, ...]
    tensors: tuple[SearchTensor, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise PlanError("the graph has no node; there is nothing to split")
        _check_unique("node", [node.key for node in self.nodes])
        _check_unique("tensor", [tensor.name for tensor in self.tensors])
        count = len(self.nodes)
        for tensor in self.tensors:
            made = () if tensor.producer is None else (tensor.producer,)
            for index in (*made, *tensor.consumers):
                if not 0 <= index < count:
                    raise PlanError(
                        f"tensor {tensor.name!r} refers to node {index}, but there are {count}; "
                        "number nodes from 0"
                    )
        for tensor in self.tensors:
            if tensor.producer is not None and min(tensor.consumers, default=count) <= tensor.producer:
                raise PlanError(self._disorder(tensor))

    def _disorder(self, tensor: SearchTensor) -> str:
        """Return what to say of a graph whose nodes read what is made only later."""
        waits = [0] * len(self.nodes)
        readers: list[list[int]] = [[] for _ in self.nodes]
        for edge in self.tensors:
            if edge.producer is not None:
                readers[edge.producer].extend(edge.consumers)
                for index in edge.consumers:
                    waits[index] += 1
        ready = [index for index, count in enumerate(waits) if count == 0]
        for index in ready:  # grows as it goes
            for reader in readers[index]:
                waits[reader] -= 1
                if waits[reader] == 0:
                    ready.append(reader)
        if len(ready) < len(self.nodes):
            stuck = self.nodes[next(index for index, count in enumerate(waits) if count)].key
            return f"the graph is cyclic: node {stuck!r} waits for itself; break the cycle"
        first = self.nodes[min(tensor.consumers)].key
        return f"node {first!r} reads {tensor.name!r} before it is made; sort the nodes topologically"


def check_cost(where: str, name: str, value: float) -> None:
    """Check that `value` is a finite number of at least 0.

    Raises:
        InputError: If it is not; the line begins with `where` and `name`.
    """
    if not 0 <= value < math.inf:
        raise InputError(f"{where}: {name} {value} is not a finite number of at least 0")


def _check_unique(what: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PlanError(f"two {what}s are called {twice[0]!r}; give each its own name")
