"""Rebuild the finalists as real halves, and give their times to the candidates.

Decides how measured halves become a candidate's times: scaled by the machines' speeds; of a bottleneck, only
encoder and decoder stay assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.partitioner.execution import Feed
from isthmus.partitioner.facts import DeviceProfile
from isthmus.partitioner.halves import MeasuredCut, measure_cuts
from isthmus.partitioner.model import Network
from isthmus.partitioner.plan import Candidate, StageTimes
from isthmus.partitioner.runner import Runner
from isthmus.partitioner.search import CutCost, Problem, RawInput, bottleneck_times, link_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The two machines a plan is for."""

    device: DeviceProfile
    server: DeviceProfile


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
    found = measure_cuts(
        network,
        [network.graph.head_of([name]) for name in tensors],
        device=Runner(threads=machines.device.threads),
        server=Runner(threads=machines.server.threads),
        real=real,
        budget_s=budget_s,
        folder=folder,
    )
    finals = dict(zip(tensors, found.cuts, strict=True))
    local, remote = found.device, found.server
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


def _offloaded(item: Candidate, problem: Problem, remote_s: float) -> StageTimes:
    raw: RawInput = next(raw for raw in problem.raw if raw.encoding == item.encoding)
    return StageTimes(
        device_s=raw.encode_s,
        link_s=link_seconds(problem.link, raw.nbytes),
        server_s=raw.decode_s + remote_s,
    )


def _with_halves(
    item: Candidate, final: MeasuredCut, cost: CutCost, problem: Problem, machines: Machines, ratio: float
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
