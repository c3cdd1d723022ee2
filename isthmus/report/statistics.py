"""The few statistics of a report: shares with their uncertainty, and quantiles of durations. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.report.quantiles import Quantiles

_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` of `total`, as a fraction with its 95 % interval (Wilson 1927, the score interval)."""

    count: int
    total: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Quantiles of `count` durations in seconds, linearly interpolated between order statistics.

    Unless `exact`, there were too many to keep, and a quantile may be off by `quantiles.RELATIVE_ERROR` of
    itself; mean and maximum never are.
    """

    count: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float
    exact: bool = True


def share(count: int, total: int) -> Share | None:
    """Return `count` of `total` as a share, or None if `total` is 0."""
    if total == 0:
        return None
    value = count / total
    spread = 1 + _Z95**2 / total
    centre = (value + _Z95**2 / (2 * total)) / spread
    half = _Z95 * math.sqrt(value * (1 - value) / total + _Z95**2 / (4 * total**2)) / spread
    # At 0 and 1 the bound equals the value exactly; rounding must not put it on the other side.
    low, high = min(max(0.0, centre - half), value), max(min(1.0, centre + half), value)
    return Share(count=count, total=total, value=value, low=low, high=high)


def durations(values_s: Quantiles) -> Durations | None:
    """Return the quantiles of `values_s`, or None if there is none."""
    if not values_s.count:
        return None
    p50, p90, p99 = values_s.at((0.5, 0.9, 0.99))
    return Durations(
        count=values_s.count,
        mean_s=values_s.mean,
        p50_s=p50,
        p90_s=p90,
        p99_s=p99,
        max_s=values_s.most,
        exact=values_s.exact,
    )
