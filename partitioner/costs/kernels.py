"""Time the kernels of a network with ONNX Runtime's profiler, and share them out among the network's nodes.

Fusion leaves fewer kernels than there are nodes, and gives them other names. A kernel is therefore known by
the tensor it makes: the nodes between two such tensors share the kernels between them, in proportion to what
each costs unfused. The unfused times themselves are no prediction (up to 2.6 times too long).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto

from isthmus.partitioner.network.graph import FlowNode
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.running.execution import Feed, open_session, session_options
from isthmus.partitioner.running.providers import CPU

FUSED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
UNFUSED = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

_KERNEL = "_kernel_time"
# Layout rewriting names a blocked kernel after the tensor it stands for.
_BLOCKED = re.compile(r"(.+)_nchwc(?:_token_\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that ran.

    Attributes:
        makes: The tensors it makes, in the optimised graph.
        reads: The tensors it reads there.
        stands_for: The tensors it makes by the names of the network, where it has such a name.
        seconds: Mean of one run.
    """

    makes: tuple[str, ...]
    reads: tuple[str, ...]
    stands_for: tuple[str, ...]
    seconds: float


def share_kernels(
    nodes: Sequence[FlowNode], kernels: Sequence[Kernel], unfused_s: Mapping[str, float]
) -> dict[str, float]:
    """Return the seconds of every node, by its key.

    A kernel belongs to the first node downstream that makes a tensor both graphs know, and so does every
    node: nodes and kernels that belong together share their time.

    Args:
        nodes: The network's nodes in a topological order.
        kernels: The optimised graph's kernels in a topological order.
        unfused_s: Seconds of each node run by itself, by the name of its first output; the shares are in this
            proportion.
    """
    maker = {name: node.key for node in nodes for name in node.outputs}
    group_of_kernel = _downstream(
        [(kernel.makes, kernel.reads, kernel.stands_for) for kernel in kernels], maker
    )
    anchored = {maker[name] for kernel in kernels for name in kernel.stands_for if name in maker}
    group_of_node = _downstream(
        [(node.outputs, node.inputs, node.outputs if node.key in anchored else ()) for node in nodes], maker
    )
    kernel_s: dict[str, float] = {}
    for kernel, group in zip(kernels, group_of_kernel, strict=True):
        if group is not None:
            kernel_s[group] = kernel_s.get(group, 0.0) + kernel.seconds
    members: dict[str | None, list[str]] = {}
    for node, group in zip(nodes, group_of_node, strict=True):
        members.setdefault(group, []).append(node.key)
    shares: dict[str, float] = {}
    for group, keys in members.items():
        seconds = kernel_s.get(group, 0.0) if group is not None else 0.0
        weights = [unfused_s.get(key, 0.0) for key in keys]
        total = sum(weights)
        for key, weight in zip(keys, weights, strict=True):
            shares[key] = seconds * (weight / total if total else 1 / len(keys))
    return shares


def _downstream(
    steps: Sequence[tuple[Sequence[str], Sequence[str], Sequence[str]]], maker: Mapping[str, str]
) -> list[str | None]:
    """Return for each step (makes, reads, known as) the maker of the first known tensor at or after it."""
    groups: list[str | None] = [None] * len(steps)
    reader: dict[str, str] = {}
    for index in range(len(steps) - 1, -1, -1):
        makes, reads, known = steps[index]
        own = next((maker[name] for name in known if name in maker), None)
        groups[index] = own or next((reader[name] for name in makes if name in reader), None)
        group = groups[index]
        if group is not None:
            # Going backwards, the last to be noted is the first to read.
            reader.update(dict.fromkeys(reads, group))
    return groups


def time_kernels(
    network: Network,
    feed: Feed,
    *,
    threads: int,
    runs: int,
    level: onnxruntime.GraphOptimizationLevel,
    providers: tuple[str, ...] = CPU,
) -> list[Kernel]:
    """Return the kernels of `network` at one optimisation level, with their mean seconds over `runs` runs.

    On an accelerator the profiler times the launch of a kernel, not the kernel; only their sums over real
    halves tell more.

    Raises:
        InputError: If ONNX Runtime cannot run the network.
    """
    named = ModelProto()
    named.CopyFrom(network.original)
    for index, node in enumerate(named.graph.node):
        node.name = f"node{index}"
    with tempfile.TemporaryDirectory(prefix="isthmus-profile-") as folder:
        options = session_options(threads)
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        # The names are wanted, not the weights: outside the file they need not be read again.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(named, network.name, options, folder=network.folder, providers=providers)
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_bytes())
        optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
    durations: dict[str, list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            durations.setdefault(event["name"].removesuffix(_KERNEL), []).append(event["dur"] * 1e-6)
    # Events of a subgraph's nodes are not in the top graph: their time is already in the node that holds it.
    return [
        Kernel(
            makes=tuple(node.output),
            reads=tuple(node.input),
            stands_for=_network_names(node),
            seconds=_steady_mean(durations[node.name]),
        )
        for node in optimised.graph.node
        if node.name in durations
    ]


def _network_names(node: NodeProto) -> tuple[str, ...]:
    blocked = _BLOCKED.fullmatch(node.name)
    return (blocked[1], *node.output) if blocked else tuple(node.output)


def _steady_mean(seconds: Sequence[float]) -> float:
    """Return the mean of the quicker half of the runs, without the first two, which warm up."""
    steady = sorted(seconds[2:])
    return float(np.mean(steady[: (len(steady) + 1) // 2]))
