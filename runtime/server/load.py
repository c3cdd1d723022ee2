"""How busy a tail is: the share of the last second in which it computed. Pure: time is an argument."""

from __future__ import annotations

from collections import deque


class LoadMeter:
    """Sum busy intervals over a sliding window of `window_s` seconds."""

    def __init__(self, window_s: float = 1.0) -> None:
        """Make a meter that has seen nothing."""
        self.window_s = window_s
        self._busy: deque[tuple[float, float]] = deque()

    def add(self, start_s: float, end_s: float) -> None:
        """Record one busy interval; intervals come in order and do not overlap."""
        self._busy.append((start_s, end_s))

    def percent(self, now_s: float) -> int:
        """Return the busy share of the window that ends at `now_s`, 0 to 100."""
        opened_s = now_s - self.window_s
        while self._busy and self._busy[0][1] <= opened_s:
            self._busy.popleft()
        busy_s = sum(max(0.0, min(end, now_s) - max(start, opened_s)) for start, end in self._busy)
        return min(100, round(100 * busy_s / self.window_s))
