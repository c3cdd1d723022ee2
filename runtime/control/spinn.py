"""A scheduler in the manner of SPINN: an offline profile, rescaled by the measured bandwidth and server load.

After SPINN (Laskaridis et al., MobiCom 2020, arXiv 2008.06402): candidates that break a hard limit are left
out, the rest are ranked by the soft target; the profile's transfer times are rescaled by an EWMA of the
bandwidth, its server times by an EWMA of what the server takes now; the device's own exit answers when the
link fails. There is no public implementation; what the paper leaves open is filled in plainly: the hard limit
is the deadline, the soft target accuracy, what waits on the link is not known, and an unused link is tried
once a second.
"""

from __future__ import annotations

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.ewma import Ewma
from isthmus.runtime.control.frame_worth import Columns
from isthmus.runtime.control.point_estimate import MOST_IN_FLIGHT
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate
from isthmus.runtime.units import format_bytes, format_duration, format_rate

_ALPHA = 0.4
_TRY_EVERY_S = 1.0


class SpinnPolicy:
    """The best point within the deadline by the rescaled profile, or the device's own answer."""

    name = "spinn"

    def __init__(self, points: PointTable) -> None:
        """Read the profile: utility, bytes, head times and the tail's time of `points`."""
        self._answers = DeviceAnswers(points)
        self._columns = Columns(points)
        self._mean_bytes = [record.bytes_mean for record in points.records]
        self._profiled_s = [record.head_s for record in points.records]
        self._server_s = points.tail_s
        self._rate = Ewma(_ALPHA)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        rate = self._rate(link)
        known_s = device.server_s if self._server_s is None else self._server_s
        self._server_s = known_s + _ALPHA * (device.server_s - known_s)
        if not link.connected:
            return self._answers.decide(device, budget_s, "not connected")
        if link.in_flight >= MOST_IN_FLIGHT:
            return self._answers.decide(device, budget_s, f"{link.in_flight} in flight")
        alone = self._answers.best(device, budget_s)
        best = None if rate is None else self._best(rate, link, device, budget_s)
        if best is not None and (alone is None or self._columns.utility[best] > alone.utility):
            return self._send(best, device, rate, probe=False)
        if link.idle_s is None or link.idle_s >= _TRY_EVERY_S:
            return self._send(self._columns.by_size[0], device, rate, probe=True)
        return self._answers.decision(alone, budget_s, f"nothing in time at {format_rate(rate)}")

    def _best(self, rate: float, link: LinkEstimate, device: DeviceState, budget_s: float) -> int | None:
        rest_s = device.encode_s + (link.rtt_s or 0.0) + (self._server_s or 0.0)
        fits = [
            index
            for index, (head_s, nbytes) in enumerate(zip(self._profiled_s, self._mean_bytes, strict=True))
            if head_s + (nbytes + link.overhead_bytes) / rate + rest_s <= budget_s
        ]
        return max(fits, key=lambda i: (self._columns.utility[i], -self._mean_bytes[i]), default=None)

    def _send(self, index: int, device: DeviceState, rate: float | None, *, probe: bool) -> Decision:
        columns = self._columns
        fallback, fallback_s, _ = self._answers.fallback(device, columns.widths[index])
        server = format_duration(self._server_s or 0.0)
        return Decision(
            action="send",
            point=columns.points[index],
            probe=probe,
            expected_utility=columns.utility[index],
            reason=f"{format_bytes(self._mean_bytes[index])} at {format_rate(rate)}, server {server}",
            fallback=fallback,
            fallback_s=fallback_s,
        )
