"""A link on a virtual clock: first in, first out, over a rate trace, with a constant delay."""

from __future__ import annotations

from isthmus.runtime.links.trace import RateTrace


class SimLink:
    """Carries messages one after the other; an instant goes in, the instant of arrival comes out."""

    def __init__(self, trace: RateTrace, *, delay_s: float = 0.0) -> None:
        """Start at 0 s with an empty queue.

        Args:
            trace: The rate over time; the virtual clock is the trace's own.
            delay_s: Seconds every byte takes beyond its transmission, one way.
        """
        self._trace = trace
        self._delay_s = delay_s
        self._free_s = 0.0

    def send(self, nbytes: int, now_s: float) -> float:
        """Queue a message at `now_s` and return when its last byte arrives; infinity on a dead link."""
        self._free_s = self.finish(nbytes, now_s)
        return self._free_s + self._delay_s

    def finish(self, nbytes: int, now_s: float) -> float:
        """Return when the last of `nbytes` queued at `now_s` would leave, without queueing them."""
        return self._trace.finish(max(self._free_s, now_s), nbytes)

    def arrival(self, nbytes: int, now_s: float) -> float:
        """Return when a message queued at `now_s` would arrive, without queueing it."""
        return self.finish(nbytes, now_s) + self._delay_s
