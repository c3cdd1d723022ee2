"""What a fleet's run amounts to; runs of parts of a fleet add up."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Latencies are counted in buckets whose edges grow by 1 %, from 0.1 ms on.
_FLOOR_S, _GROWTH, _BUCKETS = 1e-4, np.log(1.01), 1400


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One second of a fleet: how many servers, frames sent to them, and frames answered in time."""

    at_s: float
    servers: int
    sent: int
    in_time: int


@dataclass(slots=True, kw_only=True)
class FleetRun:
    """A run of a fleet, or of some of its servers.

    Attributes:
        captured: Frames captured; the sum of the next seven.
        own: Answered by the device by its own choice.
        quiet: Answered by the device because the server had said that it was busy.
        in_time: Answered by the server in time.
        late: Answered by the server when the device had already given its own answer.
        expired: Given back by the server without being computed, their budget being spent.
        busy: Refused by the server.
        open: Still under way when the run ended.
        batches: Batches computed.
        computed_s: Seconds that tails computed, all servers together.
        server_s: Seconds of server time: servers × seconds.
        seconds: What was simulated.
        moments: Second by second.
        hit_shares: `hit_share` of each part of the fleet.
    """

    captured: int = 0
    own: int = 0
    quiet: int = 0
    in_time: int = 0
    late: int = 0
    expired: int = 0
    busy: int = 0
    open: int = 0
    batches: int = 0
    computed_s: float = 0.0
    server_s: float = 0.0
    seconds: float = 0.0
    moments: list[Moment] = field(default_factory=list)
    hit_shares: list[float] = field(default_factory=list)
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BUCKETS, np.int64))

    @property
    def wanted(self) -> int:
        """Frames that the devices wanted the server to answer."""
        return self.captured - self.own

    @property
    def hit_share(self) -> float:
        """Share of the wanted frames that the server answered in time; 1 if none was wanted."""
        return self.in_time / self.wanted if self.wanted else 1.0

    @property
    def throughput(self) -> float:
        """Frames per second that the servers computed."""
        return (self.in_time + self.late) / self.seconds

    @property
    def mean_batch(self) -> float:
        """Frames per batch; 0 without any."""
        return (self.in_time + self.late) / self.batches if self.batches else 0.0

    @property
    def utilisation(self) -> float:
        """Share of the servers' time in which they computed."""
        return self.computed_s / self.server_s if self.server_s else 0.0

    def latency_s(self, share: float) -> float | None:
        """Return the seconds from capture to answer that `share` of the server's answers do not exceed."""
        total = int(self.histogram.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(self.histogram), share * total))
        return float(_FLOOR_S * np.exp((bucket + 0.5) * _GROWTH))

    def add_latencies(self, latency_s: NDArray[np.float64]) -> None:
        """Count latencies."""
        if len(latency_s):
            bucket = np.log(np.maximum(latency_s, _FLOOR_S) / _FLOOR_S) / _GROWTH
            self.histogram += np.bincount(
                np.minimum(bucket.astype(np.int64), _BUCKETS - 1), minlength=_BUCKETS
            )

    def add(self, other: FleetRun) -> None:
        """Add the run of another part of the same fleet over the same time."""
        for name in ("captured", "own", "quiet", "in_time", "late", "expired", "busy", "open", "batches"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.computed_s += other.computed_s
        self.server_s += other.server_s
        self.seconds = max(self.seconds, other.seconds)
        self.histogram = self.histogram + other.histogram
        self.hit_shares += other.hit_shares
        if not self.moments:
            self.moments = list(other.moments)
        else:
            self.moments = [
                Moment(
                    at_s=one.at_s,
                    servers=one.servers + two.servers,
                    sent=one.sent + two.sent,
                    in_time=one.in_time + two.in_time,
                )
                for one, two in zip(self.moments, other.moments, strict=True)
            ]
