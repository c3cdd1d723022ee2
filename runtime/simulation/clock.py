"""A clock that stands still until something is due: events in the order of their instants."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any


class VirtualClock:
    """Runs actions at their instants; those of one instant in the order in which they were asked for.

    Attributes:
        now_s: The instant of the action that runs.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self._asked = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, when_s: float, action: Callable[..., None], *args: Any) -> None:
        """Run `action(*args)` at `when_s`, or next if that has passed; at infinity, never."""
        if when_s < math.inf:
            self._asked += 1
            heapq.heappush(self._due, (max(when_s, self.now_s), self._asked, action, args))

    def run(self, until_s: float) -> None:
        """Run what is due up to and including `until_s`, and stop there."""
        due = self._due
        while due and due[0][0] <= until_s:
            self.now_s, _, action, args = heapq.heappop(due)
            action(*args)
        self.now_s = until_s
