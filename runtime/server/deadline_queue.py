"""Which waiting frames the tail computes next.

Pure: no clock, no thread. Earliest deadline first, because a frame that is late is worth nothing; frames
without a deadline come last, in order of arrival. The queue is bounded, so a server that cannot keep up says
so at once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class DeadlineQueue(Generic[T]):
    """A bounded queue of items of one or more rows.

    Rows are taken in two steps, `admit` and `push`, so that a frame holds its place while it is being
    decoded. A row counts against the capacity until `take` or `expire` removes it, or `release` gives it
    back.
    """

    def __init__(self, capacity_rows: int) -> None:
        """Make an empty queue of at most `capacity_rows` rows."""
        self.capacity_rows = capacity_rows
        self.held_rows = 0
        self._arrivals = 0
        self._heap: list[tuple[float, int, int, T]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def admit(self, rows: int) -> bool:
        """Hold a place for `rows` rows; False if there is none."""
        if self.held_rows + rows > self.capacity_rows:
            return False
        self.held_rows += rows
        return True

    def release(self, rows: int) -> None:
        """Give back a place that `admit` held and no `push` will use."""
        self.held_rows -= rows

    def push(self, item: T, *, rows: int, deadline_s: float | None) -> None:
        """Put in an item whose rows were admitted; `deadline_s` None = it can wait for ever."""
        self._arrivals += 1
        heapq.heappush(
            self._heap, (math.inf if deadline_s is None else deadline_s, self._arrivals, rows, item)
        )

    def expire(self, now_s: float) -> list[T]:
        """Remove and return the items whose deadline is not after `now_s`."""
        expired = []
        while self._heap and self._heap[0][0] <= now_s:
            expired.append(self._pop())
        return expired

    def take(self, max_rows: int, *, wanted: Callable[[T], bool]) -> list[T]:
        """Remove and return the next batch: items in order while they fit into `max_rows` rows.

        Items that are no longer `wanted` are removed and left out. An item is never split; call `expire`
        first.
        """
        batch: list[T] = []
        room = max_rows
        while self._heap and self._heap[0][2] <= room:
            rows = self._heap[0][2]
            item = self._pop()
            if wanted(item):
                batch.append(item)
                room -= rows
        return batch

    def _pop(self) -> T:
        _, _, rows, item = heapq.heappop(self._heap)
        self.held_rows -= rows
        return item
