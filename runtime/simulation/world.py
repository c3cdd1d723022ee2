"""Everything around a policy: a device, a link, a server, and what each step takes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.runtime.bundle import PointRecord, PointTable
from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation.distribution import Constant, Distribution
from isthmus.runtime.simulation.energy import DeviceEnergy

Interval = tuple[float, float]

# HTTP/2's initial window: what a stream writes before its peer has acknowledged anything.
_TRANSPORT_BYTES = 65_535


# The 95th percentile of a normal distribution, in standard deviations.
_P95 = 1.645

_NO_TIME = Constant(0.0)
# rANS on a latent of a few thousand symbols, as measured by `isthmus bench codec`.
_ENCODE = Constant(0.0002)


@dataclass(frozen=True, slots=True)
class FrameLuck:
    """What is drawn once per frame, so that every policy meets the same images.

    Attributes:
        size: How many standard deviations its payload lies above the mean, at any operating point.
        hardness: In [0, 1); an answer of accuracy u is right if u exceeds it.
    """

    size: float
    hardness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWorld:
    """One device, its link and its server. Instants are seconds on the trace's own clock.

    Attributes:
        trace: The uplink's rate.
        points: The bundle's measured table.
        fps: Frames captured per second.
        deadline_s: Seconds from capture within which a frame must be answered.
        duration_s: Seconds during which frames are captured.
        start_s: Where in the trace the run begins.
        delay_s: Propagation, one way.
        overhead_bytes: What the wire adds to every payload.
        head_s: Per width index, one image through that head; widths left out take the table's time.
        encode_s: Encoding a latent into a payload.
        exit_s: A latent through the early exit; None: the table's time, where the table has exits.
        local_s: An image through the whole network; None: the table's time, where the table has one.
        server_s: Decoding and the tail.
        server_queue_s: What a frame waits at the server for others' frames.
        jitter_s: What gRPC, the kernel and the scheduler add to each way over the link.
        wake_s: What the device's own event loop and threads add between the steps of a frame.
        connect_s: Until the first connection is there.
        seed: Of every draw; the same world twice gives the same run.
        queue_limit: Most frames that wait to be computed, oldest first; None: only the newest waits.
        server_load: What the server says of the share of its time in which it computes; None: nothing.
        server_clock: The server tells when it received a frame.
        outages: (from, until) in which the server cannot be reached at all; its connections are lost.
        busy: (from, until) in which the server refuses frames as busy.
        energy: What the device draws; None: not known.
        transport_bytes: Bytes that the connection takes before the link has carried them; what is beyond
            waits on the device, where it can still be recalled.

    Raises:
        InputError: If a value cannot be used.
    """

    trace: RateTrace
    points: PointTable
    fps: float = 30.0
    deadline_s: float = 0.15
    duration_s: float = 60.0
    start_s: float = 0.0
    delay_s: float = 0.01
    overhead_bytes: int = DEFAULT_OVERHEAD_BYTES
    head_s: Mapping[int, Distribution] = field(default_factory=dict)
    encode_s: Distribution = _ENCODE
    exit_s: Distribution | None = None
    local_s: Distribution | None = None
    server_s: Distribution | None = None
    server_queue_s: Distribution = _NO_TIME
    jitter_s: Distribution = _NO_TIME
    wake_s: Distribution = _NO_TIME
    connect_s: float = 0.0
    seed: int = 1
    queue_limit: int | None = None
    server_load: float | None = None
    server_clock: bool = True
    outages: tuple[Interval, ...] = ()
    busy: tuple[Interval, ...] = ()
    energy: DeviceEnergy | None = None
    transport_bytes: int = _TRANSPORT_BYTES

    def __post_init__(self) -> None:
        for name, value in {
            "fps": self.fps,
            "deadline": self.deadline_s,
            "duration": self.duration_s,
        }.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} {value:g}: give a finite number above 0")
        for name, value in {"start": self.start_s, "delay": self.delay_s, "connect": self.connect_s}.items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} {value:g} s: give finite seconds, 0 or more")
        if self.queue_limit is not None and self.queue_limit < 1:
            raise InputError(f"a queue of {self.queue_limit} frames; give 1 or more, or leave it out")
        for begin_s, end_s in (*self.outages, *self.busy):
            if not begin_s < end_s:
                raise InputError(
                    f"an interval from {begin_s:g} s until {end_s:g} s; it must end after it began"
                )

    @property
    def frames(self) -> int:
        """Frames that are captured."""
        # A frame due at the very end would be one too many, and sums of periods are not exact.
        return max(1, math.ceil((self.duration_s - 1e-6) * self.fps))

    def instants(self) -> list[float]:
        """Return when each frame is captured."""
        return [self.start_s + number / self.fps for number in range(self.frames)]

    def luck(self) -> list[FrameLuck]:
        """Return what is drawn for each frame; depends on the seed alone."""
        rng = random.Random(f"images {self.seed}")
        return [FrameLuck(rng.gauss(0.0, 1.0), rng.random()) for _ in range(self.frames)]

    def head(self, width_index: int) -> Distribution:
        """Return what the head of `width_index` takes."""
        given = self.head_s.get(width_index)
        if given is not None:
            return given
        times = [r.head_s for r in self.points.records if r.point.width_index == width_index]
        return Constant(times[0] if times else 0.0)

    @property
    def exit(self) -> Distribution | None:
        """What the early exit takes; None if the bundle has none."""
        if not self.points.exits:
            return None
        return self.exit_s or Constant(self.points.exits[0].compute_s)

    @property
    def local(self) -> Distribution | None:
        """What the whole network takes on the device; None if the bundle carries none."""
        if self.points.local is None:
            return None
        return self.local_s or Constant(self.points.local.compute_s)

    @property
    def server(self) -> Distribution:
        """What the server computes for a frame: as given, or the table's tail."""
        return self.server_s or Constant(self.points.tail_s or 0.0)


def payload_bytes(record: PointRecord, luck: FrameLuck) -> int:
    """Return the payload of one frame at one operating point: normal around the mean, at most the maximum."""
    spread = max(0.0, record.bytes_p95 - record.bytes_mean) / _P95
    return max(1, min(record.bytes_max, round(record.bytes_mean + luck.size * spread)))


def inside(at_s: float, intervals: tuple[Interval, ...]) -> Interval | None:
    """Return the interval (from, until), `until` excluded, that holds `at_s`; None if none does."""
    return next((interval for interval in intervals if interval[0] <= at_s < interval[1]), None)
