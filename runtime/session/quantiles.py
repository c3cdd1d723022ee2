"""Quantiles of a stream of durations in bounded memory.

An agent runs for weeks at 30 frames a second, so it cannot keep its latencies; it counts them in buckets
whose edges grow by 1 %, and a quantile is then exact to half a percent.
"""

from __future__ import annotations

import math
from collections import Counter

_GROWTH = math.log(1.01)
# Below this nothing is told apart: a microsecond is finer than any clock use here.
_FLOOR_S = 1e-6


class Quantiles:
    """Counts durations in logarithmic buckets; any quantile is right to ±0.5 %."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: Counter[int] = Counter()

    def add(self, value_s: float) -> None:
        """Count one duration in seconds."""
        self.count += 1
        self._buckets[int(math.log(max(value_s, _FLOOR_S) / _FLOOR_S) / _GROWTH)] += 1

    def at(self, share: float) -> float | None:
        """Return the seconds that a `share` of the values does not exceed (nearest rank), or None."""
        if self.count == 0:
            return None
        rank = max(1, math.ceil(share * self.count))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return _FLOOR_S * math.exp((bucket + 0.5) * _GROWTH)
        raise AssertionError("the counts of the buckets add up to count")
