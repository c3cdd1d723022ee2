"""How long things take lately: the median of the last few measurements.

A median, because a single slow run (a page fault, another process) says nothing of the next one, while a
device that slows down for good (heat, load) moves it within a few frames.
"""

from __future__ import annotations

import threading
from collections import deque

_WINDOW = 9


class RecentMedian:
    """The median of the last nine durations; `initial_s` until the first."""

    def __init__(self, initial_s: float = 0.0) -> None:
        self._values: deque[float] = deque(maxlen=_WINDOW)
        self._median = initial_s
        # The thread of the heads and that of the guard both run the early exit.
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """The median, in seconds."""
        return self._median

    def add(self, seconds: float) -> None:
        """Take one measurement into account."""
        with self._lock:
            self._values.append(seconds)
            self._median = _median(self._values)


class RecentMaximum:
    """The largest of the last 32 durations: what a guard that must not be late reckons with."""

    def __init__(self, initial_s: float) -> None:
        self._values: deque[float] = deque([initial_s], maxlen=32)
        self._maximum = initial_s

    @property
    def seconds(self) -> float:
        """The maximum, in seconds."""
        return self._maximum

    def add(self, seconds: float) -> None:
        """Take one measurement into account."""
        self._values.append(seconds)
        self._maximum = max(self._values)


def _median(values: deque[float]) -> float:
    """Return the median of a few values, five times as fast as `statistics.median`."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
