"""A device, a link and a server on a virtual clock, so that estimator and policy run in a closed loop."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import pytest

from isthmus.runtime.bundle import DeviceAnswer, OperatingPoint, PointRecord, PointTable
from isthmus.runtime.control import (
    Decision,
    DeviceState,
    LinkEstimate,
    LinkEstimator,
    Policy,
    Shipment,
    oracle,
)
from isthmus.runtime.links import RateTrace, SimLink

# What the server's clock is ahead of ours.
SERVER_CLOCK_S = 1000.0
# Of the link in front of an estimator alone.
RTT_S = 0.02
SERVER_S = 0.005


def make_points(
    sizes: Sequence[tuple[int, int, float, float]],
    *,
    exit_utility: float | None = 0.6,
    local_utility: float | None = None,
) -> PointTable:
    """Return a table from (width index, channels, mean bytes, utility)."""
    records = tuple(
        PointRecord(
            point=OperatingPoint(width_index=width, channels=channels),
            utility=utility,
            bytes_mean=float(nbytes),
            bytes_p95=nbytes * 1.1,
            bytes_max=round(nbytes * 1.2),
            head_s=0.001 * (width + 1),
        )
        for width, channels, nbytes, utility in sizes
    )
    exits = ()
    if exit_utility is not None:
        widths = sorted({record.point.width_index for record in records})
        exits = tuple(
            DeviceAnswer(utility=exit_utility, compute_s=0.001, width_index=width) for width in widths
        )
    local = None if local_utility is None else DeviceAnswer(utility=local_utility, compute_s=0.02)
    return PointTable(
        measured_on="test", host="test", teacher_utility=0.95, records=records, exits=exits, local=local
    )


def make_device(points: PointTable, **changes: object) -> DeviceState:
    """Return a device that can do what the table offers, at the table's head times."""
    facts: dict[str, object] = {
        "head_s": {record.point.width_index: record.head_s for record in points.records},
        "exit_s": 0.001 if points.exits else None,
        "local_s": 0.02 if points.local else None,
        "encode_s": 0.001,
        "server_s": 0.004,
    }
    return DeviceState(**{**facts, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a run: when, what was chosen, what the answer was worth, whether the server gave it."""

    at_s: float
    decision: Decision
    estimate: LinkEstimate
    value: float
    remote: bool


@dataclass(frozen=True, slots=True)
class Run:
    frames: list[Frame] = field(default_factory=list)

    @property
    def utility(self) -> float:
        return sum(frame.value for frame in self.frames) / len(self.frames)

    def between(self, start_s: float, end_s: float) -> list[Frame]:
        return [frame for frame in self.frames if start_s <= frame.at_s < end_s]

    def points(self) -> Counter[OperatingPoint | None]:
        return Counter(frame.decision.point for frame in self.frames if frame.remote)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything but the policy."""

    trace: RateTrace
    points: PointTable
    device: DeviceState
    deadline_s: float = 0.15
    fps: float = 20.0
    duration_s: float = 24.0
    start_s: float = 0.0
    delay_s: float = 0.01
    overhead_bytes: int = 112
    jitter_s: float = 0.001
    seed: int = 1
    server_clock: bool = True

    def frame_instants(self) -> list[float]:
        return [self.start_s + number / self.fps for number in range(int(self.duration_s * self.fps))]

    def size(self, record: PointRecord, noise: random.Random) -> int:
        spread = (record.bytes_p95 - record.bytes_mean) / 1.645
        return max(1, round(min(record.bytes_max, noise.gauss(record.bytes_mean, spread))))

    def own_value(self, decision: Decision) -> float:
        """What the device's own answer to the frame is worth."""
        kind = decision.fallback if decision.action == "send" else decision.action
        if kind == "local":
            assert self.points.local is not None
            return self.points.local.utility
        if kind == "exit":
            assert decision.point is not None
            return {answer.width_index: answer.utility for answer in self.points.exits}[
                decision.point.width_index
            ]
        return 0.0


def simulate(world: World, policy: Policy, estimator: LinkEstimator | None = None) -> Run:
    """Run `policy` over the world's link."""
    noise = random.Random(world.seed)
    estimator = estimator or LinkEstimator(overhead_bytes=world.overhead_bytes)
    link = SimLink(world.trace, delay_s=world.delay_s)
    answers: list[tuple[float, int, int]] = []
    run = Run()
    estimator.on_connected(world.start_s)

    def deliver(until_s: float) -> None:
        while answers and answers[0][0] <= until_s:
            at_s, frame, received_ns = heapq.heappop(answers)
            estimator.on_delivered(
                frame,
                at_s,
                server_received_ns=received_ns if world.server_clock else None,
                server_s=world.device.server_s,
            )

    for number, now_s in enumerate(world.frame_instants()):
        deliver(now_s)
        estimate = estimator.estimate(now_s)
        decision = policy.decide(estimate, world.device, budget_s=world.deadline_s, now_s=now_s)
        value, remote = world.own_value(decision), False
        if decision.action == "send":
            assert decision.point is not None
            record = world.points.record(decision.point)
            sent_s = now_s + world.device.head_s[record.point.width_index] + world.device.encode_s
            deliver(sent_s)
            nbytes = world.size(record, noise)
            estimator.on_sent(number, nbytes, sent_s)
            arrival_s = link.send(nbytes + world.overhead_bytes, sent_s)
            arrival_s += noise.expovariate(1 / world.jitter_s)
            answer_s = arrival_s + world.device.server_s + world.delay_s
            answer_s += noise.expovariate(1 / world.jitter_s)
            if answer_s < float("inf"):
                heapq.heappush(answers, (answer_s, number, round((arrival_s + SERVER_CLOCK_S) * 1e9)))
            if answer_s <= now_s + world.deadline_s - decision.fallback_s:
                value, remote = record.utility, True
        run.frames.append(Frame(now_s, decision, estimate, value, remote))
    return run


def clairvoyant(world: World) -> float:
    """Return the utility of who knows the link and every size; jitter costs it nothing."""
    noise = random.Random(world.seed)
    own = [answer.utility for answer in world.points.exits]
    if world.points.local is not None:
        own.append(world.points.local.utility)
    frames = []
    for now_s in world.frame_instants():
        latest_s = now_s + world.deadline_s - world.device.server_s - 2 * world.delay_s
        shipments = [
            Shipment(
                utility=record.utility,
                nbytes=world.size(record, noise) + world.overhead_bytes,
                ready_s=now_s + world.device.head_s[record.point.width_index] + world.device.encode_s,
                latest_s=latest_s,
            )
            for record in world.points.records
        ]
        frames.append((max(own, default=0.0), shipments))
    return oracle(frames, partial(world.trace.bytes_between, 0.0)).utility / len(frames)


@pytest.fixture(scope="session")
def loop() -> SimpleNamespace:
    """Return the closed loop's pieces."""
    return SimpleNamespace(
        World=World,
        simulate=simulate,
        clairvoyant=clairvoyant,
        make_points=make_points,
        make_device=make_device,
    )


@pytest.fixture(scope="session")
def ladder() -> PointTable:
    """Return eight points of four widths, payloads as of small images."""
    return make_points(
        [
            (0, 4, 70, 0.80),
            (0, 8, 120, 0.86),
            (1, 8, 125, 0.88),
            (1, 16, 210, 0.91),
            (2, 16, 215, 0.92),
            (2, 24, 300, 0.935),
            (3, 24, 310, 0.94),
            (3, 32, 390, 0.95),
        ],
        exit_utility=0.7,
    )


class Feed:
    """An estimator behind a link of our choice; sizes are on the wire."""

    def __init__(self, rate=10_000.0, **options):
        self.estimator = LinkEstimator(overhead_bytes=0, **options)
        self.estimator.on_connected(0.0)
        self.rate = rate
        self.free_s = 0.0
        self.frame = 0

    def send(self, nbytes, now_s):
        """Send a frame; return its number and when its answer comes."""
        self.frame += 1
        self.estimator.on_sent(self.frame, nbytes, now_s)
        self.free_s = max(self.free_s, now_s) + nbytes / self.rate
        return self.frame, self.free_s + RTT_S + SERVER_S

    def answer(self, frame, at_s, server_received_ns=None):
        self.estimator.on_delivered(frame, at_s, server_received_ns=server_received_ns, server_s=SERVER_S)

    def exchange(self, sizes, start_s=0.0, gap_s=0.1):
        """Send frames one after the other, each answered before the next; return when it is over."""
        now_s = start_s
        for nbytes in sizes:
            frame, at_s = self.send(nbytes, now_s)
            self.answer(frame, at_s)
            now_s = max(now_s + gap_s, at_s)
        return now_s


@pytest.fixture(scope="session")
def link_feed() -> type[Feed]:
    """Return an estimator behind a link of our choice."""
    return Feed
