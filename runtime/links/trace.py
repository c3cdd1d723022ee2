"""The rate of a link over time: piecewise constant, repeating for ever.

Pure arithmetic. Bytes are integrated exactly, so a frame that spans a change of rate, or an outage, ends at
the right instant however coarsely a caller steps through time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from isthmus.runtime.errors import InputError


class RateTrace:
    """A rate that is constant over segments; after the last segment the first one follows again.

    Attributes:
        name: What the trace was loaded from.
        duration_s: Seconds until it repeats.
        bytes_per_loop: Bytes that one pass can carry; 0 for a link that never carries anything.
    """

    def __init__(self, segments: Iterable[tuple[float, float]], *, name: str = "trace") -> None:
        """Build the trace from (seconds, bytes per second) pairs; neighbours of equal rate are merged.

        Raises:
            InputError: If a duration is not positive, a rate is negative or there is no segment.
        """
        self.name = name
        self._starts_s: list[float] = []
        self._rates: list[float] = []
        self._cumulative: list[float] = [0.0]  # bytes carried up to the start of each segment, and at the end
        at_s = 0.0
        for seconds, rate in segments:
            if not (math.isfinite(seconds) and seconds > 0):
                raise InputError(f"{name}: a segment lasts {seconds} s; give a positive duration")
            if not (math.isfinite(rate) and rate >= 0):
                raise InputError(f"{name}: rate {rate} bytes/s; give a finite rate of at least 0")
            if self._rates and self._rates[-1] == rate:
                self._cumulative[-1] += seconds * rate
            else:
                self._starts_s.append(at_s)
                self._rates.append(rate)
                self._cumulative.append(self._cumulative[-1] + seconds * rate)
            at_s += seconds
        if not self._rates:
            raise InputError(f"{name}: holds no rate; give a trace with at least one line")
        self.duration_s = at_s
        self.bytes_per_loop = self._cumulative[-1]

    @property
    def mean_rate(self) -> float:
        """Bytes per second, averaged over one pass."""
        return self.bytes_per_loop / self.duration_s

    @property
    def peak_rate(self) -> float:
        """The highest rate, in bytes per second."""
        return max(self._rates)

    def segments(self) -> list[tuple[float, float]]:
        """Return (start in seconds, bytes per second) of every segment of one pass."""
        return list(zip(self._starts_s, self._rates, strict=True))

    def rate_at(self, t_s: float) -> float:
        """Return the bytes per second at `t_s` (seconds ≥ 0 since the start of the trace)."""
        return self._rates[self._index(t_s % self.duration_s)]

    def next_change(self, t_s: float) -> float:
        """Return the first instant after `t_s` at which the rate changes, or infinity if it never does."""
        if len(self._rates) == 1:
            return math.inf
        loops, within_s = divmod(t_s, self.duration_s)
        index = self._index(within_s)
        if index + 1 < len(self._starts_s):
            return loops * self.duration_s + self._starts_s[index + 1]
        end_s = (loops + 1) * self.duration_s
        # The last segment runs on into the first one where both have the same rate.
        return end_s if self._rates[0] != self._rates[-1] else end_s + self._starts_s[1]

    def bytes_between(self, t0_s: float, t1_s: float) -> float:
        """Return the bytes the link can carry from `t0_s` to `t1_s` (both seconds ≥ 0, `t0_s` ≤ `t1_s`)."""
        return self._carried(t1_s) - self._carried(t0_s)

    def finish(self, t0_s: float, nbytes: float) -> float:
        """Return when `nbytes` that start at `t0_s` have crossed; infinity on a dead link."""
        if nbytes <= 0:
            return t0_s
        if self.bytes_per_loop <= 0:
            return math.inf
        loops, within_s = divmod(t0_s, self.duration_s)
        target = self._carried(within_s) + nbytes
        extra, target = divmod(target, self.bytes_per_loop)
        if target == 0:  # ends exactly with a pass: at its last byte, not after the zeros that may follow it
            extra, target = extra - 1, self.bytes_per_loop
        # The first boundary by which `target` bytes have been carried: never inside a stretch of zeros.
        index = bisect_left(self._cumulative, target) - 1
        within_end_s = self._starts_s[index] + (target - self._cumulative[index]) / self._rates[index]
        return max(t0_s, (loops + extra) * self.duration_s + within_end_s)

    def _index(self, within_s: float) -> int:
        return bisect_right(self._starts_s, within_s) - 1

    def _carried(self, t_s: float) -> float:
        loops, within_s = divmod(t_s, self.duration_s)
        index = self._index(within_s)
        in_segment = (within_s - self._starts_s[index]) * self._rates[index]
        return loops * self.bytes_per_loop + self._cumulative[index] + in_segment
