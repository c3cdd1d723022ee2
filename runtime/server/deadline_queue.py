"""Which waiting frames the tail computes next.

Pure: no clock, no thread. Earliest deadline first, because a frame that is late is worth nothing; frames
without a deadline come last, in order of arrival. The queue is bounded, so a server that cannot keep up says
so at once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Place(Generic[T]):
    """A frame's place in the queue: what waits there, until when (inf: for ever), and how many rows it is."""

    deadline_s: float
    arrival: int
    rows: int
    item: T | None

    def __lt__(self, other: Place[T]) -> bool:
        """Earlier deadlines come first, and of equal ones what came first."""
        if self.deadline_s != other.deadline_s:
            return self.deadline_s < other.deadline_s
        return self.arrival < other.arrival


class DeadlineQueue(Generic[T]):
    """A bounded queue of items of one or more rows.

    Rows are taken in two steps, `admit` and `push`, so that a frame holds its place while it is being
    decoded. A row counts against the capacity until `take`, `expire` or `remove` removes it, or `release`
    gives it back.
    """

    def __init__(self, capacity_rows: int) -> None:
        """Make an empty queue of at most `capacity_rows` rows."""
        self.capacity_rows = capacity_rows
        self.held_rows = 0
        self._arrivals = 0
        self._present = 0
        self._heap: list[Place[T]] = []

    def __len__(self) -> int:
        return self._present

    @property
    def first_deadline_s(self) -> float:
        """The earliest deadline; inf if nobody who waits has one."""
        first = self._first()
        return math.inf if first is None else first.deadline_s

    def admit(self, rows: int) -> bool:
        """Hold a place for `rows` rows; False if there is none."""
        if self.held_rows + rows > self.capacity_rows:
            return False
        self.held_rows += rows
        return True

    def release(self, rows: int) -> None:
        """Give back a place that `admit` held and no `push` will use."""
        self.held_rows -= rows

    def push(self, item: T, *, rows: int, deadline_s: float | None) -> Place[T]:
        """Put in an item whose rows were admitted; `deadline_s` None = it can wait for ever."""
        self._arrivals += 1
        place = Place(math.inf if deadline_s is None else deadline_s, self._arrivals, rows, item)
        heapq.heappush(self._heap, place)
        self._present += 1
        return place

    def remove(self, place: Place[T]) -> bool:
        """Remove the item of `place`; False if it is no longer there."""
        if place.item is None:
            return False
        self._leave(place)
        return True

    def expire(self, now_s: float) -> list[T]:
        """Remove and return the items whose deadline is not after `now_s`."""
        expired: list[T] = []
        while (first := self._first()) is not None and first.deadline_s <= now_s:
            expired.append(self._leave(heapq.heappop(self._heap)))
        return expired

    def peek(self, max_rows: int) -> list[Place[T]]:
        """Return the places that `take` would empty, in their order."""
        places: list[Place[T]] = []
        room = max_rows
        while (first := self._first()) is not None and first.rows <= room:
            places.append(heapq.heappop(self._heap))
            room -= first.rows
        for place in places:
            heapq.heappush(self._heap, place)
        return places

    def take(self, max_rows: int, *, wanted: Callable[[T], bool] = lambda item: True) -> list[T]:
        """Remove and return the next batch: items in order while they fit into `max_rows` rows.

        Items that are no longer `wanted` are removed and left out. An item is never split; call `expire`
        first.
        """
        batch: list[T] = []
        room = max_rows
        while (first := self._first()) is not None and first.rows <= room:
            item = self._leave(heapq.heappop(self._heap))
            if wanted(item):
                batch.append(item)
                room -= first.rows
        return batch

    def rows_before(self, deadline_s: float) -> int:
        """Return how many rows wait that would be computed before a newcomer with `deadline_s`."""
        return sum(place.rows for place in self._waiting() if place.deadline_s <= deadline_s)

    def _waiting(self) -> Iterable[Place[T]]:
        return (place for place in self._heap if place.item is not None)

    def _first(self) -> Place[T] | None:
        while self._heap and self._heap[0].item is None:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _leave(self, place: Place[T]) -> T:
        item, place.item = place.item, None
        assert item is not None
        self.held_rows -= place.rows
        self._present -= 1
        return item
