"""How far a server's clock is from this host's, from the stamps of requests and answers. Pure.

A frame leaves at a (here), arrives at b (there), is answered at c (there) and is back at d (here). As in NTP
(RFC 5905, section 8) its offset is ((b − a) + (c − d)) / 2 and its delay (d − a) − (c − b), and the true
offset lies within half the delay of that, however unequal the two ways are. So the frame with the least delay
of every ten seconds is believed (the RFC's clock filter, section 10), and half its delay is the uncertainty.

Clocks that run at different speeds drift apart: between two such frames the offset is interpolated. A server
that was started again, or another server, has another clock: a frame that contradicts the one believed before
it by more than the speeds of two clocks can differ (500 parts in a million, as in the RFC) begins a new
segment.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from isthmus.runtime.events import FrameEvent

WINDOW_S = 10.0
FASTEST_DRIFT = 500e-6
# The server tells three durations in whole microseconds.
_ROUNDING_S = 3e-6
METHOD = "NTP-style, the frame of least delay in every 10 s"


class OffsetPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame says of the server's clock.

    Attributes:
        at_s: When, in the middle of the frame's way, seconds of this host's clock.
        offset_s: Server's clock less this host's.
        delay_s: Seconds of the way there and back; the true offset is within half of that.
    """

    at_s: float
    offset_s: float
    delay_s: float

    def contradicts(self, other: OffsetPoint) -> bool:
        """Return whether no clock can be what both say."""
        unsure_s = (self.delay_s + other.delay_s) / 2 + _ROUNDING_S
        allowed_s = unsure_s + FASTEST_DRIFT * abs(self.at_s - other.at_s)
        return abs(self.offset_s - other.offset_s) > allowed_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """The server's clock over a run.

    Attributes:
        segments: Believed points in the order of their time; every segment is another clock.
        frames: How many frames spoke.
    """

    segments: tuple[tuple[OffsetPoint, ...], ...]
    frames: int

    @property
    def points(self) -> tuple[OffsetPoint, ...]:
        """All points that are believed."""
        return tuple(point for segment in self.segments for point in segment)

    @property
    def surest(self) -> OffsetPoint:
        """The point with the least delay; half of that is the least uncertainty."""
        return min(self.points, key=_delay)

    @property
    def uncertainty_s(self) -> float:
        """Half the delay of the worst of the points that are believed: ± around every offset."""
        return max(point.delay_s for point in self.points) / 2

    @property
    def drift(self) -> float | None:
        """Seconds per second by which the server's clock gained, over the longest segment.

        None unless that is more than the uncertainty.
        """
        longest = max(self.segments, key=lambda segment: segment[-1].at_s - segment[0].at_s)
        first, last = longest[0], longest[-1]
        gained_s = last.offset_s - first.offset_s
        if abs(gained_s) <= (first.delay_s + last.delay_s) / 2:
            return None
        return gained_s / (last.at_s - first.at_s)

    def at(self, at_s: float) -> float:
        """Return the offset at an instant of this host's clock."""
        starts = [segment[0].at_s for segment in self.segments]
        segment = self.segments[max(0, bisect.bisect(starts, at_s) - 1)]
        after = bisect.bisect([point.at_s for point in segment], at_s)
        if after in (0, len(segment)):
            return segment[min(after, len(segment) - 1)].offset_s
        left, right = segment[after - 1], segment[after]
        share = (at_s - left.at_s) / (right.at_s - left.at_s)
        return left.offset_s + share * (right.offset_s - left.offset_s)


def offset_point(event: FrameEvent) -> OffsetPoint | None:
    """Return what a frame says of the server's clock; None if the server did not tell enough."""
    if event.remote_s is None or event.server_received_s is None or event.server_queue_s is None:
        return None
    sent_s, answered_s = event.at_s - event.remote_s, event.at_s
    there_s = event.server_queue_s + (event.server_compute_s or 0.0) + (event.server_answer_s or 0.0)
    received_s, returned_s = event.server_received_s, event.server_received_s + there_s
    return OffsetPoint(
        at_s=(sent_s + answered_s) / 2,
        offset_s=((received_s - sent_s) + (returned_s - answered_s)) / 2,
        delay_s=max(0.0, (answered_s - sent_s) - there_s),
    )


def estimate_offset(events: Iterable[FrameEvent]) -> ClockOffset | None:
    """Return how far the server's clock is from this host's; None if no frame says it."""
    points = sorted(
        (point for point in map(offset_point, events) if point is not None), key=lambda point: point.at_s
    )
    segments: list[tuple[OffsetPoint, ...]] = []
    window: list[OffsetPoint] = []
    believed: list[OffsetPoint] = []
    for point in points:
        if window and point.contradicts(min(window, key=_delay)):
            segments.append((*believed, min(window, key=_delay)))
            window, believed = [], []
        elif window and point.at_s - window[0].at_s >= WINDOW_S:
            believed.append(min(window, key=_delay))
            window = []
        elif len(window) > 1:  # only the first, for the window's begin, and the best are needed
            window = [window[0], min(window[1:], key=_delay)]
        window.append(point)
    if window:
        segments.append((*believed, min(window, key=_delay)))
    return ClockOffset(segments=tuple(segments), frames=len(points)) if points else None


def _delay(point: OffsetPoint) -> float:
    return point.delay_s
