"""Measure what every node of a network costs on this machine, and what a cut adds to that.

Kernel times give the shares of the nodes, the whole network end to end gives their sum, and real halves at a
few tensors tell what a cut costs beyond its nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np

from isthmus.partitioner.costs.anchors import MeasuredSpot, Spot, measure_spots, spread_out
from isthmus.partitioner.costs.kernels import FUSED, UNFUSED, Kernel, share_kernels, time_kernels
from isthmus.partitioner.facts import CostTable
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.work import NodeWork, node_work
from isthmus.partitioner.running.execution import Feed, random_feed, time_side_by_side
from isthmus.partitioner.running.providers import CPU, TENSORRT, backend_of
from isthmus.partitioner.running.runner import Runner
from isthmus.runtime.machines import Anchor, OperatorWork
from isthmus.runtime.machines.processor import processor_name

ANCHORS = 8

# Kernel times are whole microseconds; the mean of many is not.
_MIN_RUNS, _MAX_RUNS = 12, 300
# Parts of the budget: the whole network, kernels fused and unfused, the anchors.
_WHOLE, _KERNELS, _HALVES = 0.25, 0.25, 0.5


def measure_costs(
    network: Network,
    *,
    threads: int,
    budget_s: float,
    providers: tuple[str, ...] = CPU,
    anchors: int = ANCHORS,
    avoid: Collection[str] = (),
) -> CostTable:
    """Measure the node costs of `network` for a batch of one, in about `budget_s` seconds.

    Args:
        network: The network.
        threads: Threads of one inference.
        budget_s: Time to spend; real halves are measured at fewer tensors where it does not suffice.
        providers: What to run on.
        anchors: At how many tensors to measure real halves, at most; 0 for none.
        avoid: Tensors that are no anchors, because a prediction is to be tested there.

    Raises:
        InputError: If ONNX Runtime cannot run the network.
    """
    runner = Runner(threads=threads, providers=providers)
    inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
    feed = random_feed(inputs, np.random.default_rng(0))
    whole, _ = runner.prepare(network.original, network, feed)
    timing = time_side_by_side({"whole": whole}, budget_s=budget_s * _WHOLE, clock=runner.clock)["whole"]
    runs = int(np.clip(budget_s * _KERNELS / 2 / max(timing.median_s, 1e-6), _MIN_RUNS, _MAX_RUNS))
    fused, plain = _kernels(network, feed, runner, runs)
    unfused = {name: kernel.seconds for kernel in plain for name in kernel.makes}
    node_s = share_kernels(network.graph.nodes, fused, unfused)
    total = sum(node_s.values())
    shares = {key: seconds / total for key, seconds in node_s.items()} if total else node_s
    spots = [spot for spot in _spots(network, shares) if spot.tensor not in avoid]
    found = measure_spots(
        network,
        spread_out(spots, anchors),
        runner=runner,
        feed=feed,
        whole=whole,
        budget_s=budget_s * _HALVES,
    )
    # A moment of calm or of noise is not the machine: the whole was timed again beside every pair of halves.
    whole_s = float(np.median([timing.median_s, *(spot.whole_s for spot in found)])) if total else 0.0
    return CostTable(
        host=processor_name(),
        backend=backend_of(providers),
        clock=runner.clock.name,
        threads=threads,
        rounds=timing.rounds,
        whole_s=whole_s,
        whole_spread_s=timing.spread_s,
        kernel_sum_s=sum(kernel.seconds for kernel in fused),
        # What runs between kernels is spread like the kernels themselves, so that the nodes sum to the whole.
        node_s={key: share * whole_s for key, share in shares.items()},
        anchors=tuple(_anchor(spot, whole_s) for spot in sorted(found, key=lambda item: item.spot.before)),
        work={key: _work(work) for key, work in node_work(network).items()},
        model=network.name,
    )


def _kernels(network: Network, feed: Feed, runner: Runner, runs: int) -> tuple[list[Kernel], list[Kernel]]:
    """Return the kernels that run, and those of the network as it stands."""
    # A network compiled by TensorRT is one kernel; CUDA's tell its nodes apart.
    providers = tuple(name for name in runner.providers if name != TENSORRT)
    fused, plain = (
        time_kernels(network, feed, threads=runner.threads, runs=runs, level=level, providers=providers)
        for level in (FUSED, UNFUSED)
    )
    return fused, plain


def _spots(network: Network, shares: Mapping[str, float]) -> list[Spot]:
    """Return the tensors at which the network can be cut alone, in the order of execution."""
    before = [0.0, *itertools.accumulate(shares[node.key] for node in network.graph.nodes)]
    return [
        Spot(tensor=cut.tensor, before=min(1.0, before[cut.head_nodes]))
        for cut in network.graph.interior_cuts()
        if network.graph.tensors[cut.tensor].nbytes is not None
    ]


def _anchor(found: MeasuredSpot, whole_s: float) -> Anchor:
    before = found.spot.before
    return Anchor(
        tensor=found.spot.tensor,
        before=before,
        head_extra_s=(found.head_share - before) * whole_s,
        tail_extra_s=(found.tail_share - (1 - before)) * whole_s,
    )


def _work(work: NodeWork) -> OperatorWork:
    return OperatorWork(operator=work.operator, flops=work.flops, nbytes=work.bytes_moved)
