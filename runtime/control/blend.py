"""The rate that the next frame will meet: several memories, each trusted as far as it was right lately.

Pure arithmetic. How far back evidence is worth anything differs from link to link and from minute to minute,
so no window is chosen: sums of bytes and of busy seconds fade at several speeds, and the logarithms of their
rates are averaged, weighted by how little each has erred on the last frames.
"""

from __future__ import annotations

import math

# Seconds in which evidence fades to 1/e: the last frames, about a second, and what is usual here. Chosen on
# the tuning traces of `isthmus bench adaptation`; between (0.05, …) and (0.2, …, 3) hardly anything changes.
MEMORIES_S = (0.15, 0.5, 2.0)
# How fast old errors fade, per frame, what no memory can do better than, and the largest that counts.
_ERROR_DECAY = 0.9
_LEAST_ERROR = 1e-3
_LARGEST_ERROR = 4.0
_FIRST_ERROR = 0.1


class RateBlend:
    """Bytes per second by several memories.

    Attributes:
        rate: The blend; None before any delivery.
        rates: The same by each memory; empty before any delivery.
    """

    __slots__ = ("_at_s", "_bytes", "_errors", "_seconds", "rate", "rates")

    def __init__(self) -> None:
        """Start without a delivery."""
        self._errors = [_FIRST_ERROR] * len(MEMORIES_S)
        self.forget()

    def forget(self) -> None:
        """Drop all evidence of the rate, but not which memory has been right."""
        self._bytes = [0.0] * len(MEMORIES_S)
        self._seconds = [0.0] * len(MEMORIES_S)
        self._at_s = -math.inf
        self.rate: float | None = None
        self.rates: tuple[float, ...] = ()

    def score(self, rates: tuple[float, ...], observed: float) -> None:
        """Note that the memories expected `rates` of a frame whose rate was `observed`."""
        errors = self._errors
        for index, rate in enumerate(rates):
            error = math.log(observed / rate)
            squared = min(_LARGEST_ERROR, error * error)
            errors[index] += (1 - _ERROR_DECAY) * (squared - errors[index])

    def add(self, nbytes: float, busy_s: float, now_s: float) -> None:
        """Count `nbytes` that kept the link busy for `busy_s`, known at `now_s`."""
        rates, weighted, total = [], 0.0, 0.0
        elapsed_s = max(0.0, now_s - self._at_s)
        for index, memory_s in enumerate(MEMORIES_S):
            left = math.exp(-elapsed_s / memory_s)
            self._bytes[index] = self._bytes[index] * left + nbytes
            self._seconds[index] = self._seconds[index] * left + busy_s
            rate = self._bytes[index] / self._seconds[index]
            rates.append(rate)
            # The inverse of the squared error's square: of two memories the better one nearly alone counts.
            weight = (self._errors[index] + _LEAST_ERROR) ** -2
            weighted += weight * math.log(rate)
            total += weight
        self._at_s = now_s
        self.rates = tuple(rates)
        self.rate = math.exp(weighted / total)
