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

from isthmus.runtime.events import LinkEvent, ShapeEvent

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


def outages(
    shapes: Sequence[ShapeEvent], *, start_s: float, end_s: float, deadline_s: float
) -> tuple[Interval, ...]:
    """Return the outages within [`start_s`, `end_s`], from the true rates of the link in time order."""
    found: list[Interval] = []
    since: float | None = None
    for shape in shapes:
        if shape.rate_bytes_per_s <= 0:
            since = shape.at_s if since is None else since
        elif since is not None:
            found.append(Interval(start_s=since, end_s=shape.at_s, kind="outage"))
            since = None
    if since is not None:
        found.append(Interval(start_s=since, end_s=max(end_s, since), kind="outage"))
    return _clip([gap for gap in found if gap.duration_s >= deadline_s], start_s, end_s)


def disconnections(links: Sequence[LinkEvent], *, start_s: float, end_s: float) -> tuple[Interval, ...]:
    """Return the stretches within [`start_s`, `end_s`] in which the agent says that it was not connected."""
    found: list[Interval] = []
    since: float | None = None
    for link in links:
        if not link.connected:
            since = link.at_s if since is None else since
        elif since is not None:
            found.append(Interval(start_s=since, end_s=link.at_s, kind="disconnected"))
            since = None
    if since is not None:
        found.append(Interval(start_s=since, end_s=max(end_s, since), kind="disconnected"))
    return _clip(found, start_s, end_s)


def connected_mask(
    captured_s: NDArray[np.float64],
    links: Sequence[LinkEvent],
    shapes: Sequence[ShapeEvent],
    gaps: Sequence[Interval],
    *,
    deadline_s: float,
) -> NDArray[np.bool_] | None:
    """Return which frames count as captured while connected, or None if no log says anything about the link.

    Args:
        captured_s: Capture times, monotonic seconds.
        links: Link events in time order.
        shapes: True rates in time order; empty when the link was not emulated.
        gaps: The outages (`outages`) among `shapes`.
        deadline_s: The run's deadline, seconds.
    """
    if not links and not shapes:
        return None
    mask = np.ones(len(captured_s), dtype=np.bool_)
    if links:
        at_s = np.array([link.at_s for link in links])
        connected = np.array([link.connected for link in links])
        following = np.searchsorted(at_s, captured_s, side="right")
        before = np.clip(following - 1, 0, len(links) - 1)
        after = np.clip(following, 0, len(links) - 1)
        mask &= connected[before] & connected[after] & (following > 0)
    guard = guard_s(deadline_s)
    for gap in gaps:
        mask &= (captured_s <= gap.start_s - guard) | (captured_s >= gap.end_s + guard)
    return mask


def _clip(intervals: Sequence[Interval], start_s: float, end_s: float) -> tuple[Interval, ...]:
    clipped = (
        Interval(start_s=max(gap.start_s, start_s), end_s=min(gap.end_s, end_s), kind=gap.kind)
        for gap in intervals
    )
    return tuple(gap for gap in clipped if gap.end_s > gap.start_s)
