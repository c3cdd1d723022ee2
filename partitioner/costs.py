"""Measure what every node of a network costs on this machine, and what a cut adds to that.

Kernel times give the shares of the nodes, the whole network end to end gives their sum, and real halves at a
few tensors tell what a cut costs beyond its nodes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from isthmus.partitioner.cut import extract_halves
from isthmus.partitioner.execution import (
    Clock,
    Feed,
    clock_for,
    host_name,
    open_session,
    random_feed,
    run,
    session_options,
    time_side_by_side,
)
from isthmus.partitioner.facts import CostTable
from isthmus.partitioner.kernels import FUSED, UNFUSED, Kernel, share_kernels, time_kernels
from isthmus.partitioner.model import Network
from isthmus.partitioner.providers import CPU, TENSORRT, backend_of
from isthmus.partitioner.work import NodeWork, node_work
from isthmus.runtime.errors import PlanError
from isthmus.runtime.machines import Anchor, OperatorWork

ANCHORS = 8

# Kernel times are whole microseconds; the mean of many is not.
_MIN_RUNS, _MAX_RUNS = 12, 300
# Parts of the budget: the whole network, kernels fused and unfused, the anchors.
_WHOLE, _KERNELS, _HALVES = 0.25, 0.25, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A tensor at which the network can be cut alone, with the share of the node time before it."""

    tensor: str
    before: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How this machine runs a network: threads of one inference, and ONNX Runtime's providers."""

    threads: int
    providers: tuple[str, ...] = CPU

    @property
    def clock(self) -> Clock:
        """The clock to time it with: what an accelerator does is on no thread's account."""
        return clock_for(self.threads if self.providers == CPU else 0)

    def prepare(self, model: ModelProto, network: Network, feed: Feed) -> tuple[Callable[[], object], Feed]:
        """Return a call of `model` (the network or a half of it) on what it takes of `feed`, and its outputs.

        Raises:
            InputError: If ONNX Runtime cannot load or run it.
        """
        session = open_session(
            model,
            network.name,
            session_options(self.threads),
            folder=network.folder,
            providers=self.providers,
        )
        wanted = {value.name: feed[value.name] for value in session.get_inputs()}
        return lambda: session.run(None, wanted), run(session, wanted, network.name)


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
    # What runs between kernels is spread like the kernels themselves, so that head and tail add up to the
    # whole.
    scale = timing.median_s / total if total else 0.0
    node_s = {key: seconds * scale for key, seconds in node_s.items()}
    spots = [spot for spot in _spots(network, node_s) if spot.tensor not in avoid]
    found = _anchors(
        network, runner, feed, whole, timing.median_s, spread_out(spots, anchors), budget_s * _HALVES
    )
    return CostTable(
        host=host_name(),
        backend=backend_of(providers),
        clock=runner.clock.name,
        threads=threads,
        rounds=timing.rounds,
        whole_s=timing.median_s,
        whole_spread_s=timing.spread_s,
        kernel_sum_s=sum(kernel.seconds for kernel in fused),
        node_s=node_s,
        anchors=tuple(sorted(found, key=lambda anchor: anchor.before)),
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


def spread_out(spots: Sequence[Spot], count: int) -> list[Spot]:
    """Return at most `count` of `spots`, spread evenly over the network's time, those that tell most first.

    The last comes first, the first second, then the middle of the widest gap: wherever measuring has to stop,
    what was measured is spread.

    Args:
        spots: In the order of execution.
        count: How many.
    """
    chosen = list(dict.fromkeys([*spots[-1:], *spots[:1]]))[:count]
    rest = [spot for spot in spots if spot not in chosen]
    while rest and len(chosen) < count:
        farthest = max(rest, key=lambda spot: min(abs(spot.before - other.before) for other in chosen))
        chosen.append(farthest)
        rest.remove(farthest)
    return chosen


def _spots(network: Network, node_s: dict[str, float]) -> list[Spot]:
    """Return the tensors at which the network can be cut alone, in the order of execution."""
    total = sum(node_s.values())
    before = [0.0, *itertools.accumulate(node_s[node.key] / total for node in network.graph.nodes)]
    facts = network.graph.tensors
    return [
        Spot(tensor=cut.tensor, before=min(1.0, before[cut.head_nodes]))
        for cut in network.graph.interior_cuts()
        if total and facts[cut.tensor].nbytes is not None
    ]


def _anchors(
    network: Network,
    runner: Runner,
    feed: Feed,
    whole: Callable[[], object],
    whole_s: float,
    spots: Sequence[Spot],
    budget_s: float,
) -> list[Anchor]:
    """Measure real halves beside the whole, spot by spot until the budget is spent.

    One after the other, so that memory never holds more than twice the network; ratios to the whole in the
    same rounds, so that what happens to the machine meanwhile does not matter.
    """
    found: list[Anchor] = []
    started, started_cpu = time.perf_counter(), time.process_time()
    for spot in spots:
        # On a busy machine CPU time passes slowly; nobody waits for more than twice the budget.
        if min(time.process_time() - started_cpu, (time.perf_counter() - started) / 2) >= budget_s:
            break
        try:
            halves = extract_halves(network, [spot.tensor])
        except PlanError:
            continue  # a tensor that cannot cross, e.g. of strings
        head, made = runner.prepare(halves.head, network, feed)
        tail, _ = runner.prepare(halves.tail, network, {**feed, **made})
        calls = {"whole": whole, "head": head, "tail": tail}
        timings = time_side_by_side(calls, budget_s=budget_s / len(spots), clock=runner.clock)
        head_share, tail_share = (
            timings[half].median_s / timings["whole"].median_s for half in ("head", "tail")
        )
        found.append(
            Anchor(
                tensor=spot.tensor,
                before=spot.before,
                head_extra_s=(head_share - spot.before) * whole_s,
                tail_extra_s=(tail_share - (1 - spot.before)) * whole_s,
            )
        )
    return found


def _work(work: NodeWork) -> OperatorWork:
    return OperatorWork(operator=work.operator, flops=work.flops, nbytes=work.bytes_moved)
