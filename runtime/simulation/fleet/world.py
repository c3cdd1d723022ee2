"""A fleet: how many devices, when they capture, over which links, and what answers them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from isthmus.runtime.errors import InputError

Pattern = Literal["constant", "poisson", "diurnal", "bursts"]
Admission = Literal["queue", "predicted"]
_DAY_S = 86_400.0
_QUANTILES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When devices capture.

    `constant`: each at its own phase of a fixed period. `poisson`: at random, at the same mean rate.
    `diurnal`: as constant, by a share of the devices that follows the hours. `bursts`: as constant, by a
    share that jumps to all of them at fixed intervals.

    Attributes:
        pattern: Which.
        low: Share of the devices that is active at the quietest hour, or between bursts.
        period_s: Seconds of a day, or from one burst to the next.
        burst_s: Seconds that a burst lasts.
        phases: In [0, 1): where in its period each device captures, if that is known; there must be as many
            as devices. Empty: drawn.

    Raises:
        InputError: If a value is out of range.
    """

    pattern: Pattern = "constant"
    low: float = 0.2
    period_s: float = _DAY_S
    burst_s: float = 5.0
    phases: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1:
            raise InputError(f"a share of {self.low:g} active devices; give 0 to 1")
        if not all(0 <= phase < 1 for phase in self.phases):
            raise InputError(f"phases from {min(self.phases):g} to {max(self.phases):g}; give 0 to below 1")
        if not (self.period_s > 0 and 0 <= self.burst_s <= self.period_s):
            raise InputError(
                f"bursts of {self.burst_s:g} s every {self.period_s:g} s; give a period above 0 and no "
                "burst longer than it"
            )

    def active(self, at_s: float) -> float:
        """Return the share of the devices that is active at `at_s`."""
        if self.pattern == "diurnal":
            wave = (1 - math.cos(2 * math.pi * at_s / self.period_s)) / 2
            return self.low + (1 - self.low) * wave
        if self.pattern == "bursts":
            return 1.0 if at_s % self.period_s >= self.period_s - self.burst_s else self.low
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkClass:
    """Devices that share a kind of link, by samples of what a frame takes on its way to the server.

    Attributes:
        name: For tables.
        share: Share of the devices, relative to the other classes'.
        before_s: Seconds from capture until it is sent: head, encoding, waiting.
        transit_s: Seconds from there until it is received, propagation to the region excluded; sample by
            sample beside `before_s`.
        sent_share: Share of the captured frames that are sent at all; the device answers the others.
        back_s: What each sample's answer took on its way back, propagation excluded; empty: nothing.
        instants_s: When each sample was taken, in rising order: a frame then takes the one that follows its
            capture, so that what held all devices up at one instant does so again. Empty: at random.

    Raises:
        InputError: If there is no sample, or a share is out of range.
    """

    name: str
    share: float
    before_s: tuple[float, ...]
    transit_s: tuple[float, ...]
    sent_share: float = 1.0
    back_s: tuple[float, ...] = ()
    instants_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.before_s or len(self.before_s) != len(self.transit_s):
            raise InputError(
                f"link class {self.name!r}: {len(self.before_s)} samples; give one or more pairs"
            )
        for what, values in (("instants", self.instants_s), ("ways back", self.back_s)):
            if values and len(values) != len(self.before_s):
                raise InputError(
                    f"link class {self.name!r}: {len(values)} {what} of {len(self.before_s)} samples; give "
                    "one each, or none"
                )
        if not (self.share > 0 and 0 < self.sent_share <= 1):
            raise InputError(
                f"link class {self.name!r}: share {self.share:g}, sent {self.sent_share:g}; give a share "
                "above 0 and a sent share in (0, 1]"
            )

    @classmethod
    def of_ways(
        cls, name: str, *, share: float, ways: Sequence[tuple[float, float]], captured: int, delay_s: float
    ) -> LinkClass:
        """Return the class of a simulated device: its policy's choices and queues are in the samples.

        Args:
            name: For tables.
            share: Share of the devices.
            ways: As in `DeviceRun`; a frame that never arrived counts as not sent.
            captured: Frames captured in that run.
            delay_s: Propagation in that run, which regions replace.

        Raises:
            InputError: If no frame arrived.
        """
        there = [(before_s, max(0.0, on_s - delay_s)) for before_s, on_s in ways if on_s < math.inf]
        return cls(
            name=name,
            share=share,
            before_s=tuple(before_s for before_s, _ in there),
            transit_s=tuple(on_s for _, on_s in there),
            sent_share=max(1, len(there)) / captured,
        )

    @classmethod
    def of_rate(
        cls,
        name: str,
        *,
        share: float,
        rate_bytes_per_s: float,
        payload_bytes: float,
        compute_s: float = 0.0,
        sigma: float = 0.0,
    ) -> LinkClass:
        """Return a class whose rate is lognormal around a median, with independent frames.

        Raises:
            InputError: If the rate is not positive.
        """
        if not rate_bytes_per_s > 0:
            raise InputError(f"link class {name!r}: {rate_bytes_per_s:g} bytes/s; give a rate above 0")
        normal = NormalDist()
        shares = [(index + 0.5) / _QUANTILES for index in range(_QUANTILES if sigma > 0 else 1)]
        factors = [math.exp(-sigma * normal.inv_cdf(share_)) for share_ in shares]
        transit_s = tuple(payload_bytes / rate_bytes_per_s * factor for factor in factors)
        return cls(name=name, share=share, before_s=(compute_s,) * len(transit_s), transit_s=transit_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Devices at one distance from the servers: `share` of them, with this round trip."""

    name: str
    share: float
    rtt_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One server: a tail on one accelerator with a queue of its own, by the real batcher's rules.

    A batch of n takes `batch_s` + n · `frame_s`. It starts the moment the tail is free, with whoever waits,
    earliest deadline first; frames whose budget has passed by then are answered without being computed.

    Attributes:
        frame_s, batch_s: Seconds per frame and per batch.
        sigma: Spread of a batch's time (lognormal; 0: none).
        factors: Measured factors of a batch's time, drawn at random, instead of `sigma`.
        max_batch: Most frames of a batch.
        queue_frames: Most frames that wait; more are refused as busy.
        handling_s: Seconds before a frame joins the queue: parsing and decoding, off the tail's thread.
        admission: `queue`: refuse when the queue is full; `predicted`: also when the queue ahead of a frame
            is expected to take longer than its budget.

    Raises:
        InputError: If a value is out of range.
    """

    frame_s: float
    batch_s: float = 0.0
    sigma: float = 0.0
    factors: tuple[float, ...] = ()
    max_batch: int = 32
    queue_frames: int = 256
    handling_s: float = 0.0
    admission: Admission = "queue"

    def __post_init__(self) -> None:
        if not (self.frame_s >= 0 and self.batch_s >= 0 and self.frame_s + self.batch_s > 0):
            raise InputError(
                f"a batch takes {self.batch_s:g} s and {self.frame_s:g} s a frame; give 0 or more, not both 0"
            )
        if not 1 <= self.max_batch <= self.queue_frames:
            raise InputError(
                f"batches of {self.max_batch} from a queue of {self.queue_frames}; give 1 <= batch <= queue"
            )

    @property
    def frames_per_s(self) -> float:
        """Frames per second of a server whose batches are all full."""
        return self.max_batch / (self.batch_s + self.max_batch * self.frame_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """Servers are added and removed so that the busiest share of their time stays near a target.

    Attributes:
        target: Wanted share of time that servers compute.
        every_s: Seconds between decisions.
        start_s: Seconds from a decision until a new server takes frames.
        down_after_s: Seconds that fewer servers must have sufficed before one is removed.
        least, most: Bounds on the number of servers.
    """

    target: float = 0.6
    every_s: float = 5.0
    start_s: float = 30.0
    down_after_s: float = 60.0
    least: int = 1
    most: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWorld:
    """Everything about a fleet.

    Attributes:
        devices: How many.
        servers: How many; with `autoscale` those at the beginning. Devices are dealt out evenly.
        fps: Frames that an active device captures per second.
        deadline_s: Seconds from capture within which the answer must be there.
        reserve_s: Seconds before its deadline at which a device gives its own answer and the server's counts
            no more (the agent's guard).
        duration_s: Seconds in which frames are captured.
        arrivals, links, regions, service, autoscale: See there.
        seed: Of every draw.

    Raises:
        InputError: If a value is out of range.
    """

    devices: int
    servers: int
    fps: float
    deadline_s: float
    service: Service
    links: tuple[LinkClass, ...]
    regions: tuple[Region, ...] = (Region(name="all", share=1.0, rtt_s=0.02),)
    reserve_s: float = 0.005
    duration_s: float = 60.0
    arrivals: Arrivals = Arrivals()
    autoscale: Autoscale | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1 or self.servers < 1:
            raise InputError(f"{self.devices} devices on {self.servers} servers; give 1 or more of each")
        if not (self.fps > 0 and self.deadline_s > self.reserve_s >= 0 and self.duration_s > 0):
            raise InputError(
                f"{self.fps:g} fps, a deadline of {self.deadline_s:g} s, {self.duration_s:g} s: give more "
                "than 0, and a deadline above the guard's reserve"
            )
        if self.arrivals.phases and (len(self.arrivals.phases) != self.devices or self.servers > 1):
            raise InputError(
                f"{len(self.arrivals.phases)} phases for {self.devices} devices on {self.servers} servers; "
                "give one per device, and one server"
            )
        if not self.links or not self.regions:
            raise InputError("a fleet without a link class or a region; give one or more of each")
