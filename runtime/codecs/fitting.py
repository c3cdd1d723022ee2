"""Fit one channel's frequency table to a histogram.

Pure: counts in, integers out. Chooses the window of values that get a frequency of their own, and rounds to
integers so that the sample costs few bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ESCAPED_BITS = 8.0
# Shares of the sample that each end of the window may leave to the escape. The cheapest is taken.
_TRIMS = (0.0, 1e-5, 1e-4, 1e-3)


def fit_channel(counts: NDArray[np.int64], *, total: int, max_window: int) -> tuple[int, NDArray[np.int64]]:
    """Return the lowest value of the window, and the frequencies of its values followed by the escape's.

    Every frequency is at least 1 and they add up to `total`. The escape is counted as often as the sample
    leaves the window, and once more (Laplace's rule): a value never met costs at most log2(total) + 8 bits.

    Args:
        counts: int64 [256], how often each value occurs; at least one occurs.
        total: What the frequencies add up to.
        max_window: The most values a window may hold.
    """
    best: tuple[float, int, NDArray[np.int64]] | None = None
    for window in _windows(counts, max_window):
        weights = _weights(counts, *window)
        frequency = _round(weights, total)
        cost = -float((weights * np.log2(frequency / total)).sum()) + _ESCAPED_BITS * float(weights[-1])
        if best is None or cost < best[0]:
            best = cost, window[0], frequency
    assert best is not None  # `_windows` gives at least one
    return best[1], best[2]


def _windows(counts: NDArray[np.int64], max_window: int) -> list[tuple[int, int]]:
    """Return distinct candidate windows [first, end), the widest first."""
    below = np.cumsum(counts)
    samples = int(below[-1])
    windows: list[tuple[int, int]] = []
    for trim in _TRIMS:
        spare = trim * samples
        first = int(np.argmax(below > spare))
        end = 256 - int(np.argmax((samples - below + counts)[::-1] > spare))
        if end - first > max_window:  # then 256 values occur: leave the rarer end to the escape
            first, end = (first + 1, end) if counts[first] < counts[end - 1] else (first, end - 1)
        if (first, end) not in windows:
            windows.append((first, end))
    return windows


def _weights(counts: NDArray[np.int64], first: int, end: int) -> NDArray[np.float64]:
    inside = counts[first:end].astype(np.float64)
    outside = float(counts.sum()) - float(inside.sum())
    return np.append(inside, outside + 1.0)


def _round(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round `weights` to integers >= 1 of sum `total` at the least cost Σ −weight·log2(frequency).

    The cost is convex in each frequency, so single units go where they gain most, or come from where they are
    missed least.
    """
    frequency = np.maximum(np.floor(weights / weights.sum() * total), 1.0)
    for _ in range(int(total - frequency.sum())):
        frequency[np.argmax(weights * np.log2((frequency + 1) / frequency))] += 1
    for _ in range(int(frequency.sum() - total)):
        loss = np.where(frequency > 1, weights * np.log2(frequency / np.maximum(frequency - 1, 1)), np.inf)
        frequency[np.argmin(loss)] -= 1
    rounded: NDArray[np.int64] = frequency.astype(np.int64)
    return rounded
