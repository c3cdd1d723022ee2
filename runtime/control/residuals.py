"""How wrong the believed rate has been: the last errors, kept in order.

A policy asks how many of them are at least so large, for every operating point and frame: in a sorted list
that is one bisection, and a new error costs as little.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

# Errors beyond these do not help to predict: one far above the belief is a short busy time badly measured,
# and to hope for its repetition fills the queue.
LOWEST, HIGHEST = -1.5, 0.7


class Residuals:
    """The last `size` errors, each ln(observed / believed rate)."""

    __slots__ = ("_history", "_size", "_sorted", "ordered")

    def __init__(self, size: int) -> None:
        """Keep the last `size`."""
        self._size = size
        self._history: deque[float] = deque()
        self._sorted: list[float] = []
        self.ordered: tuple[float, ...] = ()

    def add(self, error: float) -> None:
        """Count one more, cut to [`LOWEST`, `HIGHEST`]."""
        error = min(HIGHEST, max(LOWEST, error))
        if len(self._history) == self._size:
            del self._sorted[bisect_left(self._sorted, self._history.popleft())]
        self._history.append(error)
        insort(self._sorted, error)
        self.ordered = tuple(self._sorted)
