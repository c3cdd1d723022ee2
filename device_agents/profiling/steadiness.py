"""When a figure counts: the warm-up rule and the stability rule. Pure.

Warm-up: queries are gathered in windows of a quarter of a second and at least ten queries. A way of answering
is warm once the medians of three successive windows lie within 5 % of the middle one of them. What was asked
before is left out. If it takes longer than a limit, the measurement begins all the same, and says so.

Stability: a figure is not to be trusted if

- it never became warm;
- it rests on fewer than 100 queries: their 99th percentile is hardly more than the worst;
- the medians of the two halves of the measurement differ by more than 5 %, and by more than three standard
  errors of their difference, so that few samples are not blamed for their scatter;
- the processor's frequency moved by more than 10 % in between;
- the device said at any moment that it was throttled;
- the processors were busy for more than 95 % of the time, and at least a tenth of that for other processes:
  waiting for a processor is then part of every figure;
- frames were not answered by whom they were meant for;
- arrivals were turned away, because too many were unanswered: the rate is more than can be answered;
- the stages of the median frame do not add up to its latency within 3 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from isthmus.device_agents.profiling.conditions import Conditions

WINDOW_S = 0.25
WINDOW_QUERIES = 10
WINDOWS = 3
AGREEMENT = 0.05
FEWEST_QUERIES = 100
LARGEST_DRIFT = 0.05
LARGEST_FREQUENCY_MOVE = 0.10
FULL_SHARE = 0.95
OTHERS_SHARE = 0.10
LARGEST_GAP = 0.03

# The standard error of a median is that of a mean times this (normal samples), and a median absolute
# deviation times that is a standard deviation.
_MEDIAN_ERROR = math.sqrt(math.pi / 2)
_SIGMA_PER_MAD = 1.4826
_ERRORS = 3.0


class WarmUp:
    """Watches latencies until they have settled."""

    def __init__(self) -> None:
        self.is_warm = False
        self._medians: list[float] = []
        self._window: list[float] = []
        self._began_s: float | None = None

    def add(self, latency_s: float, now_s: float) -> bool:
        """Take a query answered at `now_s` into account, and say whether it is warm now."""
        if self._began_s is None:
            self._began_s = now_s
        self._window.append(latency_s)
        if len(self._window) >= WINDOW_QUERIES and now_s - self._began_s >= WINDOW_S:
            self._medians.append(float(np.median(self._window)))
            self._window, self._began_s = [], now_s
            last = sorted(self._medians[-WINDOWS:])
            if len(last) == WINDOWS:
                middle_s = last[WINDOWS // 2]
                self.is_warm = max(last[-1] - middle_s, middle_s - last[0]) <= AGREEMENT * middle_s
        return self.is_warm


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the stability rule looks at.

    Attributes:
        latencies_s: Of the queries, in the order of their ends.
        warm: The warm-up rule was met.
        conditions: What the device said meanwhile.
        astray: Frames that were not answered by whom they were meant for.
        turned_away: Arrivals that were not asked.
        sum_over_latency: Median of the frames' stages over their latency.
    """

    latencies_s: Sequence[float]
    warm: bool
    conditions: Conditions
    astray: int
    turned_away: int
    sum_over_latency: float | None


class Doubt(msgspec.Struct, frozen=True):
    """Why figures are not to be trusted.

    Attributes:
        rule: What was found, in words.
        detail: How much of it; may be empty.
    """

    rule: str
    detail: str = ""


def doubts(evidence: Evidence) -> tuple[Doubt, ...]:
    """Return why the figures are not to be trusted; empty: they are."""
    found: list[Doubt] = []
    count, conditions = len(evidence.latencies_s), evidence.conditions
    if not evidence.warm:
        found.append(Doubt("did not settle before it was measured"))
    if count < FEWEST_QUERIES:
        found.append(Doubt(f"fewer than {FEWEST_QUERIES} queries", str(count)))
    drift = _drift(np.asarray(evidence.latencies_s, np.float64))
    if drift is not None:
        change = "slower" if drift > 0 else "quicker"
        found.append(Doubt("the second half differs from the first", f"{abs(drift):.0%} {change}"))
    low_hz, high_hz = conditions.frequency_min_hz, conditions.frequency_max_hz
    if low_hz is not None and high_hz is not None and high_hz - low_hz > LARGEST_FREQUENCY_MOVE * high_hz:
        found.append(Doubt("the frequency moved", f"{low_hz / 1e9:.2f} to {high_hz / 1e9:.2f} GHz"))
    if conditions.throttled:
        found.append(Doubt("throttled", ", ".join(conditions.causes)))
    busy, others = conditions.busy_share, conditions.others_share
    if busy is not None and others is not None and busy > FULL_SHARE and others > OTHERS_SHARE * busy:
        found.append(Doubt("others kept the processors busy", f"{others:.0%}"))
    if evidence.astray:
        found.append(Doubt("frames were not answered as asked", str(evidence.astray)))
    if evidence.turned_away:
        found.append(Doubt("arrivals were turned away: it cannot keep up", str(evidence.turned_away)))
    total = evidence.sum_over_latency
    if total is not None and abs(total - 1.0) > LARGEST_GAP:
        found.append(Doubt("the stages do not add up to the latency", f"{total:.1%}"))
    return tuple(found)


def _drift(latencies_s: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Return by what share the second half's median differs from the first's, if that is no chance."""
    if len(latencies_s) < 2 * WINDOW_QUERIES:
        return None
    halves = np.array_split(latencies_s, 2)
    first_s, second_s = (float(np.median(half)) for half in halves)
    if first_s <= 0:
        return None
    errors = [
        _MEDIAN_ERROR
        * _SIGMA_PER_MAD
        * float(np.median(np.abs(half - np.median(half))))
        / math.sqrt(len(half))
        for half in halves
    ]
    drift = (second_s - first_s) / first_s
    certain = abs(second_s - first_s) > _ERRORS * math.hypot(*errors)
    return drift if abs(drift) > LARGEST_DRIFT and certain else None
