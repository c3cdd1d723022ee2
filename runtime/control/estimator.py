"""What the uplink can carry, learned from the frames that crossed it.

Pure: every method takes the time (monotonic seconds). The link is one queue, first in, first out, that drains
at an unknown and changing rate; bytes over the time they kept it busy (see `arrivals`) is one sample of it.
Where the server tells when it received a frame, its clock measures that time, free of the way back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from isthmus.runtime.control.arrivals import Arrivals
from isthmus.runtime.control.types import LinkEstimate

# Busy times below this are scheduling noise, not transmission: such a sample says "at least this rate".
_RESOLUTION_S = 3e-3
# A frame that took this long, at an eighth of the believed rate, sat out an outage.
_STALL_S = 0.3
_STALL_FACTOR = 8.0
# The oldest frame overdue by this much: the link is dead until something arrives.
OUTAGE_S = 1.0
# Errors beyond these do not help to predict: one far above the belief is a short busy time badly measured,
# and to hope for its repetition fills the queue.
_LOWEST_RESIDUAL, _HIGHEST_RESIDUAL = -1.5, 0.7


# What one message with a payload costs beyond it: about 70 bytes of names, id and budget, and 43 of gRPC and
# HTTP/2 (prefix, frame header, the pings and window updates that answers call for). A test measures it.
DEFAULT_OVERHEAD_BYTES = 112


@dataclass(slots=True)
class _Sent:
    sent_s: float
    nbytes: int
    believed_rate: float | None


class LinkEstimator:
    """Keeps the evidence and answers what it says at an instant.

    The rate is the last deliveries' bytes over their busy time; a frame that is overdue lowers it at once,
    to 0 after `OUTAGE_S`. A delivery that ends an outage tells when, not how fast: the rate is unknown again.
    """

    def __init__(
        self, *, overhead_bytes: int = DEFAULT_OVERHEAD_BYTES, window: int = 6, residuals: int = 60
    ) -> None:
        """Start without evidence.

        Args:
            overhead_bytes: What the wire adds to each payload; add the IP and TCP headers on a real link.
            window: Deliveries that make the rate.
            residuals: Prediction errors kept.
        """
        self._overhead_bytes = overhead_bytes
        self._samples: deque[tuple[int, float]] = deque(maxlen=window)
        self._residuals: deque[float] = deque(maxlen=residuals)
        self._connected = False
        self._waiting: dict[int, _Sent] = {}
        self._last_sent_s: float | None = None
        self._forget_path()

    def on_connected(self, now_s: float) -> None:
        """Note that a stream to the server is open: a new path, of which nothing is known but past errors."""
        self._connected = True
        self._waiting.clear()
        self._forget_path()

    def on_disconnected(self, now_s: float) -> None:
        """Note that the stream is gone, and with it every frame in flight."""
        self._connected = False
        self._waiting.clear()

    def on_sent(self, frame: int, nbytes: int, now_s: float) -> None:
        """Note that `frame` was handed to the connection, `nbytes` of payload."""
        believed = self._rate(now_s)
        self._waiting[frame] = _Sent(now_s, max(1, nbytes + self._overhead_bytes), believed)
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
        crossed = self._take_crossed(frame)
        nbytes = sum(sent.nbytes for sent in crossed)
        sent_s = crossed[0].sent_s
        self._server_s, self._last_answer_s = server_s, now_s
        busy = self._at_answer.add(sent_s, now_s - server_s, nbytes)
        if server_received_ns is not None:
            busy = self._at_server.add(sent_s, server_received_ns * 1e-9, nbytes) or busy
        # Of the first frame nothing separates transmission from travel: take it all as transmission.
        busy_s, waited = busy or (max(_RESOLUTION_S, now_s - server_s - sent_s), False)
        self._learn(nbytes, busy_s, waited, last.believed_rate)

    def estimate(self, now_s: float) -> LinkEstimate:
        """Return what is believed at `now_s`."""
        rate = self._rate(now_s) if self._connected else 0.0
        unanswered_bytes = sum(sent.nbytes for sent in self._waiting.values())
        rtt_s = self._rtt_s()
        in_pipe_bytes = (rate or 0.0) * (rtt_s or 0.0)
        oldest = next(iter(self._waiting.values()), None)
        return LinkEstimate(
            connected=self._connected,
            rate_bytes_per_s=rate,
            rtt_s=rtt_s,
            backlog_bytes=max(0, round(unanswered_bytes - in_pipe_bytes)),
            in_flight=len(self._waiting),
            oldest_age_s=None if oldest is None else max(0.0, now_s - oldest.sent_s),
            residuals=tuple(self._residuals),
            idle_s=None if self._last_sent_s is None else max(0.0, now_s - self._last_sent_s),
            overhead_bytes=self._overhead_bytes,
        )

    def _forget_path(self) -> None:
        self._samples.clear()
        self._at_server = Arrivals()
        self._at_answer = Arrivals()
        self._last_answer_s = -math.inf
        self._server_s = 0.0

    def _take_crossed(self, frame: int) -> list[_Sent]:
        """Remove `frame` and all sent before it: first in, first out, so they have crossed as well."""
        crossed = []
        for number in list(self._waiting):
            crossed.append(self._waiting.pop(number))
            if number == frame:
                break
        return crossed

    def _learn(self, nbytes: int, busy_s: float, waited: bool, believed_rate: float | None) -> None:
        rate = self._base_rate()
        if rate is not None and not waited and max(busy_s, nbytes / rate) < _RESOLUTION_S:
            busy_s = min(busy_s, nbytes / rate)
        if believed_rate:
            error = math.log(nbytes / busy_s / believed_rate)
            self._residuals.append(min(_HIGHEST_RESIDUAL, max(_LOWEST_RESIDUAL, error)))
        if rate is not None and busy_s > _STALL_S and nbytes / busy_s * _STALL_FACTOR < rate:
            self._samples.clear()
        else:
            self._samples.append((nbytes, busy_s))

    def _rtt_s(self) -> float | None:
        offset_s = self._at_answer.offset_s
        return None if offset_s is None else max(0.0, offset_s)

    def _base_rate(self) -> float | None:
        if not self._samples:
            return None
        return sum(nbytes for nbytes, _ in self._samples) / sum(busy_s for _, busy_s in self._samples)

    def _rate(self, now_s: float) -> float | None:
        """Return the rate, lowered as far as the oldest frame's silence demands."""
        rate = self._base_rate()
        oldest = next(iter(self._waiting.values()), None)
        if oldest is None:
            return rate
        expected_s = oldest.sent_s + (self._rtt_s() or 0.0) + self._server_s
        # The link cannot have begun with it before it was done with the frame before.
        overdue_s = now_s - max(expected_s, self._last_answer_s)
        if overdue_s > OUTAGE_S:
            return 0.0
        if rate is None or overdue_s <= 0:
            return rate
        return min(rate, oldest.nbytes / overdue_s)
