"""The few statistics of a report: shares with their uncertainty, and quantiles of durations. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Quantiles of `count` durations in seconds (linear interpolation between order statistics)."""

    count: int
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


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


def durations(values_s: NDArray[np.float64]) -> Durations | None:
    """Return the quantiles of `values_s` (NaN: not measured, left out), or None if nothing is left."""
    known = values_s[~np.isnan(values_s)]
    if len(known) == 0:
        return None
    p50, p90, p99 = (float(q) for q in np.percentile(known, (50, 90, 99)))
    return Durations(
        count=len(known),
        mean_s=float(known.mean()),
        p50_s=p50,
        p90_s=p90,
        p99_s=p99,
        max_s=float(known.max()),
    )
