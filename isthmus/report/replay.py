"""Which part of a run the clairvoyant replays, and over which rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.report.labels import short_point
from isthmus.report.links import Shapes
from isthmus.report.regret import Regret, Replay, regret_of
from isthmus.report.runlog import RunLog
from isthmus.runtime.links import RateTrace

# The clairvoyant takes a while for each frame: of a run with more, it replays some stretches.
_MOST_FRAMES = 6_000
_STRETCHES = 8


def replayed_regret(log: RunLog) -> Regret | None:
    """Return how the run compares with the clairvoyant; None unless table and true rates are known."""
    if log.table is None or log.run is None or (log.trace is None and not len(log.shapes)):
        return None
    windows_s, frames = log.windows_s, log.kept
    if log.complete:
        windows_s = _stretches(frames.captured_s)
        inside = np.zeros(len(frames), dtype=np.bool_)
        for begin_s, end_s in windows_s:
            inside |= (frames.captured_s >= begin_s) & (frames.captured_s < end_s)
        frames = frames.take(inside)
    first_s = log.tally.first_s

    def rates(begin_s: float, end_s: float) -> Shapes:
        if log.trace is not None:
            return _played(log.trace, first_s, begin_s, end_s)
        at_s = log.shapes.at_s
        low = max(int(np.searchsorted(at_s, begin_s, side="right")) - 1, 0)
        high = max(int(np.searchsorted(at_s, end_s)), low + 1)
        return Shapes(at_s=at_s[low:high], rate_bytes_per_s=log.shapes.rate_bytes_per_s[low:high])

    last_s = float(frames.captured_s[-1]) + 1e-6
    return regret_of(
        Replay(
            frames=frames,
            points=log.points,
            table=log.table,
            deadline_s=log.deadline_at(frames.captured_s),
            rates=rates,
            link="the rates the emulated link logged" if log.trace is None else f"trace {log.trace.name}",
            windows_s=[(begin_s, min(end_s, last_s)) for begin_s, end_s in windows_s],
            name=lambda point: short_point(point, log.widths),
            start_s=log.start_s,
        )
    )


def _stretches(
    captured_s: NDArray[np.float64],
) -> tuple[tuple[float, float], ...]:
    """Return the whole run, or stretches of it with `_MOST_FRAMES` in all."""
    if len(captured_s) <= _MOST_FRAMES:
        return ((float(captured_s[0]), float("inf")),)
    each = _MOST_FRAMES // _STRETCHES
    begins = np.linspace(0, len(captured_s) - each - 1, _STRETCHES).astype(np.int64)
    return tuple((float(captured_s[begin]), float(captured_s[begin + each])) for begin in begins)


def _played(trace: RateTrace, first_s: float, begin_s: float, end_s: float) -> Shapes:
    """Return the rates of a trace that begins with the run, from `begin_s` until `end_s`."""
    at_s = max(begin_s - first_s, 0.0)
    found: list[tuple[float, float]] = []
    until_s = max(end_s - first_s, at_s)
    while not found or at_s < until_s:
        found.append((first_s + at_s, trace.rate_at(at_s)))
        at_s = trace.next_change(at_s)
    instants_s, rates = zip(*found, strict=True)
    return Shapes(at_s=np.array(instants_s), rate_bytes_per_s=np.array(rates))
