"""When the link was there: its outages, and which frames count as captured while connected.

A frame counts as captured **while connected** when all of this holds for its capture time t:

1. The last link event at or before t and the first one after t both say `connected` (the agent writes one a
   second). Before the first link event nobody has said so; after the last one, the last decides. Without any
   link event this condition is dropped.
2. t is further than the guard from every outage of the emulated link (dropped without a log of the link).

An **outage** is a stretch in which the true rate is 0 for at least one deadline: what is shorter can be
waited out within the deadline. The **guard** is the larger of one deadline (a frame captured less than that
before an outage cannot be answered from the server) and one second (the period of link events, the resolution
at which the agent states its connection). Only logs are read: nothing here asks how a frame ended, so that a
frame the server should have answered and did not is counted, and counts against us.

Pure: arrays in, arrays and intervals out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.report.links import Links, Shapes

LINK_PERIOD_S = 1.0  # the agent writes a link event once a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of time in monotonic seconds, and why it is special.

    `outage`: the emulated link's true rate was 0. `disconnected`: the agent had no open stream to its server.
    """

    start_s: float
    end_s: float
    kind: Literal["outage", "disconnected"]

    @property
    def duration_s(self) -> float:
        """Seconds it lasts."""
        return self.end_s - self.start_s


def guard_s(deadline_s: float) -> float:
    """Return the seconds around an outage in which frames do not count as captured while connected."""
    return max(deadline_s, LINK_PERIOD_S)


def outages(shapes: Shapes, *, start_s: float, end_s: float, deadline_s: float) -> tuple[Interval, ...]:
    """Return the outages within [`start_s`, `end_s`], from the true rates of the link."""
    dead = _stretches(shapes.at_s, shapes.rate_bytes_per_s <= 0, end_s)
    found = [Interval(start_s=a, end_s=b, kind="outage") for a, b in dead if b - a >= deadline_s]
    return _clip(found, start_s, end_s)


def disconnections(links: Links, *, start_s: float, end_s: float) -> tuple[Interval, ...]:
    """Return the stretches within [`start_s`, `end_s`] in which the agent says that it was not connected."""
    lost = _stretches(links.at_s, ~links.connected, end_s)
    return _clip([Interval(start_s=a, end_s=b, kind="disconnected") for a, b in lost], start_s, end_s)


class ConnectedRule:
    """Says which frames count as captured while connected."""

    def __init__(self, links: Links, shapes: Shapes, gaps: Sequence[Interval], *, deadline_s: float) -> None:
        """Take what the logs say of the link.

        Args:
            links: The agent's link events.
            shapes: The true rates; empty when the link was not emulated.
            gaps: The outages (`outages`) among `shapes`.
            deadline_s: The run's deadline, seconds.
        """
        # No more than the rule needs: it travels to every process that reads a part of the log.
        self._link_at_s, self._link_connected = links.at_s, links.connected
        # Without any log of the link nothing is claimed.
        self.applies = bool(len(links) or len(shapes))
        guard = guard_s(deadline_s)
        around: list[tuple[float, float]] = []
        for gap in sorted(gaps, key=lambda gap: gap.start_s):
            begin_s, end_s = gap.start_s - guard, gap.end_s + guard
            if around and begin_s < around[-1][1]:
                begin_s, end_s = around[-1][0], max(around.pop()[1], end_s)
            around.append((begin_s, end_s))
        self._begins_s = np.array([begin_s for begin_s, _ in around], dtype=np.float64)
        self._ends_s = np.array([end_s for _, end_s in around], dtype=np.float64)

    def mask(self, captured_s: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Return which of the frames captured at these instants count; None if no log tells."""
        if not self.applies:
            return None
        mask = np.ones(len(captured_s), dtype=np.bool_)
        connected = self._link_connected
        if len(connected):
            following = np.searchsorted(self._link_at_s, captured_s, side="right")
            before = np.clip(following - 1, 0, len(connected) - 1)
            after = np.clip(following, 0, len(connected) - 1)
            mask &= connected[before] & connected[after] & (following > 0)
        if len(self._begins_s):
            last = np.searchsorted(self._begins_s, captured_s, side="left") - 1
            mask &= (last < 0) | (captured_s >= self._ends_s[np.maximum(last, 0)])
        return mask


def _stretches(
    at_s: NDArray[np.float64], marked: NDArray[np.bool_], end_s: float
) -> list[tuple[float, float]]:
    """Return from when until when `marked` holds, an event deciding until the next, the last to `end_s`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked]).astype(np.int8)))
    instants = [float(at) for at in at_s[edges]]
    if len(instants) % 2:
        instants.append(max(end_s, instants[-1]))
    return list(zip(instants[::2], instants[1::2], strict=True))


def _clip(intervals: Sequence[Interval], start_s: float, end_s: float) -> tuple[Interval, ...]:
    clipped = (
        Interval(start_s=max(gap.start_s, start_s), end_s=min(gap.end_s, end_s), kind=gap.kind)
        for gap in intervals
    )
    return tuple(gap for gap in clipped if gap.end_s > gap.start_s)
