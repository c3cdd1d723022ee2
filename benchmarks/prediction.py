"""Predicted against measured latency of a split: the head, the tail, and their sum.

Options:
    networks: Names, separated by commas; yolox-nano needs the real data.
    cuts: How many single tensors of each network are cut at.
    sets: How many random sets of nodes besides, most of which have several tensors cross.
    passes: How often both sides are measured.
    seed: Of weights, cuts and inputs.
    folder: Where exported networks are kept.

Predictions are those of `isthmus partition profile`: kernel times, and real halves at eight anchors. The cuts
here are drawn first and kept out of the anchors, so none is predicted from itself. What is predicted is never
scaled to what is measured: both are seconds. They take turns: in each pass the network is profiled anew, then
the halves are timed, because a shared machine changes its speed by 10 % within minutes, which is no property
of a prediction (`whole_drift` says by how much). Medians over passes are compared. One thread, by its CPU
time.

An error is |predicted / measured - 1|. Beside it: `at_equal_speed`, with the prediction scaled by the whole
network timed beside the halves, which tells the predictor's error from the machine's unrest;
`without_anchors`, the prediction by kernel times alone; and, as `estimated_over_measured`, the whole network
from the speeds by operator class of all the other networks.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from _networks import CACHE, YOLOX, has_network, network_file
from cuts import random_heads

from isthmus.partitioner.costs.lookup import describe_machine, node_costs
from isthmus.partitioner.costs.nodes import measure_costs
from isthmus.partitioner.costs.speeds import fit_speeds
from isthmus.partitioner.cutting.cut import extract_at
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.running.execution import random_feed, time_side_by_side
from isthmus.partitioner.running.runner import Runner
from isthmus.runtime.errors import ArtifactError, PlanError
from isthmus.runtime.machines import NetworkCosts

NETWORKS = (
    "resnet50", "densenet121", "mobilenet-v2", "mobilenet-v3-large", "efficientnet-b0", "vit-b16",
    "cifar-resnet56", YOLOX,
)  # fmt: skip
QUICK = ("cifar-resnet20",)
PARTS = ("head", "tail", "sum")
MEDIAN_TARGET, P90_TARGET = 0.05, 0.12


@dataclass(slots=True, kw_only=True)
class Cut:
    """A set of nodes for the head with what crosses then, and what was found in each pass."""

    label: str
    nodes: frozenset[str]
    frontier: tuple[str, ...]
    single: bool
    found: dict[str, list[float]] = field(default_factory=dict)

    def note(self, **seconds: float) -> None:
        """Append the figures of one pass."""
        for name, value in seconds.items():
            self.found.setdefault(name, []).append(value)

    def seconds(self, source: str) -> dict[str, float]:
        """Return head, tail and their sum in seconds: medians over passes."""
        head, tail = (statistics.median(self.found[f"{source}_{half}"]) for half in ("head", "tail"))
        return {"head": head, "tail": tail, "sum": head + tail}

    def errors(self, source: str) -> dict[str, float]:
        """Return the signed relative errors of `source` against what was measured."""
        predicted, measured = self.seconds(source), self.seconds("measured")
        return {part: predicted[part] / measured[part] - 1 for part in PARTS}


def run(
    *,
    quick: bool = False,
    networks: str | None = None,
    cuts: int | None = None,
    sets: int | None = None,
    passes: int | None = None,
    seed: int = 4,
    folder: str | None = None,
) -> dict[str, Any]:
    """Return errors by network and over all; `quick` takes one small network, two cuts and one pass."""
    names = networks.split(",") if networks else QUICK if quick else NETWORKS
    names = [name for name in names if networks or has_network(name)]
    passes = passes or (1 if quick else 3)
    scale = 0.1 if quick else 1.0
    figures: dict[str, Any] = {}
    everything: list[Cut] = []
    tables: dict[str, tuple[Network, NetworkCosts]] = {}
    for name in names:
        network = load_network(network_file(name, Path(folder) if folder else CACHE, seed=seed))
        drawn = _draw(
            network, cuts or (2 if quick else 8), (1 if quick else 3) if sets is None else sets, seed
        )
        wholes = []
        for _ in range(passes):
            costs = _one_pass(network, drawn, scale)
            wholes.append(costs.whole_s)
        tables[name] = (network, costs)
        everything += drawn
        figures[name] = _of_network(network, costs, wholes, drawn)
    single, several = ([cut for cut in everything if cut.single is kind] for kind in (True, False))
    figures["all"] = {
        "single_tensor_cuts": len(single),
        "errors": _quantiles(single, "predicted"),
        "at_equal_speed": _quantiles(single, "scaled"),
        "without_anchors": _quantiles(single, "plain"),
    }
    if several:
        figures["all"]["node_sets"] = len(several)
        figures["all"]["errors_of_node_sets"] = _quantiles(several, "predicted")
    figures["all"] |= _verdict(figures["all"]["errors"]["pooled"])
    return {"figures": figures, "ratios": {"estimated_over_measured": _estimates(tables)}}


def _draw(network: Network, count: int, sets: int, seed: int) -> list[Cut]:
    """Return random cuts: single tensors where both halves have a node, and random sets of nodes."""
    rng = np.random.default_rng(seed)
    keys = [node.key for node in network.graph.nodes]
    spots = {frozenset(keys[: cut.head_nodes]): cut.tensor for cut in network.graph.interior_cuts()}
    chosen = rng.permutation(len(spots))
    drawn: list[Cut] = []
    for wanted, sources in (
        (count, [list(spots)[index] for index in chosen]),
        (sets, [nodes for nodes in random_heads(network.graph, 4 * sets, rng) if nodes not in spots]),
    ):
        found: list[Cut] = []
        for nodes in sources:
            if len(found) == wanted:
                break
            try:
                frontier = extract_at(network, nodes).frontier
            except PlanError:
                continue  # something that cannot cross
            label = spots.get(nodes, f"{len(nodes)} nodes, {len(frontier)} tensors")
            found.append(Cut(label=label, nodes=nodes, frontier=frontier, single=nodes in spots))
        drawn += found
    return drawn


def _one_pass(network: Network, drawn: Sequence[Cut], scale: float) -> NetworkCosts:
    """Profile `network` once, then time the halves of every cut once; return the profile."""
    avoid = frozenset(name for cut in drawn if cut.single for name in cut.frontier)
    costs = measure_costs(network, threads=1, budget_s=8 * scale, avoid=avoid)
    bare = msgspec.structs.replace(costs, anchors=())
    runner = Runner(threads=1)
    inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
    feed = random_feed(inputs, np.random.default_rng(1))
    whole, _ = runner.prepare(network.original, network, feed)
    everything = {node.key for node in network.graph.nodes}
    for cut in drawn:
        halves = extract_at(network, cut.nodes)
        head, made = runner.prepare(halves.head, network, feed)
        tail, _ = runner.prepare(halves.tail, network, {**feed, **made})
        calls = {"whole": whole, "head": head, "tail": tail}
        timings = time_side_by_side(calls, budget_s=0.8 * scale, clock=runner.clock)
        # Only for `at_equal_speed`: how fast the machine is now, against when it was profiled.
        speed = timings["whole"].median_s / costs.whole_s
        cut.note(
            scaled_head=costs.head_s(cut.nodes) * speed,
            scaled_tail=costs.tail_s(everything - cut.nodes) * speed,
            measured_head=timings["head"].median_s,
            measured_tail=timings["tail"].median_s,
            predicted_head=costs.head_s(cut.nodes),
            predicted_tail=costs.tail_s(everything - cut.nodes),
            plain_head=bare.head_s(cut.nodes),
            plain_tail=bare.tail_s(everything - cut.nodes),
        )
    return costs


def _of_network(
    network: Network, costs: NetworkCosts, wholes: Sequence[float], drawn: Sequence[Cut]
) -> dict[str, Any]:
    single = [cut for cut in drawn if cut.single]
    return {
        "nodes": len(network.graph.nodes),
        "whole_ms": {
            "median": statistics.median(wholes) * 1e3,
            "min": min(wholes) * 1e3,
            "max": max(wholes) * 1e3,
        },
        "whole_drift": max(wholes) / min(wholes) - 1,
        "anchors": len(costs.anchors),
        "errors": _quantiles(single, "predicted"),
        "at_equal_speed": _quantiles(single, "scaled"),
        "without_anchors": _quantiles(single, "plain"),
        "cuts": {cut.label: _row(cut) for cut in drawn},
    }


def _row(cut: Cut) -> dict[str, float]:
    predicted, measured = cut.seconds("predicted"), cut.seconds("measured")
    row = {"crossing_tensors": float(len(cut.frontier))}
    for part in PARTS:
        row |= {f"{part}_predicted_ms": predicted[part] * 1e3, f"{part}_measured_ms": measured[part] * 1e3}
        row[f"{part}_error"] = predicted[part] / measured[part] - 1
    return row


def _quantiles(cuts: Sequence[Cut], source: str) -> dict[str, dict[str, float]]:
    """Return median and 90th percentile of the absolute errors, by part and pooled."""
    by_part = {part: [abs(cut.errors(source)[part]) for cut in cuts] for part in PARTS}
    by_part["pooled"] = [error for errors in by_part.values() for error in errors]
    return {
        part: dict(
            zip(("median", "p90", "max"), map(float, np.percentile(errors, [50, 90, 100])), strict=True)
        )
        for part, errors in by_part.items()
    }


def _verdict(errors: Mapping[str, float]) -> dict[str, Any]:
    met = errors["median"] <= MEDIAN_TARGET and errors["p90"] <= P90_TARGET
    return {"target": f"median {MEDIAN_TARGET}, 90th percentile {P90_TARGET}", "met": "yes" if met else "no"}


def _estimates(tables: Mapping[str, tuple[Network, NetworkCosts]]) -> dict[str, float]:
    """Return, for each network, its time as the other networks' speeds tell it over what was measured."""
    found = {}
    for name, (network, costs) in tables.items():
        others = [other for key, (_, other) in tables.items() if key != name]
        machine = msgspec.structs.replace(
            describe_machine(name=None, threads=1, provider="cpu"), operators=fit_speeds(others)
        )
        try:
            found[name] = node_costs(network, machine).whole_s / costs.whole_s
        except ArtifactError:
            continue  # the others have no operator of some class that it has
    return found
