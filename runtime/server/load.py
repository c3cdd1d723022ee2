"""How busy a tail is: the share of the last second in which it computed. Pure: time is an argument."""

from __future__ import annotations

from collections import deque


class LoadMeter:
    """Sum busy intervals over a sliding window of `window_s` seconds."""

    def __init__(self, window_s: float = 1.0) -> None:
        """Make a meter that has seen nothing."""
        self.window_s = window_s
        self._busy: deque[tuple[float, float]] = deque()
        self._busy_s = 0.0

    def add(self, start_s: float, end_s: float) -> None:
        """Record one busy interval; intervals come in order and do not overlap."""
        self._busy.append((start_s, end_s))
        self._busy_s += end_s - start_s
        self._forget_before(end_s - self.window_s)

    def percent(self, now_s: float) -> int:
        """Return the busy share of the window that ends at `now_s` (after the last interval), 0 to 100."""
        opened_s = now_s - self.window_s
        self._forget_before(opened_s)
        # Only the oldest interval can lie partly outside; summing them all would cost more than a small tail.
        outside_s = max(0.0, opened_s - self._busy[0][0]) if self._busy else 0.0
        return min(100, max(0, round(100 * (self._busy_s - outside_s) / self.window_s)))

    def _forget_before(self, opened_s: float) -> None:
        while self._busy and self._busy[0][1] <= opened_s:
            start_s, end_s = self._busy.popleft()
            self._busy_s -= end_s - start_s
        if not self._busy:
            self._busy_s = 0.0  # what rounding has left
