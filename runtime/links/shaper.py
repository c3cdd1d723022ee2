"""Decide when each byte of an emulated link comes out: bytes and times in, bytes due out.

Pure: no socket, no clock, no task. One bucket serves all flows (connections) of one direction. A flow's bytes
wait, are transmitted at the trace's rate in small quanta, flows taking turns, and travel for a fixed time:

    push ─ waiting (per flow) ─ transmitted (one bucket) ─ travelling (delay) ─ pop

Time is virtual: a quantum starts when the one before it ended, or when its bytes came if that is later, not
when somebody woke up to look. An oversleeping caller so finds more bytes due, and the rate stays exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from isthmus.runtime.links.trace import RateTrace

Flow = TypeVar("Flow", bound=Hashable)

# A quantum is what the link carries in this time: far below a frame interval, so that flows share finely.
_QUANTUM_S = 2e-3
_LEAST_QUANTUM = 64
_LARGEST_QUANTUM = 16_384


class Shaper(Generic[Flow]):
    """One direction of an emulated link. The end of a flow travels through it as empty bytes."""

    def __init__(self, trace: RateTrace | None, *, delay_s: float = 0.0, start_s: float = 0.0) -> None:
        """Start with nothing on the link.

        Args:
            trace: The rate over time; None for no limit.
            delay_s: Seconds every byte travels after its transmission.
            start_s: The instant at which the trace begins.
        """
        self._trace = trace
        self._delay_s = delay_s
        self._start_s = start_s
        self._free_s = start_s
        self._begun_s = start_s
        self._waiting: dict[Flow, deque[tuple[float, memoryview]]] = {}
        self._waiting_bytes: dict[Flow, int] = {}
        self._travelling: deque[tuple[float, Flow, bytes]] = deque()

    def retrace(self, trace: RateTrace | None, now_s: float, *, start_s: float | None = None) -> None:
        """Follow `trace` from `now_s` on; what is being transmitted then goes on at its rate.

        Args:
            trace: The rate over time; None for no limit.
            now_s: The instant of the change.
            start_s: The instant at which `trace` began; None: now.
        """
        self._transmit(now_s)
        rest = self._interrupt(now_s)
        self._trace, self._start_s = trace, now_s if start_s is None else start_s
        if rest is not None:
            flow, data, left_bytes = rest
            self._free_s = self._finish(now_s, left_bytes)
            self._travelling.append((self._free_s + self._delay_s, flow, data))

    def push(self, flow: Flow, data: bytes, now_s: float) -> None:
        """Put `data`, received at `now_s`, on the link; empty bytes end the flow."""
        self._waiting.setdefault(flow, deque()).append((now_s, memoryview(data)))
        self._waiting_bytes[flow] = self._waiting_bytes.get(flow, 0) + len(data)
        self._transmit(now_s)

    def pop(self, now_s: float) -> list[tuple[Flow, bytes]]:
        """Return what has come out by `now_s`, in order; empty bytes mark the end of a flow."""
        self._transmit(now_s)
        due = []
        while self._travelling and self._travelling[0][0] <= now_s:
            _, flow, data = self._travelling.popleft()
            due.append((flow, data))
        return due

    def next_s(self) -> float | None:
        """Return the next instant at which `pop` has something to do; None if the link is empty."""
        instants = []
        if self._travelling:
            instants.append(self._travelling[0][0])
        if self._waiting:
            instants.append(self._free_s)
        return min(instants, default=None)

    def waiting_bytes(self, flow: Flow) -> int:
        """Return the bytes of `flow` that are not being transmitted yet."""
        return self._waiting_bytes.get(flow, 0)

    def discard(self, flow: Flow) -> None:
        """Forget everything of `flow` that has not come out."""
        self._waiting.pop(flow, None)
        self._waiting_bytes.pop(flow, None)
        self._travelling = deque(entry for entry in self._travelling if entry[1] != flow)

    def _interrupt(self, now_s: float) -> tuple[Flow, bytes, float] | None:
        """Take back the quantum that is being transmitted, and return it with the bytes of it still to go."""
        if self._free_s <= now_s or self._trace is None:
            return None
        is_last = self._travelling and self._travelling[-1][0] == self._free_s + self._delay_s
        self._free_s = now_s
        if not is_last:  # its flow has been discarded
            return None
        _, flow, data = self._travelling.pop()
        gone = self._trace.bytes_between(self._begun_s - self._start_s, now_s - self._start_s)
        return flow, data, max(0.0, len(data) - gone)

    def _transmit(self, now_s: float) -> None:
        while self._waiting and self._free_s <= now_s:
            flow = self._next_flow()
            came_s, data = self._waiting[flow][0]
            begin_s = max(self._free_s, came_s)
            size = min(len(data), self._quantum(begin_s))
            end_s = self._finish(begin_s, size)
            self._begun_s, self._free_s = begin_s, end_s
            self._travelling.append((end_s + self._delay_s, flow, bytes(data[:size])))
            self._take(flow, came_s, data[size:], size)

    def _next_flow(self) -> Flow:
        """Return whose turn it is; bytes that came just now must not claim time in which others waited."""
        for flow, queue in self._waiting.items():
            if queue[0][0] <= self._free_s:
                return flow
        return next(iter(self._waiting))

    def _take(self, flow: Flow, came_s: float, rest: memoryview, size: int) -> None:
        queue = self._waiting.pop(flow)
        self._waiting_bytes[flow] -= size
        if rest:
            queue[0] = (came_s, rest)
        else:
            queue.popleft()
        if queue:
            self._waiting[flow] = queue  # at the end: the others' turn first
        else:
            del self._waiting_bytes[flow]

    def _quantum(self, at_s: float) -> int:
        if self._trace is None:
            return _LARGEST_QUANTUM
        carried = self._trace.rate_at(at_s - self._start_s) * _QUANTUM_S
        return int(min(_LARGEST_QUANTUM, max(_LEAST_QUANTUM, carried)))

    def _finish(self, begin_s: float, size: float) -> float:
        if self._trace is None:
            return begin_s
        return self._start_s + self._trace.finish(begin_s - self._start_s, size)
