"""A device, a link and a server on a virtual clock: estimator and policy in a closed loop."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from isthmus.runtime.bundle import DeviceAnswer, OperatingPoint, PointRecord, PointTable
from isthmus.runtime.control import Decision, DeviceState, LinkEstimate, LinkEstimator, Policy
from isthmus.runtime.links import RateTrace, SimLink


@dataclass
class Run:
    """What happened: per frame (time, decision, value of the answer, answered by the server in time)."""

    frames: list[tuple[float, Decision, float, bool]] = field(default_factory=list)
    estimates: list[tuple[float, LinkEstimate]] = field(default_factory=list)

    @property
    def utility(self) -> float:
        return sum(value for _, _, value, _ in self.frames) / len(self.frames)

    @property
    def points_answered(self) -> Counter[OperatingPoint | None]:
        return Counter(decision.point for _, decision, _, remote in self.frames if remote)

    def between(self, start_s: float, end_s: float) -> list[tuple[float, Decision, float, bool]]:
        return [frame for frame in self.frames if start_s <= frame[0] < end_s]


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything but the policy."""

    trace: RateTrace
    points: PointTable
    device: DeviceState
    deadline_s: float = 0.15
    fps: float = 25.0
    duration_s: float = 24.0
    start_s: float = 0.0
    delay_s: float = 0.01
    overhead_bytes: int = 0
    jitter_s: float = 0.001
    seed: int = 1
    device_utility: float = 0.0

    def size(self, record: PointRecord, noise: random.Random) -> int:
        spread = (record.bytes_p95 - record.bytes_mean) / 1.645
        return max(1, round(min(record.bytes_max, noise.gauss(record.bytes_mean, spread))))

    def record(self, point: OperatingPoint | None) -> PointRecord:
        assert point is not None
        return self.points.record(point)

    def device_value(self, decision: Decision) -> float:
        """What the device's own answer to this frame is worth."""
        kind = decision.fallback if decision.action == "send" else decision.action
        if kind == "local":
            assert self.points.local is not None
            return self.points.local.utility
        if kind == "exit":
            assert decision.point is not None
            return {e.width_index: e.utility for e in self.points.exits}[decision.point.width_index]
        return 0.0


def simulate(world: World, policy: Policy, estimator: LinkEstimator | None = None) -> Run:
    """Run `policy` over the world's link and return what happened."""
    noise = random.Random(world.seed)
    estimator = estimator or LinkEstimator(overhead_bytes=world.overhead_bytes)
    link = SimLink(world.trace, delay_s=world.delay_s)
    answers: list[tuple[float, int, int]] = []  # (answered, frame, received_ns)
    run = Run()
    estimator.on_connected(world.start_s)

    def deliver(until_s: float) -> None:
        while answers and answers[0][0] <= until_s:
            at_s, frame, received_ns = heapq.heappop(answers)
            estimator.on_delivered(
                frame, at_s, server_received_ns=received_ns, server_s=world.device.server_s
            )

    for frame in range(int(world.duration_s * world.fps)):
        now_s = world.start_s + frame / world.fps
        deliver(now_s)
        estimate = estimator.estimate(now_s)
        decision = policy.decide(estimate, world.device, budget_s=world.deadline_s, now_s=now_s)
        run.estimates.append((now_s, estimate))
        value, remote = world.device_value(decision), False
        if decision.action == "send":
            record = world.record(decision.point)
            sent_s = now_s + world.device.head_s[record.point.width_index] + world.device.encode_s
            deliver(sent_s)
            nbytes = world.size(record, noise)
            estimator.on_sent(frame, nbytes, sent_s)
            arrival_s = link.send(nbytes + world.overhead_bytes, sent_s) + noise.expovariate(
                1 / world.jitter_s
            )
            answered_s = (
                arrival_s + world.device.server_s + world.delay_s + noise.expovariate(1 / world.jitter_s)
            )
            if arrival_s < 1e9:
                heapq.heappush(answers, (answered_s, frame, round((arrival_s + 1000.0) * 1e9)))
            if answered_s <= now_s + world.deadline_s - decision.fallback_s:
                value, remote = record.utility, True
        run.frames.append((now_s, decision, value, remote))
    return run


def clairvoyant(world: World) -> float:
    """Return the utility of a controller that knows the link and takes the most useful point in time."""
    link = SimLink(world.trace, delay_s=world.delay_s)
    noise = random.Random(world.seed)
    records = sorted(world.points.records, key=lambda r: (-r.utility, r.bytes_mean))
    total, frames = 0.0, int(world.duration_s * world.fps)
    for frame in range(frames):
        now_s = world.start_s + frame / world.fps
        value = world.device_utility
        sizes = {record.point: world.size(record, noise) for record in records}
        for record in records:
            sent_s = now_s + world.device.head_s[record.point.width_index] + world.device.encode_s
            nbytes = sizes[record.point] + world.overhead_bytes
            rest_s = world.device.server_s + world.delay_s
            if record.utility > value and link.arrival(nbytes, sent_s) + rest_s <= now_s + world.deadline_s:
                link.send(nbytes, sent_s)
                value = record.utility
                break
        total += value
    return total / frames


@pytest.fixture
def make_points() -> Callable[..., PointTable]:
    return build_points


def build_points(
    sizes: Sequence[tuple[int, int, int, float]],
    *,
    exit_utility: float | None = 0.6,
    local_utility: float | None = None,
) -> PointTable:
    """Return a table from (width index, channels, mean bytes, utility)."""
    return PointTable(
        measured_on="test",
        host="test",
        teacher_utility=0.95,
        records=tuple(
            PointRecord(
                point=OperatingPoint(width_index=width, channels=channels),
                utility=utility,
                bytes_mean=float(nbytes),
                bytes_p95=nbytes * 1.1,
                bytes_max=round(nbytes * 1.2),
                head_s=0.001 * (width + 1),
            )
            for width, channels, nbytes, utility in sizes
        ),
        exits=()
        if exit_utility is None
        else tuple(
            DeviceAnswer(utility=exit_utility, compute_s=0.001, width_index=width)
            for width in sorted({size[0] for size in sizes})
        ),
        local=None
        if local_utility is None
        else DeviceAnswer(utility=local_utility, compute_s=0.02, width_index=None),
    )
