"""How long each frame kept the link busy, told from when it was sent and when it arrived.

Pure arithmetic. Both instants may be on clocks with any offset between them, so what a frame takes beyond its
transmission (propagation, and that offset) is unknown. It is not the smallest transit seen: that still holds
a transmission, and the rate taken from the rest would be far too high. Two neighbouring frames tell it:

    one that found the link idle:    arrival − sent                 = offset + bytes / rate
    one that waited for the other:   arrival − the other's arrival  =          bytes / rate

Two equations with two unknowns, unless both found the link idle and are of one size. The median over the last
pairs withstands a rate that changes within a pair (the idea of Theil and Sen's slope). Until there is a pair
the smallest transit has to do: it overrates the link, a policy then tries larger payloads, and pairs arise.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

# What a clock and a scheduler cannot resolve; keeps every rate finite.
SHORTEST_BUSY_S = 5e-4
# The smallest transit may rise by this much per second, so that a lengthened path is noticed.
_FLOOR_DRIFT = 5e-3
_PAIRS = 21
# Sizes must differ by this fraction of the larger, or noise is amplified more than five times.
_LEVER = 0.2


class Arrivals:
    """The arrivals of one connection on one clock."""

    def __init__(self) -> None:
        """Start without an arrival."""
        self._floor_s: float | None = None
        self._floor_at_s = 0.0
        self._last_s = -math.inf
        self._previous: tuple[float, bool, int] | None = None
        self._offsets: deque[float] = deque(maxlen=_PAIRS)
        self._middle_s = math.inf

    @property
    def offset_s(self) -> float | None:
        """Seconds from sending to arrival of an empty frame on an idle link; None before any arrival."""
        return None if self._floor_s is None else min(self._floor_s, self._middle_s)

    @property
    def resolved(self) -> bool:
        """Whether some pair has told travel from transmission; until then every busy time is too short."""
        return self._middle_s < math.inf

    def add(self, sent_s: float, arrival_s: float, nbytes: int) -> tuple[float, bool] | None:
        """Take note of `nbytes` sent at `sent_s` (our clock) that had arrived by `arrival_s` (its clock).

        Returns:
            Seconds the link was busy with them, and whether they waited for the frame before; None for the
            first arrival, of which nothing can be told.
        """
        first = self._floor_s is None
        self._lower_floor(arrival_s - sent_s, sent_s)
        start_s = sent_s + (self.offset_s or 0.0)
        waited = self._last_s > start_s
        self._pair(arrival_s - (self._last_s if waited else sent_s), waited, nbytes)
        busy_s = max(SHORTEST_BUSY_S, arrival_s - max(start_s, self._last_s))
        self._last_s = max(self._last_s, arrival_s)
        return None if first else (busy_s, waited)

    def _lower_floor(self, transit_s: float, at_s: float) -> None:
        if self._floor_s is not None:
            drifted_s = self._floor_s + _FLOOR_DRIFT * max(0.0, at_s - self._floor_at_s)
            transit_s = min(transit_s, drifted_s)
        self._floor_s, self._floor_at_s = transit_s, at_s

    def _pair(self, seconds: float, waited: bool, nbytes: int) -> None:
        if self._previous is not None:
            previous_s, previous_waited, previous_bytes = self._previous
            determinant = nbytes * (not previous_waited) - previous_bytes * (not waited)
            if abs(determinant) > _LEVER * max(nbytes, previous_bytes):
                offset_s = (previous_s * nbytes - seconds * previous_bytes) / determinant
                # Travel takes no longer than the quickest frame did with its transmission. A pair that
                # straddles an outage says otherwise by far; it still counts as one that was too long, and the
                # median bears it, but a mean of the middle two would not.
                assert self._floor_s is not None, "a frame has arrived"
                self._offsets.append(min(offset_s, self._floor_s))
                self._middle_s = median(self._offsets)
        self._previous = (seconds, waited, nbytes)
