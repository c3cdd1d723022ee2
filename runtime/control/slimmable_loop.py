"""The control loop published with slimmable encoders, as it is: for comparison.

After arXiv 2306.12691: the throughput's EWMA with α = 0.4, and of all operating points the best whose
estimated time is below 0.8 · deadline. The estimate is the encoder's time as profiled beforehand and the
payload over the throughput: neither what waits on the link, nor the round trip, nor the server's time, nor
that a device slows down. Something is always sent; when nothing seems to be in time, the quickest point.
"""

from __future__ import annotations

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.ewma import Ewma
from isthmus.runtime.control.frame_worth import Columns
from isthmus.runtime.control.point_estimate import MOST_IN_FLIGHT
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate
from isthmus.runtime.units import format_duration, format_rate

_ALPHA = 0.4
_SHARE = 0.8


class SlimmableLoopPolicy:
    """Always sends, by an estimate of compute and transmission alone."""

    name = "slimmable-loop"

    def __init__(self, points: PointTable) -> None:
        """Read the profile: utility, bytes and head times of `points`."""
        self._answers = DeviceAnswers(points)
        self._columns = Columns(points)
        self._mean_bytes = [record.bytes_mean for record in points.records]
        self._profiled_s = [record.head_s for record in points.records]
        self._rate = Ewma(_ALPHA)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        rate = self._rate(link)
        if not link.connected:
            return self._answers.decide(device, budget_s, "not connected")
        if link.in_flight >= MOST_IN_FLIGHT:
            return self._answers.decide(device, budget_s, f"{link.in_flight} in flight")
        times_s = [
            head_s + (nbytes / rate if rate else 0.0)
            for head_s, nbytes in zip(self._profiled_s, self._mean_bytes, strict=True)
        ]
        fits = [index for index, seconds in enumerate(times_s) if seconds < _SHARE * budget_s]
        if rate is None or not fits:
            chosen = min(range(len(times_s)), key=lambda index: (times_s[index], self._mean_bytes[index]))
        else:
            chosen = max(fits, key=lambda index: (self._columns.utility[index], -times_s[index]))
        fallback, fallback_s, _ = self._answers.fallback(device, self._columns.widths[chosen])
        return Decision(
            action="send",
            point=self._columns.points[chosen],
            probe=rate is None,
            expected_utility=self._columns.utility[chosen],
            reason=f"{format_duration(times_s[chosen])} estimated at {format_rate(rate)}",
            fallback=fallback,
            fallback_s=fallback_s,
        )
