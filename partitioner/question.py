"""What the search is asked: the network as a graph of costs, with pins, allowed cuts and inputs.

Decides what the names that a user gives mean: a node by any tensor that it makes, all nodes of an operator
type, a cut by its tensors or by a torch module.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from isthmus.partitioner.cutting.cut import can_cross
from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.work import node_work
from isthmus.partitioner.search import SearchGraph, SearchNode, SearchTensor
from isthmus.partitioner.sides import Side
from isthmus.runtime.errors import InputError, PlanError

Machine = Literal["device", "server"]


def search_graph(
    network: Network, device: Side, server: Side, energy: EnergyModel, pins: Mapping[str, Machine]
) -> SearchGraph:
    """Return the data flow of `network` with its costs; `pins` are by node keys."""
    graph, work = network.graph, node_work(network)
    device_s, server_s = device.nodes_s(), server.nodes_s()
    nodes = tuple(
        SearchNode(
            key=node.key,
            device_s=device_s[node.key],
            server_s=server_s[node.key],
            device_j=energy.compute_j(device_s[node.key]),
            weight_bytes=work[node.key].weight_bytes,
            pin=pins.get(node.key),
        )
        for node in graph.nodes
    )
    makers = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(index)
    tensors = tuple(
        SearchTensor(
            name=name,
            nbytes=fact.nbytes if can_cross(fact) else None,
            producer=makers.get(name),
            consumers=tuple(readers.get(name, ())),
            is_output=name in graph.outputs,
        )
        for name, fact in graph.tensors.items()
    )
    return SearchGraph(nodes=nodes, tensors=tensors)


def resolve_pins(network: Network, pins: Mapping[str, str]) -> dict[str, Machine]:
    """Return the pinned machine of every node that `pins` names, by node keys.

    Args:
        network: The network.
        pins: `device` or `server` by a tensor that the node makes, or by an operator type for all its nodes.

    Raises:
        PlanError: If a name is neither, or one node is pinned to both.
        InputError: If a machine is neither.
    """
    keys = {name: node.key for node in network.graph.nodes for name in node.outputs}
    found: dict[str, Machine] = {}
    for name, machine in pins.items():
        if machine not in get_args(Machine):
            raise InputError(f"pin {name}={machine}: give 'device' or 'server'")
        named = [keys[name]] if name in keys else _of_operator(network, name)
        if not named:
            operators = sorted({node.op for node in network.graph.nodes})
            close = difflib.get_close_matches(name, [*keys, *operators], n=3) or operators[:3]
            raise PlanError(
                f"{network.name}: no node makes {name!r} and none is of that operator type; "
                f"pin e.g. {', '.join(close)}"
            )
        for key in named:
            if found.setdefault(key, "device" if machine == "device" else "server") != machine:
                raise PlanError(
                    f"{network.name}: node {key!r} is pinned to the device and to the server; choose one"
                )
    return found


def resolve_cuts(
    network: Network, allowed: Sequence[str | Sequence[str]], modules: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """Return the allowed cuts as tensors: a name may be a tensor, a module, or several joined by `+`.

    Raises:
        PlanError: If a tensor does not exist, or a cut leaves a way around it.
    """
    outputs = {module: tensor for tensor, module in modules.items()}
    found: list[tuple[str, ...]] = []
    for cut in allowed:
        names = [cut] if isinstance(cut, str) else list(cut)
        if isinstance(cut, str) and cut not in network.graph.tensors and cut not in outputs and "+" in cut:
            names = cut.split("+")
        tensors = [outputs.get(name, name) for name in names]
        network.graph.require_cut(tensors, network.name)
        nodes = network.graph.head_of(tensors)
        found.append(network.graph.frontier_of(nodes) or tuple(tensors))
    return tuple(dict.fromkeys(found))


def _of_operator(network: Network, operator: str) -> list[str]:
    return [node.key for node in network.graph.nodes if node.op == operator]
