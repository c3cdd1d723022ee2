"""Rebuild the finalists as real halves, prove them, and time them beside the whole network.

Decides how measured halves become a candidate's times: scaled by the machines' speeds; of a bottleneck, only
encoder and decoder stay assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from onnx import ModelProto

from isthmus.partitioner.cut import Halves, extract_halves, write_halves
from isthmus.partitioner.execution import (
    Feed,
    Timing,
    clock_for,
    open_session,
    random_feed,
    run,
    session_options,
    time_side_by_side,
)
from isthmus.partitioner.facts import DeviceProfile
from isthmus.partitioner.model import Network
from isthmus.partitioner.parity import check_parity
from isthmus.partitioner.plan import Candidate, StageTimes
from isthmus.partitioner.search import CutCost, Problem, RawInput, bottleneck_times, link_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The two machines a plan is for."""

    device: DeviceProfile
    server: DeviceProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Final:
    """What was measured of one cut, on this machine and unscaled."""

    head: Timing
    tail: Timing
    max_rel_diff: float


def measure_finalists(
    network: Network,
    candidates: Sequence[Candidate],
    tensors: Sequence[str],
    problem: Problem,
    machines: Machines,
    *,
    real: Sequence[Feed] = (),
    budget_s: float,
    folder: Path | None = None,
) -> list[Candidate]:
    """Return `candidates` with measured times for the endpoints and for every cut in `tensors`.

    Args:
        network: The network.
        candidates: All candidates.
        tensors: The cuts to rebuild.
        problem: What they were enumerated from.
        machines: Their threads decide how the halves run, their speeds how the times are scaled.
        real: Real inputs for the parity check.
        budget_s: Seconds to spend on timing.
        folder: Where to write the halves, or None.

    Raises:
        GateError: If halves do not answer like the whole.
        InputError: If the folder cannot be written.
    """
    halves = {name: extract_halves(network, [name]) for name in tensors}
    parity = {name: check_parity(network, pair, real=real).max_rel_diff for name, pair in halves.items()}
    if folder is not None:
        for pair in halves.values():
            write_halves(pair, folder)
    clock = clock_for(machines.device.threads, machines.server.threads)
    timings = time_side_by_side(_calls(network, halves, machines), budget_s=budget_s, clock=clock)
    finals = {
        name: _Final(head=timings[f"head {name}"], tail=timings[f"tail {name}"], max_rel_diff=parity[name])
        for name in tensors
    }
    local, remote = timings["whole device"], timings.get("whole server", timings["whole device"])
    costs = {cut.tensor.name: cut for cut in problem.cuts}
    measured = []
    for item in candidates:
        if item.kind == "local":
            times = StageTimes(device_s=local.median_s / machines.device.speed, link_s=0.0, server_s=0.0)
            measured.append(msgspec.structs.replace(item, measured=times, spread_s=local.spread_s))
        elif item.kind == "offload":
            times = _offloaded(item, problem, remote.median_s / machines.server.speed)
            measured.append(msgspec.structs.replace(item, measured=times, spread_s=remote.spread_s))
        elif item.cut in finals:
            ratio = remote.median_s / local.median_s
            measured.append(_with_halves(item, finals[item.cut], costs[item.cut], problem, machines, ratio))
        else:
            measured.append(item)
    return measured


def _calls(
    network: Network, halves: dict[str, Halves], machines: Machines
) -> dict[str, Callable[[], object]]:
    """Return what is timed: the whole network, and both halves of every cut, each on inputs of one sample."""
    inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
    feed = random_feed(inputs, np.random.default_rng(1))
    threads, server_threads = machines.device.threads, machines.server.threads
    whole = network.original
    calls = {"whole device": _call(whole, network.name, threads, feed, network.folder)}
    if server_threads != threads:
        calls["whole server"] = _call(whole, network.name, server_threads, feed, network.folder)
    for name, pair in halves.items():
        where = f"{network.name} cut at {name}"
        head = open_session(pair.head, where, session_options(threads), folder=pair.folder)
        crossing = {**feed, **run(head, feed, where)}
        calls[f"head {name}"] = _call(pair.head, where, threads, feed, pair.folder)
        calls[f"tail {name}"] = _call(pair.tail, where, server_threads, crossing, pair.folder)
    return calls


def _call(model: ModelProto, name: str, threads: int, feed: Feed, folder: Path) -> Callable[[], object]:
    session = open_session(model, name, session_options(threads), folder=folder)
    wanted = {value.name: feed[value.name] for value in session.get_inputs()}
    return lambda: session.run(None, wanted)


def _offloaded(item: Candidate, problem: Problem, remote_s: float) -> StageTimes:
    raw: RawInput = next(raw for raw in problem.raw if raw.encoding == item.encoding)
    return StageTimes(
        device_s=raw.encode_s,
        link_s=link_seconds(problem.link, raw.nbytes),
        server_s=raw.decode_s + remote_s,
    )


def _with_halves(
    item: Candidate, final: _Final, cost: CutCost, problem: Problem, machines: Machines, ratio: float
) -> Candidate:
    """Return `item` measured; `ratio` is the whole's time at the server's threads to the device's."""
    head_s = final.head.median_s / machines.device.speed
    tail_s = final.tail.median_s / machines.server.speed
    if item.kind == "split":
        times = StageTimes(
            device_s=head_s, link_s=link_seconds(problem.link, item.payload_bytes), server_s=tail_s
        )
    else:
        real = CutCost(
            tensor=cost.tensor,
            head_device_s=head_s,
            head_server_s=final.head.median_s * ratio / machines.server.speed,
            tail_server_s=tail_s,
            head_share=cost.head_share,
        )
        times = bottleneck_times(problem, real, item.payload_bytes)
    return msgspec.structs.replace(
        item,
        measured=times,
        spread_s=final.head.spread_s + final.tail.spread_s,
        max_rel_diff=final.max_rel_diff,
    )
