"""The minimum cut between two ends, by push and relabel.

First in, first out, with exact distances recomputed as work goes on (Goldberg and Tarjan 1988; Cherkassky and
Goldberg 1997). Only the cut is wanted: flow that cannot reach the far end is left where it is. It takes any
numbers that subtract and compare; every push empties an arc or a vertex exactly, so that floats cannot stall
it, and exact numbers give an exact cut.
"""

from __future__ import annotations

from collections import deque


class CutNetwork:
    """Vertices between a source and a sink, which stay implicit.

    Attributes:
        supply: Capacity from the source to each vertex.
        demand: Capacity from each vertex to the sink.
    """

    def __init__(self) -> None:
        self.supply: list[float] = []
        self.demand: list[float] = []
        self._arcs: list[list[int]] = []
        self._head: list[int] = []
        self._capacity: list[float] = []

    def vertex(self) -> int:
        """Add a vertex and return its number."""
        self.supply.append(0)
        self.demand.append(0)
        self._arcs.append([])
        return len(self._arcs) - 1

    def arc(self, tail: int, head: int, capacity: float, back: float = 0) -> None:
        """Add an arc, and one `back` between the same two vertices."""
        self._arcs[tail].append(len(self._head))
        self._head.append(head)
        self._capacity.append(capacity)
        self._arcs[head].append(len(self._head))
        self._head.append(tail)
        self._capacity.append(back)

    def near_side(self) -> list[bool]:
        """Return for each vertex whether it is on the source's side of a minimum cut, the largest such side.

        The capacities are used up: it works once.
        """
        count = len(self._arcs)
        excess, distance = self.supply, self._distances()
        waiting = deque(vertex for vertex in range(count) if excess[vertex] > 0 and distance[vertex] <= count)
        work, budget = 0, 6 * count + len(self._head) // 2
        while waiting:
            vertex = waiting.popleft()
            work += self._discharge(vertex, distance, waiting)
            if work > budget:
                work, distance = 0, self._distances()
                waiting = deque(
                    vertex for vertex in range(count) if excess[vertex] > 0 and distance[vertex] <= count
                )
        # A vertex with a way to the sink left belongs to the sink's side.
        return [steps > count for steps in self._distances()]

    def _discharge(self, vertex: int, distance: list[int], waiting: deque[int]) -> int:
        """Push what `vertex` has to spare until it is empty or cut off; return the arcs looked at."""
        excess, demand, head, capacity = self.supply, self.demand, self._head, self._capacity
        arcs, cut_off = self._arcs[vertex], len(self._arcs) + 1
        mine, looked = excess[vertex], 0
        while True:
            if distance[vertex] == 1 and demand[vertex] > 0:
                pushed = min(mine, demand[vertex])
                demand[vertex] -= pushed
                mine -= pushed
            nearest = 1 if demand[vertex] > 0 else cut_off
            for arc in arcs:
                if not mine > 0:
                    break
                if capacity[arc] > 0:
                    target = head[arc]
                    if distance[target] == distance[vertex] - 1:
                        pushed = min(mine, capacity[arc])
                        capacity[arc] -= pushed
                        capacity[arc ^ 1] += pushed
                        mine -= pushed
                        if not excess[target] > 0:
                            waiting.append(target)
                        excess[target] += pushed
                    if capacity[arc] > 0:
                        nearest = min(nearest, distance[target] + 1)
            looked += len(arcs)
            if not mine > 0 or nearest >= cut_off:
                break
            distance[vertex] = nearest
        excess[vertex] = mine
        if mine > 0:
            distance[vertex] = cut_off
        return looked

    def _distances(self) -> list[int]:
        """Return each vertex's steps to the sink over arcs with capacity left; without a way one too many."""
        count = len(self._arcs)
        cut_off = count + 1
        distance = [cut_off] * count
        reached = [vertex for vertex in range(count) if self.demand[vertex] > 0]
        for vertex in reached:
            distance[vertex] = 1
        for vertex in reached:  # grows as it goes
            steps = distance[vertex] + 1
            for arc in self._arcs[vertex]:
                tail = self._head[arc]
                if distance[tail] == cut_off and self._capacity[arc ^ 1] > 0:
                    distance[tail] = steps
                    reached.append(tail)
        return distance
