"""What the uplink can carry, learned from the frames that crossed it.

Pure: every method takes the time (monotonic seconds). The link is one queue, first in, first out, that drains
at an unknown and changing rate; bytes over the time they kept it busy (see `arrivals`) is one sample of it.
Where the server tells when it received a frame, its clock measures that time, free of the way back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from isthmus.runtime.control.arrivals import SHORTEST_BUSY_S, Arrivals
from isthmus.runtime.control.blend import RateBlend
from isthmus.runtime.control.residuals import Residuals
from isthmus.runtime.control.types import LinkEstimate

# Busy times below this are scheduling noise, not transmission: such a sample says "at least this rate".
_RESOLUTION_S = 3e-3
# A frame that took this long, at an eighth of the believed rate, sat out an outage.
_STALL_S = 0.3
_STALL_FACTOR = 8.0
# The oldest frame overdue by this much: the link is dead until something arrives.
OUTAGE_S = 1.0
# While nothing tells travel from transmission, a frame proves its bytes over the whole round trip; the link
# is believed to be up to this much faster, so that a policy tries larger frames, and those tell.
_HOPE = 4.0
_SAMPLES = 8


# What one message with a payload costs beyond it: 14 bytes of id, budget and lengths, about 40 of gRPC and
# HTTP/2 (prefix, frame header, the pings and window updates that answers call for). A test measures it.
DEFAULT_OVERHEAD_BYTES = 54


@dataclass(slots=True)
class _Sent:
    """A frame in flight, and what was believed when it left.

    Attributes:
        ahead: Bytes that were in front of it on the link.
        since_s: When the link began with those, or with the frame itself if there were none.
        rate: The believed rate; None before any evidence.
        rates: The same by each memory.
    """

    sent_s: float
    nbytes: int
    ahead: int
    since_s: float
    rate: float | None
    rates: tuple[float, ...]


class LinkEstimator:
    """Keeps the evidence and answers what it says at an instant.

    The rate is a blend of several memories of bytes over busy time (`blend`); a frame that is overdue lowers
    it at once, to 0 after `OUTAGE_S`. A delivery that ends an outage tells when, not how fast: what was
    believed before stands again, and two answers later the rate is right whatever the link has become.
    """

    def __init__(self, *, overhead_bytes: int = DEFAULT_OVERHEAD_BYTES, residuals: int = 400) -> None:
        """Start without evidence.

        Args:
            overhead_bytes: What the wire adds to each payload; add the IP and TCP headers on a real link.
            residuals: Prediction errors kept. More of them predict better, up to minutes of frames: 400 did
                best on the tuning traces of `isthmus bench adaptation`, ahead of 30, 60, 100 and 200.
        """
        self._overhead_bytes = overhead_bytes
        self._blend = RateBlend()
        self._residuals = Residuals(residuals)
        self._connected = False
        self._waiting: dict[int, _Sent] = {}
        self._waiting_bytes = 0
        self._last_sent_s: float | None = None
        self._left_s = -math.inf
        self._forget_path()

    def on_connected(self, now_s: float, *, overhead_bytes: int | None = None) -> None:
        """Note that a stream to the server is open: a new path, of which nothing is known but past errors.

        Args:
            now_s: The time.
            overhead_bytes: What the wire adds to each payload on it; None: as before.
        """
        self._connected = True
        self._overhead_bytes = self._overhead_bytes if overhead_bytes is None else overhead_bytes
        self._forget_flight()
        self._forget_path()

    def on_disconnected(self, now_s: float) -> None:
        """Note that the stream is gone, and with it every frame in flight."""
        self._connected = False
        self._forget_flight()

    def on_sent(self, frame: int, nbytes: int, now_s: float) -> None:
        """Note that `frame` was handed to the connection, `nbytes` of payload."""
        if frame in self._waiting:
            self._waiting_bytes -= self._waiting.pop(frame).nbytes
        wire_bytes = max(1, nbytes + self._overhead_bytes)
        since_s = self._serving_since_s() if self._waiting else now_s
        blend = self._blend
        self._waiting[frame] = _Sent(now_s, wire_bytes, self._waiting_bytes, since_s, blend.rate, blend.rates)
        self._waiting_bytes += wire_bytes
        self._last_sent_s = now_s

    def on_delivered(
        self, frame: int, now_s: float, *, server_received_ns: int | None, server_s: float
    ) -> None:
        """Note the answer to `frame`; an unknown or repeated one changes nothing.

        Args:
            frame: As given to `on_sent`.
            now_s: When the answer came.
            server_received_ns: When the server received the frame, on its own monotonic clock.
            server_s: Seconds the server held it (queue and compute).
        """
        last = self._waiting.get(frame)
        if last is None:
            return
        first, nbytes = self._take_crossed(frame)
        self._server_s, self._last_answer_s = server_s, now_s
        transit_s = now_s - server_s - first.sent_s
        clock, arrival_s = self._at_answer, now_s - server_s
        busy = clock.add(first.sent_s, arrival_s, nbytes)
        if server_received_ns is not None:
            clock, arrival_s = self._at_server, server_received_ns * 1e-9
            busy = clock.add(first.sent_s, arrival_s, nbytes) or busy
        self._left_s = max(self._left_s, min(now_s, arrival_s - (clock.offset_s or 0.0)))
        # Of the first frame nothing separates transmission from travel: take it all as transmission.
        busy_s, waited = busy or (max(_RESOLUTION_S, transit_s), False)
        if busy is not None and not clock.resolved and not waited:
            busy_s = max(busy_s, transit_s / _HOPE)
        self._learn(last, nbytes, busy_s, waited, now_s)

    def estimate(self, now_s: float, *, queued_frames: int = 0, queued_bytes: int = 0) -> LinkEstimate:
        """Return what is believed at `now_s`.

        Args:
            now_s: Monotonic seconds.
            queued_frames: Frames that wait on the device because the connection takes no more for now.
            queued_bytes: Their payloads.
        """
        queued_bytes += queued_frames * self._overhead_bytes
        rtt_s = self._rtt_s()
        rate: float | None = 0.0
        steady, ceiling, age_s, serving_s = self._blend.rate, math.inf, None, 0.0
        if self._connected:
            rate = steady
        if self._waiting:
            oldest = next(iter(self._waiting.values()))
            age_s = max(0.0, now_s - oldest.sent_s)
            serving_s = now_s - self._serving_since_s()
            overdue_s = self._overdue_s(oldest, rtt_s or 0.0, now_s)
            if overdue_s > 0:
                ceiling = oldest.nbytes / overdue_s
                rate = 0.0 if overdue_s > OUTAGE_S else None if rate is None else min(rate, ceiling)
        in_pipe_bytes = (rate or 0.0) * (rtt_s or 0.0)
        return LinkEstimate(
            connected=self._connected,
            rate_bytes_per_s=rate,
            rtt_s=rtt_s,
            backlog_bytes=queued_bytes + max(0, round(self._waiting_bytes - in_pipe_bytes)),
            in_flight=len(self._waiting) + queued_frames,
            oldest_age_s=age_s,
            residuals=self._residuals.ordered,
            idle_s=None if self._last_sent_s is None else max(0.0, now_s - self._last_sent_s),
            overhead_bytes=self._overhead_bytes,
            steady_rate_bytes_per_s=steady,
            ceiling_bytes_per_s=ceiling,
            unanswered_bytes=queued_bytes + self._waiting_bytes,
            serving_s=serving_s,
            delivered=self._delivered,
            samples=tuple(self._samples),
        )

    def _forget_flight(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0

    def _forget_path(self) -> None:
        self._blend.forget()
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self._delivered = 0
        self._stalled = False
        self._at_server = Arrivals()
        self._at_answer = Arrivals()
        self._left_s = -math.inf
        self._last_answer_s = -math.inf
        self._server_s = 0.0

    def _take_crossed(self, frame: int) -> tuple[_Sent, int]:
        """Remove `frame` and all sent before it: first in, first out, so they have crossed as well.

        Returns:
            The first of them, and the bytes of all.
        """
        first = next(iter(self._waiting.values()))
        nbytes = 0
        while self._waiting:
            number = next(iter(self._waiting))
            nbytes += self._waiting.pop(number).nbytes
            if number == frame:
                break
        self._waiting_bytes -= nbytes
        return first, nbytes

    def _serving_since_s(self) -> float:
        """Return when the link began with the oldest frame: it was sent, and the one before had left."""
        return max(self._left_s, next(iter(self._waiting.values())).sent_s)

    def _learn(self, last: _Sent, nbytes: int, busy_s: float, waited: bool, now_s: float) -> None:
        rate = self._blend.rate
        if rate is not None and not waited and max(busy_s, nbytes / rate) < _RESOLUTION_S:
            busy_s = min(busy_s, nbytes / rate)
        observed = nbytes / busy_s
        if last.rate is not None:
            self._blend.score(last.rates, observed)
            # What a policy predicts is when a frame has left, behind all that waits before it. The rate over
            # that whole time errs less than a single frame's, but neighbours share it: half of each.
            drained = (last.ahead + last.nbytes) / max(SHORTEST_BUSY_S, self._left_s - last.since_s)
            self._residuals.add(0.5 * (math.log(observed / last.rate) + math.log(drained / last.rate)))
        if rate is not None and busy_s > _STALL_S and observed * _STALL_FACTOR < rate:
            if not self._stalled:
                self._stalled = True
                return
            self._blend.forget()  # twice in a row is no outage: the link has become that slow
        self._stalled = False
        self._delivered += 1
        self._samples.append(observed)
        self._blend.add(nbytes, busy_s, now_s)

    def _rtt_s(self) -> float | None:
        offset_s = self._at_answer.offset_s
        return None if offset_s is None else max(0.0, offset_s)

    def _overdue_s(self, oldest: _Sent, rtt_s: float, now_s: float) -> float:
        """Return how long the link has certainly been at the oldest frame, as far as an answer would show."""
        expected_s = oldest.sent_s + rtt_s + self._server_s
        # The link cannot have begun with it before it was done with the frame before.
        return now_s - max(expected_s, self._last_answer_s)
