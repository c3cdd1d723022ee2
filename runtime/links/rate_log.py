"""The true rate of a link as events: whenever it changes, at most ten times a second."""

from __future__ import annotations

import math
from collections.abc import Iterator

from isthmus.runtime.links.trace import RateTrace

_EVERY_S = 0.1


def logged_rates(trace: RateTrace, *, from_s: float = 0.0) -> Iterator[tuple[float, float]]:
    """Yield (seconds since the start of the trace, bytes per second) at each change, for ever or to the last.

    The first is the rate at `from_s`. Changes that are closer together than 100 ms are averaged.
    """
    at_s, logged = from_s, None
    while at_s < math.inf:
        until_s = max(trace.next_change(at_s), at_s + _EVERY_S)
        if until_s == math.inf:
            rate = trace.rate_at(at_s)
        else:
            rate = trace.bytes_between(at_s, until_s) / (until_s - at_s)
        if rate != logged:
            yield at_s, rate
            logged = rate
        at_s = until_s
