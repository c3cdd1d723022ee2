"""Some servers of a fleet with their devices, slice after slice.

A slice draws its captures, lets busy devices keep quiet, sends the others on their way and hands what arrives
to the tails. A refusal so acts from the next slice on; it takes a round trip in any case.
"""

from __future__ import annotations

import math

import numpy as np

from isthmus.runtime.simulation.fleet.captures import Captures, Devices, Floats
from isthmus.runtime.simulation.fleet.counts import FleetRun, Moment
from isthmus.runtime.simulation.fleet.scaling import Scaler
from isthmus.runtime.simulation.fleet.tail import ARRIVAL, BATCHES, BUSY, COMPUTED, EXPIRED, HIT_BY, ORIGIN
from isthmus.runtime.simulation.fleet.tails import Tails
from isthmus.runtime.simulation.fleet.world import FleetWorld

SLICE_S = 0.1
_SLICES_A_SECOND = 10
# As the agent's pause after a refusal: full jitter below a ceiling that doubles.
_BUSY_BASE_S, _BUSY_CAP_S = 0.05, 1.0
# Frames on their way when the last one is captured have so long to end.
_DRAIN_S = 30.0


class Part:
    """Servers of a fleet and the devices dealt to them."""

    def __init__(self, world: FleetWorld, seed: np.random.SeedSequence) -> None:
        self._world = world
        self._rng = rng = np.random.Generator(np.random.SFC64(seed))
        self._captures = Captures(world, rng)
        self._link = _drawn(rng, [link.share for link in world.links], world.devices)
        self._region = _drawn(rng, [region.share for region in world.regions], world.devices)
        self._one_way_s = np.array([region.rtt_s / 2 for region in world.regions])
        self._samples = [
            (
                np.array([link.before_s, link.transit_s, link.back_s or (0.0,) * len(link.before_s)]),
                np.array(link.instants_s),
            )
            for link in world.links
        ]
        self._sent_share = np.array([link.sent_share for link in world.links])
        self._scaler = Scaler(world)
        most = world.servers if world.autoscale is None else world.autoscale.most
        self._tails = Tails(world.service, servers=most, rng=rng)
        self._quiet_until_s = np.zeros(world.devices)
        self._attempts = np.zeros(world.devices, np.int16)
        self._under_way = (np.empty((4, 0)), np.empty(0, np.int32))
        self._run = FleetRun()
        self._second = [0, 0]

    def run(self) -> FleetRun:
        """Run for the world's duration, and until what was captured has ended."""
        world, run = self._world, self._run
        slices = math.ceil(world.duration_s / SLICE_S - 1e-9)
        for number in range(slices):
            from_s, until_s = number * SLICE_S, min((number + 1) * SLICE_S, world.duration_s)
            self._depart(from_s, until_s)
            self._serve(until_s)
            run.server_s += self._scaler.servers * (until_s - from_s)
            if (number + 1) % _SLICES_A_SECOND == 0 or number + 1 == slices:
                self._note(until_s)
        self._serve(world.duration_s + _DRAIN_S)
        run.seconds = world.duration_s
        run.batches = int(self._tails.counts[BATCHES])
        run.expired, run.busy = int(self._tails.counts[EXPIRED]), int(self._tails.counts[BUSY])
        run.computed_s = float(np.sum(self._tails.servers[COMPUTED]))
        run.open = len(self._under_way[1]) + self._tails.waiting_frames
        run.hit_shares = [run.hit_share]
        return run

    def _depart(self, from_s: float, until_s: float) -> None:
        """Send the slice's captures on their way."""
        world, rng, run = self._world, self._rng, self._run
        device, capture_s = self._captures.between(from_s, until_s)
        run.captured += len(device)
        link = self._link[device]
        if (self._sent_share < 1).any():
            sent = rng.random(len(device)) < self._sent_share[link]
            run.own += len(device) - int(np.count_nonzero(sent))
            device, capture_s, link = device[sent], capture_s[sent], link[sent]
        if self._tails.counts[BUSY]:
            talks = capture_s >= self._quiet_until_s[device]
            run.quiet += len(device) - int(np.count_nonzero(talks))
            device, capture_s, link = device[talks], capture_s[talks], link[talks]
        one_way_s = self._one_way_s[self._region[device]]
        before_s, transit_s, back_s = self._ways(link, capture_s)
        transit_s += one_way_s
        back_s += one_way_s
        frames = np.empty((4, len(device)))
        # The budget that travels begins to run when the frame is received: the server knows no transit.
        frames[0] = capture_s + world.deadline_s + transit_s
        frames[HIT_BY] = capture_s + (world.deadline_s - world.reserve_s) - back_s
        frames[ORIGIN] = capture_s - back_s
        frames[ARRIVAL] = capture_s + before_s + transit_s + world.service.handling_s
        # Sent after its deadline: the agent does not send it.
        self._under_way = (
            np.concatenate([self._under_way[0], frames], axis=1),
            np.concatenate([self._under_way[1], device]),
        )
        self._second[0] += len(device)

    def _ways(self, link: Devices, capture_s: Floats) -> Floats:
        """Return rows of seconds: until sent, until received, and back, propagation excluded."""
        ways_s = np.empty((3, len(link)))
        for number, (samples_s, instants_s) in enumerate(self._samples):
            mine = slice(None) if len(self._samples) == 1 else np.flatnonzero(link == number)
            if len(instants_s):
                drawn = np.minimum(np.searchsorted(instants_s, capture_s[mine]), len(instants_s) - 1)
            else:
                count = samples_s.shape[1]
                drawn = self._rng.integers(0, count, len(link[mine]), dtype=np.int32)
            ways_s[:, mine] = samples_s[:, drawn]
        return ways_s

    def _serve(self, until_s: float) -> None:
        """Hand what arrives by `until_s` to the tails, and take their answers."""
        frames, device = self._under_way
        there = frames[ARRIVAL] < until_s
        away = ~there
        self._under_way = (frames[:, away], device[away])
        frames, device = frames[:, there], device[there]
        answers = self._tails.serve(until_s, frames, device, servers=self._scaler.servers)
        in_time = int(np.count_nonzero(answers.counted))
        self._run.in_time += in_time
        self._run.late += len(answers.counted) - in_time
        self._run.add_latencies(answers.latency_s)
        self._second[1] += in_time
        if self._tails.counts[BUSY]:
            self._attempts[answers.device] = 0
            self._keep_quiet(answers.refused_device, answers.refused_s)

    def _keep_quiet(self, device: Devices, refused_s: Floats) -> None:
        ceiling_s = np.minimum(_BUSY_CAP_S, _BUSY_BASE_S * 2.0 ** np.minimum(self._attempts[device], 10))
        told_s = refused_s + self._one_way_s[self._region[device]]
        self._quiet_until_s[device] = told_s + ceiling_s * self._rng.random(len(device))
        self._attempts[device] += 1

    def _note(self, until_s: float) -> None:
        sent, in_time = self._second
        self._second = [0, 0]
        self._run.moments.append(
            Moment(at_s=until_s, servers=self._scaler.servers, sent=sent, in_time=in_time)
        )
        self._scaler.see(until_s, float(np.sum(self._tails.servers[COMPUTED])))


def _drawn(rng: np.random.Generator, shares: list[float], count: int) -> Devices:
    """Return which of the shares each of `count` devices falls into."""
    edges = np.cumsum(shares) / sum(shares)
    drawn: Devices = np.searchsorted(edges[:-1], rng.random(count, dtype=np.float32)).astype(np.int32)
    return drawn
