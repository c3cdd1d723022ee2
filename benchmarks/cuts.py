"""Random cuts of real architectures: are all halves valid, and do they answer like the whole?

Options:
    networks: Names, separated by commas; the default are six, of which yolox-nano needs the real data.
    cuts: How many cuts of each network.
    seed: Of weights, cuts and random inputs.
    folder: Where exported networks are kept.

A cut is a random set of nodes that needs nothing from the rest, so whatever the tail still reads crosses:
skips, gates, integer shapes, the image itself. Half of the sets are the beginning of a random order of
execution, half all that one to three random nodes depend on. A cut is valid if both halves pass ONNX's
checker with the network's operator set and IR version, and ONNX Runtime runs them, also with another batch
where the network takes one.

`max_rel_diff` is the largest difference over the outputs' largest value. That it means something shows in two
controls of the same measure: `change_by_input`, between the answers to two inputs, and `change_by_swap`, when
one tensor that crosses is taken from another input. `quick` takes two small networks and fewer cuts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _networks import CACHE, YOLOX, has_network, network_file, real_inputs

from isthmus.partitioner.cutting.cut import Halves, extract_at
from isthmus.partitioner.cutting.parity import PARITY_TOLERANCE, Reference, check_parity, run_whole
from isthmus.partitioner.network.graph import FlowGraph
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.running.execution import Feed, open_session, session_options
from isthmus.partitioner.running.execution import run as infer
from isthmus.runtime.errors import GateError, InputError, PlanError

NETWORKS = ("resnet50", "densenet121", "mobilenet-v3-large", "efficientnet-b0", "vit-b16", YOLOX)
QUICK = ("cifar-resnet20", "squeezenet1.0")
REAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one cut showed.

    Attributes:
        frontier: How many tensors crossed.
        integers: How many of them were no floats.
        payload_bytes: Their size for one sample.
        max_rel_diff: Between the halves and the whole.
        change_by_swap: What one crossing tensor of another input changes; None if no float crossed.
        extract_s: Time to make and check both halves.
    """

    frontier: int
    integers: int
    payload_bytes: int
    max_rel_diff: float
    change_by_swap: float | None
    extract_s: float


def run(
    *,
    quick: bool = False,
    networks: str | None = None,
    cuts: int | None = None,
    seed: int = 4,
    folder: str | None = None,
) -> dict[str, Any]:
    """Return figures of every network.

    Raises:
        InputError: If a network cannot be had.
    """
    names = networks.split(",") if networks else list(QUICK if quick else NETWORKS)
    missing = [name for name in names if not networks and not has_network(name)]
    count = cuts or (4 if quick else 20)
    figures: dict[str, Any] = {
        "target_max_rel_diff": PARITY_TOLERANCE,
        "left_out": ", ".join(missing) or "none",
    }
    ratios: dict[str, Any] = {}
    for name in names:
        if name not in missing:
            file = network_file(name, Path(folder) if folder else CACHE, seed=seed)
            figures[name], ratios[name] = _measure(name, load_network(file), count, seed)
    return {"figures": figures, "ratios": ratios}


def _measure(name: str, network: Network, count: int, seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    rng = np.random.default_rng(seed)
    (entry,) = network.graph.inputs
    real = [{entry: pixels} for pixels in real_inputs(name, REAL)]
    # Two random inputs come first, then the real ones.
    reference = run_whole(network, real=real, seed=seed)
    other = 2 if real else 1
    results, failures = [], []
    started = time.perf_counter()
    for nodes in random_heads(network.graph, count, rng):
        try:
            results.append(_try(network, nodes, reference, other, rng))
        except (PlanError, GateError, InputError) as error:
            failures.append(str(error))
    if not results:
        raise GateError(f"{name}: no cut was valid; the first: {failures[0]}")
    figures = _summary(results)
    figures |= {
        "nodes": len(network.graph.nodes),
        "cuts": count,
        "valid": len(results),
        "failures": failures,
        "real_inputs": len(real),
        "inputs": len(reference.feeds),
        "change_by_input": _change(reference.answers[0], reference.answers[other]),
        "total_s": time.perf_counter() - started,
    }
    worst = figures["max_rel_diff"]["max"]
    return figures, {
        "valid_over_cuts": len(results) / count,
        "worst_diff_over_target": worst / PARITY_TOLERANCE,
        "change_by_input_over_target": figures["change_by_input"] / PARITY_TOLERANCE,
        "swaps_noticed_over_tried": figures["swaps_noticed"] / max(figures["swaps_tried"], 1),
    }


def _try(
    network: Network, nodes: frozenset[str], reference: Reference, other: int, rng: np.random.Generator
) -> Result:
    started = time.perf_counter()
    halves = extract_at(network, nodes)
    extract_s = time.perf_counter() - started
    for half in (halves.head, halves.tail):
        _check(network, half)
    parity = check_parity(network, halves, tolerance=math.inf, reference=reference)
    facts = [network.graph.tensors[tensor] for tensor in halves.frontier]
    return Result(
        frontier=len(facts),
        integers=sum(not np.issubdtype(np.dtype(fact.dtype), np.floating) for fact in facts),
        payload_bytes=sum(fact.nbytes or 0 for fact in facts),
        max_rel_diff=parity.max_rel_diff,
        change_by_swap=_swap(network, halves, reference, other, rng),
        extract_s=extract_s,
    )


def _check(network: Network, half: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(half, full_check=True)
    except onnx.checker.ValidationError as error:
        raise PlanError(f"{network.name}: {half.graph.name} is not valid: {error}") from None
    if list(half.opset_import) != list(network.proto.opset_import):
        raise PlanError(f"{network.name}: {half.graph.name} has another operator set")
    if half.ir_version != max(network.original.ir_version, 4):
        raise PlanError(f"{network.name}: {half.graph.name} has IR version {half.ir_version}")


def _swap(
    network: Network, halves: Halves, reference: Reference, other: int, rng: np.random.Generator
) -> float | None:
    """Return how much the answer changes when one float that crosses comes from the input `other`."""
    pair = (reference.feeds[0], reference.feeds[other])
    options = session_options(1)
    head = open_session(halves.head, network.name, options, folder=halves.folder)
    ours, others = ({**feed, **infer(head, feed, network.name)} for feed in pair)
    del head
    floats = [
        name
        for name in halves.frontier
        if np.issubdtype(ours[name].dtype, np.floating) and not np.array_equal(ours[name], others[name])
    ]
    if not floats:
        return None
    swapped = str(rng.choice(floats))
    tail = open_session(halves.tail, network.name, options, folder=halves.folder)
    found = infer(tail, {**ours, swapped: others[swapped]}, network.name)
    return _change({name: reference.answers[0][name] for name in found}, found)


def _change(expected: Feed, found: Feed) -> float:
    """Return the largest difference over the larger of both largest values; of several outputs the most."""
    changes = []
    for name, value in expected.items():
        scale = max(float(np.abs(value).max()), float(np.abs(found[name]).max()))
        changes.append(float(np.abs(value - found[name]).max()) / scale if scale else 0.0)
    return max(changes)


def random_heads(graph: FlowGraph, count: int, rng: np.random.Generator) -> list[frozenset[str]]:
    """Return `count` different sets of node keys, each with all that its nodes need, none empty or whole.

    Raises:
        InputError: If the graph does not have so many.
    """
    heads: dict[frozenset[str], None] = {}
    for attempt in range(100 * count):
        head = _beginning(graph, rng) if attempt % 2 == 0 else _ancestors(graph, rng)
        if 0 < len(head) < len(graph.nodes):
            heads[head] = None
        if len(heads) == count:
            return list(heads)
    raise InputError(f"{count} different cuts were not found, {len(heads)} were; ask for fewer with cuts=N")


def _beginning(graph: FlowGraph, rng: np.random.Generator) -> frozenset[str]:
    """Return the first nodes, a random number of them, of a random order of execution."""
    makers = {name: node.key for node in graph.nodes for name in node.outputs}
    waiting = {node.key: {makers[name] for name in node.inputs if name in makers} for node in graph.nodes}
    chosen: list[str] = []
    for _ in range(int(rng.integers(1, len(waiting)))):
        ready = [key for key, needs in waiting.items() if not needs]
        key = ready[int(rng.integers(len(ready)))]
        chosen.append(key)
        del waiting[key]
        for needs in waiting.values():
            needs.discard(key)
    return frozenset(chosen)


def _ancestors(graph: FlowGraph, rng: np.random.Generator) -> frozenset[str]:
    """Return one to three random nodes and all that they depend on."""
    picked = rng.choice(len(graph.nodes), size=min(int(rng.integers(1, 4)), len(graph.nodes)), replace=False)
    keys = {graph.nodes[int(index)].key for index in picked}
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.key in keys or not needed.isdisjoint(node.outputs):
            keys.add(node.key)
            needed.update(node.inputs)
    return frozenset(keys)


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    swaps = [result.change_by_swap for result in results if result.change_by_swap is not None]
    return {
        "max_rel_diff": _spread([result.max_rel_diff for result in results]),
        "frontier_tensors": _spread([result.frontier for result in results]),
        "several_tensors": sum(result.frontier > 1 for result in results),
        "integers_cross": sum(result.integers > 0 for result in results),
        "payload_bytes": _spread([result.payload_bytes for result in results]),
        "change_by_swap": _spread(swaps or [0.0]),
        "swaps_tried": len(swaps),
        "swaps_noticed": sum(change > PARITY_TOLERANCE for change in swaps),
        "extract_s": _spread([result.extract_s for result in results]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
