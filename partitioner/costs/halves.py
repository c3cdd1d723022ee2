"""Time real halves beside the whole network.

Decides what is measured of a cut: every half proven against the whole first, then all in interleaved rounds,
medians; what scattered is timed again. Knows nothing of links, speeds or candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isthmus.partitioner.costs.memory import HalfMemory, half_memory, measure_peak_bytes
from isthmus.partitioner.cutting.cut import Halves, extract_at, write_halves
from isthmus.partitioner.cutting.parity import check_parity, run_whole
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.weights import all_tensors, stored_bytes
from isthmus.partitioner.running.execution import (
    Clock,
    Feed,
    Timing,
    clock_for,
    random_feed,
    time_side_by_side,
)
from isthmus.partitioner.running.runner import Runner

DEVICE, SERVER = "whole device", "whole server"

# What scatters by more than this share of its median is timed again, once.
_SCATTER = 0.1
# Sessions of as many weights are open at once; more cuts take turns in groups.
_OPEN_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCut:
    """What was measured of one cut on this machine.

    Attributes:
        nodes: The keys of the head's nodes.
        frontier: The tensors that cross.
        head, tail: Seconds of each half, as the device and as the server would run it.
        max_rel_diff: Largest difference of head and tail from the whole, relative to the largest output.
        rerun: Whether a half scattered and was timed again.
        head_memory, tail_memory: What each half needs.
    """

    nodes: frozenset[str]
    frontier: tuple[str, ...]
    head: Timing
    tail: Timing
    max_rel_diff: float
    rerun: bool
    head_memory: HalfMemory
    tail_memory: HalfMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The whole network and cuts of it, timed in the same rounds.

    Attributes:
        device, server: The whole, as either machine would run it.
        cuts: In the order they were asked for.
    """

    device: Timing
    server: Timing
    cuts: tuple[MeasuredCut, ...]


def measure_cuts(
    network: Network,
    heads: Sequence[Collection[str]],
    *,
    device: Runner,
    server: Runner,
    real: Sequence[Feed] = (),
    budget_s: float,
    folder: Path | None = None,
    peaks: bool = False,
) -> Measured:
    """Rebuild cuts of `network` as real halves, prove them, and time them beside the whole.

    Args:
        network: The network.
        heads: For each cut the keys of the nodes in the head, with all that they need.
        device: How the head runs.
        server: How the tail runs.
        real: Real inputs for the parity check.
        budget_s: Seconds to spend on timing, about.
        folder: Where to write the halves, or None.
        peaks: Whether to measure resident memory too, about a second for each half.

    Raises:
        PlanError: If a set of nodes is no head.
        GateError: If halves do not answer like the whole.
        InputError: If ONNX Runtime cannot run the network, or the folder cannot be written.
    """
    reference = run_whole(network, real=real)
    inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
    feed = random_feed(inputs, np.random.default_rng(1))
    groups = list(_groups(network, heads))
    clock = device.clock if device.clock.name == server.clock.name else clock_for(0)
    cuts: list[MeasuredCut] = []
    wholes: list[dict[str, Timing]] = []
    for group in groups:
        pairs = [extract_at(network, nodes) for nodes in group]
        diffs = [check_parity(network, pair, reference=reference).max_rel_diff for pair in pairs]
        calls, crossing = _calls(network, pairs, feed, device, server)
        timings, again = _time(calls, budget_s=budget_s / len(groups), clock=clock)
        wholes.append({name: timings[name] for name in (DEVICE, SERVER) if name in timings})
        for index, (nodes, pair) in enumerate(zip(group, pairs, strict=True)):
            if folder is not None:
                write_halves(pair, folder)
            memories = _memories(network, pair, crossing[index], device, server, peaks=peaks)
            names = (f"head {index}", f"tail {index}")
            cuts.append(
                MeasuredCut(
                    nodes=frozenset(nodes),
                    frontier=pair.frontier,
                    head=timings[names[0]],
                    tail=timings[names[1]],
                    max_rel_diff=diffs[index],
                    rerun=not again.isdisjoint(names),
                    head_memory=memories[0],
                    tail_memory=memories[1],
                )
            )
    return _joined(wholes, cuts, [len(group) for group in groups])


def _groups(network: Network, heads: Sequence[Collection[str]]) -> Iterator[Sequence[Collection[str]]]:
    """Yield `heads` in groups whose halves fit into memory together; one empty group if there are none."""
    weights = sum(stored_bytes(tensor) for tensor in all_tensors(network.proto.graph))
    size = max(1, _OPEN_BYTES // max(weights, 1))
    for start in range(0, max(len(heads), 1), size):
        yield heads[start : start + size]


def _calls(
    network: Network, pairs: Sequence[Halves], feed: Feed, device: Runner, server: Runner
) -> tuple[dict[str, Callable[[], object]], list[Feed]]:
    """Return what is timed on inputs of one sample, and what each tail is given."""
    calls: dict[str, Callable[[], object]] = {}
    calls[DEVICE], _ = device.prepare(network.original, network, feed)
    if server != device:
        calls[SERVER], _ = server.prepare(network.original, network, feed)
    crossing: list[Feed] = []
    for index, pair in enumerate(pairs):
        calls[f"head {index}"], made = device.prepare(pair.head, network, feed)
        crossing.append({**feed, **made})
        calls[f"tail {index}"], _ = server.prepare(pair.tail, network, crossing[-1])
    return calls, crossing


def _time(
    calls: Mapping[str, Callable[[], object]], *, budget_s: float, clock: Clock
) -> tuple[dict[str, Timing], set[str]]:
    """Time `calls`, and once more those that scattered; return the steadier timings, and which scattered."""
    timings = time_side_by_side(calls, budget_s=budget_s, clock=clock)
    again = {
        name
        for name, timing in timings.items()
        if name not in (DEVICE, SERVER) and timing.spread_s > _SCATTER * timing.median_s
    }
    if not again:
        return timings, again
    repeated = {name: call for name, call in calls.items() if name in again or name == DEVICE}
    second = time_side_by_side(repeated, budget_s=budget_s * len(repeated) / len(calls), clock=clock)
    # The machine may be quicker or slower by now; the whole tells by how much.
    drift = timings[DEVICE].median_s / second[DEVICE].median_s
    for name in again:
        fresh = _scaled(second[name], drift)
        if fresh.spread_s < timings[name].spread_s:
            timings[name] = fresh
    return timings, again


def _memories(
    network: Network, pair: Halves, crossing: Feed, device: Runner, server: Runner, *, peaks: bool
) -> tuple[HalfMemory, HalfMemory]:
    facts = network.graph.tensors
    head, tail = half_memory(pair.head, facts), half_memory(pair.tail, facts)
    if not peaks:
        return head, tail
    head_peak, tail_peak = (
        measure_peak_bytes(half, pair.folder, crossing, threads=runner.threads)
        for half, runner in ((pair.head, device), (pair.tail, server))
    )
    return replace(head, peak_bytes=head_peak), replace(tail, peak_bytes=tail_peak)


def _joined(
    wholes: Sequence[Mapping[str, Timing]], cuts: Sequence[MeasuredCut], sizes: Sequence[int]
) -> Measured:
    """Return the groups' figures as of the first one's moment, by the whole that each of them timed."""
    first, moved = wholes[0], []
    left = iter(cuts)
    for whole, size in zip(wholes, sizes, strict=True):
        drift = first[DEVICE].median_s / whole[DEVICE].median_s
        for _ in range(size):
            cut = next(left)
            moved.append(replace(cut, head=_scaled(cut.head, drift), tail=_scaled(cut.tail, drift)))
    return Measured(device=first[DEVICE], server=first.get(SERVER, first[DEVICE]), cuts=tuple(moved))


def _scaled(timing: Timing, factor: float) -> Timing:
    if math.isclose(factor, 1.0):
        return timing
    return replace(timing, median_s=timing.median_s * factor, spread_s=timing.spread_s * factor)
