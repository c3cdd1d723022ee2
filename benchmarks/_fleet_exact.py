"""A fleet event by event: the slow truth that the fast simulation is compared with.

Every frame is an object and every instant an event. The server's queue is the real one
(`isthmus.runtime.server.deadline_queue`), a device's pause after a refusal is the real backoff; refusals act
the moment their answer arrives.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from isthmus.runtime.server.deadline_queue import DeadlineQueue
from isthmus.runtime.session import FullJitter
from isthmus.runtime.simulation.clock import VirtualClock
from isthmus.runtime.simulation.fleet import FleetWorld, LinkClass

_DRAIN_S = 30.0


@dataclass(slots=True)
class ExactRun:
    """What became of the frames; names as in `FleetRun`."""

    captured: int = 0
    own: int = 0
    quiet: int = 0
    in_time: int = 0
    late: int = 0
    expired: int = 0
    busy: int = 0
    batches: int = 0
    computed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def hit_share(self) -> float:
        return self.in_time / (self.captured - self.own)

    @property
    def mean_batch(self) -> float:
        return (self.in_time + self.late) / max(1, self.batches)

    def latency_s(self, share: float) -> float:
        return sorted(self.latencies_s)[int(share * len(self.latencies_s))]


@dataclass(slots=True, eq=False)
class _Device:
    link: LinkClass
    one_way_s: float
    server: _Server
    backoff: FullJitter
    quiet_until_s: float = -1.0


@dataclass(slots=True, eq=False)
class _Frame:
    device: _Device
    captured_s: float
    deadline_s: float


class _Server:
    """One tail, by the batcher's rules: see `isthmus.runtime.server.batcher`."""

    def __init__(self, fleet: _Fleet) -> None:
        self.fleet = fleet
        self.queue: DeadlineQueue[_Frame] = DeadlineQueue(fleet.world.service.queue_frames)
        self.running = False

    def receive(self, frame: _Frame) -> None:
        now_s = self.fleet.clock.now_s
        if not self.queue.admit(1):
            self.fleet.run.expired += len(self.queue.expire(now_s))
            if not self.queue.admit(1):
                self.fleet.refuse(frame)
                return
        self.queue.push(frame, rows=1, deadline_s=frame.deadline_s)
        self.start()

    def start(self) -> None:
        if self.running:
            return
        run, service = self.fleet.run, self.fleet.world.service
        run.expired += len(self.queue.expire(self.fleet.clock.now_s))
        batch = self.queue.take(service.max_batch, wanted=lambda frame: True)
        if batch:
            self.running = True
            taken_s = service.batch_s + len(batch) * service.frame_s
            run.batches += 1
            run.computed_s += taken_s
            self.fleet.clock.at(self.fleet.clock.now_s + taken_s, self.end, batch)

    def end(self, batch: list[_Frame]) -> None:
        self.running = False
        for frame in batch:
            self.fleet.answer(frame)
        self.start()


class _Fleet:
    def __init__(self, world: FleetWorld, seed: int) -> None:
        assert world.arrivals.pattern in ("constant", "poisson")
        assert world.autoscale is None
        assert world.service.sigma == 0
        self.world = world
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.run = ExactRun()
        servers = [_Server(self) for _ in range(world.servers)]
        for number in range(world.devices):
            link = self.rng.choices(world.links, [link.share for link in world.links])[0]
            region = self.rng.choices(world.regions, [region.share for region in world.regions])[0]
            backoff = FullJitter(base_s=0.05, cap_s=1.0, rng=self.rng)
            device = _Device(link, region.rtt_s / 2, servers[number % world.servers], backoff)
            self.clock.at(
                self._gap() if self._random else self.rng.random() / world.fps, self.capture, device
            )

    @property
    def _random(self) -> bool:
        return self.world.arrivals.pattern == "poisson"

    def _gap(self) -> float:
        return self.rng.expovariate(self.world.fps) if self._random else 1.0 / self.world.fps

    def capture(self, device: _Device) -> None:
        now_s, world = self.clock.now_s, self.world
        if now_s >= world.duration_s:
            return
        self.clock.at(now_s + self._gap(), self.capture, device)
        self.run.captured += 1
        if self.rng.random() >= device.link.sent_share:
            self.run.own += 1
            return
        if now_s < device.quiet_until_s:
            self.run.quiet += 1
            return
        sample = self.rng.randrange(len(device.link.before_s))
        transit_s = device.link.transit_s[sample] + device.one_way_s
        frame = _Frame(device, now_s, now_s + world.deadline_s + transit_s)
        arrival_s = now_s + device.link.before_s[sample] + transit_s + world.service.handling_s
        self.clock.at(arrival_s, device.server.receive, frame)

    def refuse(self, frame: _Frame) -> None:
        self.run.busy += 1
        self.clock.at(self.clock.now_s + frame.device.one_way_s, self._refused, frame.device)

    def _refused(self, device: _Device) -> None:
        device.quiet_until_s = self.clock.now_s + device.backoff.next_s()

    def answer(self, frame: _Frame) -> None:
        there_s = self.clock.now_s + frame.device.one_way_s
        self.run.latencies_s.append(there_s - frame.captured_s)
        if there_s <= frame.captured_s + self.world.deadline_s - self.world.reserve_s:
            self.run.in_time += 1
        else:
            self.run.late += 1
        self.clock.at(there_s, frame.device.backoff.reset)


def run_exact(world: FleetWorld, *, seed: int = 1) -> ExactRun:
    """Run `world` event by event."""
    fleet = _Fleet(world, seed)
    fleet.clock.run(world.duration_s + _DRAIN_S)
    return fleet.run
