"""Quantiles of many values in little memory: exact while there are few, within half a percent beyond.

Beyond `EXACT_VALUES` the values are counted in bins that grow geometrically, so that a quantile is off by at
most `RELATIVE_ERROR` of itself, whatever the distribution (Masson, Rim and Lee 2019, DDSketch, section 2).
Counts, mean and extremes stay exact. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EXACT_VALUES = 50_000
RELATIVE_ERROR = 0.005
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH = math.log(_GROWTH)
# Seconds: from a tenth of a microsecond to eleven days. What lies outside counts at these ends.
_LEAST, _MOST = 1e-7, 1e6
_BINS = math.ceil(math.log(_MOST / _LEAST) / _LOG_GROWTH) + 1


class Quantiles:
    """The distribution of values of at least 0.

    Attributes:
        count: How many there are.
        total: Their sum.
        least, most: Their extremes; infinite and 0 while there are none.
    """

    def __init__(self, *, exact_values: int = EXACT_VALUES) -> None:
        """Start without values; beyond `exact_values` of them they are counted in bins."""
        self.count = 0
        self.total = 0.0
        self.least = math.inf
        self.most = 0.0
        self._exact_values = exact_values
        self._kept: list[NDArray[np.float64]] = []
        self._bins: NDArray[np.int64] | None = None

    @property
    def exact(self) -> bool:
        """Whether every value is still known."""
        return self._bins is None

    @property
    def mean(self) -> float:
        """The mean; there must be a value."""
        return self.total / self.count

    def add(self, values: NDArray[np.float64]) -> None:
        """Count `values`, none of which is NaN."""
        if not len(values):
            return
        self.count += len(values)
        self.total += float(values.sum())
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))
        if self._bins is not None:
            self._bins += _binned(values)
            return
        self._kept.append(np.array(values, dtype=np.float64))
        if self.count > self._exact_values:
            self._bins = _binned(self._all())
            self._kept.clear()

    def merge(self, other: Quantiles) -> None:
        """Count the values of `other` too."""
        if other._bins is None:
            for values in other._kept:
                self.add(values)
            return
        if self._bins is None:
            self._bins = _binned(self._all())
            self._kept.clear()
        self._bins += other._bins
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def at(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles at `shares` in [0, 1]; there must be a value.

        While exact, by linear interpolation between order statistics.
        """
        if self._bins is None:
            return [float(value) for value in np.quantile(self._all(), shares)]
        reached = np.cumsum(self._bins)
        ranks = np.asarray(shares) * (self.count - 1)
        inside = self._value(np.searchsorted(reached, ranks, side="right"))
        # The extremes are known exactly.
        inside = np.where(ranks <= 0, self.least, np.where(ranks >= self.count - 1, self.most, inside))
        return [float(value) for value in inside]

    def cumulative(self, *, steps: int = 400) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the share of values that is at most x, in about `steps` steps."""
        if self._bins is None:
            ordered = np.sort(self._all())
            last = len(ordered) - 1
            picked = np.unique(np.linspace(0, last, min(len(ordered), steps)).round().astype(np.int64))
            values, shares = ordered[picked], (picked + 1) / len(ordered)
        else:
            occupied = np.flatnonzero(self._bins)
            values, shares = self._value(occupied), np.cumsum(self._bins)[occupied] / self.count
        return np.concatenate([values[:1], values]), np.concatenate([[0.0], shares])

    def _all(self) -> NDArray[np.float64]:
        if len(self._kept) != 1:
            self._kept = [np.concatenate(self._kept)] if self._kept else [np.zeros(0)]
        return self._kept[0]

    def _value(self, bins: NDArray[np.int64]) -> NDArray[np.float64]:
        # The place in a bin from which both of its ends are equally far, relatively.
        middle = _LEAST * _GROWTH**bins * 2 / (1 + 1 / _GROWTH) / _GROWTH
        return np.asarray(np.clip(middle, self.least, self.most), dtype=np.float64)


def _binned(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of `values` lie in each bin; bin i holds values above growth^(i−1), up to growth^i."""
    places = np.ceil(np.log(np.clip(values, _LEAST, _MOST) / _LEAST) / _LOG_GROWTH)
    return np.bincount(places.astype(np.int64), minlength=_BINS + 1)
