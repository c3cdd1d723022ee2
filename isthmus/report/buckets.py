"""Counts over time in a bounded number of buckets, twice as wide whenever a run outgrows them. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CAPACITY = 2_048  # twice as many as a wide screen has places for
_FIRST_WIDTH_S = 2.0**-7


class TimeBuckets:
    """How often each of some channels occurred in each stretch of time.

    Stretches begin at multiples of their width, a power of two seconds, so that two of these can be added up
    whatever instants they were fed with.

    Attributes:
        width_s: Seconds a bucket holds now.
    """

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        """Start empty; at most `capacity` buckets are ever kept."""
        self.width_s = _FIRST_WIDTH_S
        self._capacity = capacity
        self._first = 0  # number of the first bucket: its start in widths
        self._counts: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Return the counts [buckets, channels]."""
        return self._counts

    @property
    def start_s(self) -> float:
        """Return where the first bucket begins."""
        return self._first * self.width_s

    def edges_s(self) -> NDArray[np.float64]:
        """Return the bounds of the buckets, one more than there are."""
        places = self._first + np.arange(len(self._counts) + 1)
        return np.asarray(places * self.width_s, dtype=np.float64)

    def add(self, at_s: NDArray[np.float64], channel: NDArray[np.int64]) -> None:
        """Count one occurrence of `channel` at each instant of `at_s`."""
        if not len(at_s):
            return
        self._hold(float(at_s.min()), float(at_s.max()), int(channel.max()) + 1)
        places = np.floor(at_s / self.width_s).astype(np.int64) - self._first
        low, high = int(places.min()), int(places.max()) + 1
        channels = self._counts.shape[1]
        flat = (places - low) * channels + channel
        counted = np.bincount(flat, minlength=(high - low) * channels)
        self._counts[low:high] += counted.reshape(high - low, channels)

    def merge(self, other: TimeBuckets) -> None:
        """Count everything that `other` counted; its width may change in doing so."""
        if not len(other._counts):
            return
        edges_s = other.edges_s()
        # The middle of its last bucket: the bound itself belongs to the next.
        self._hold(float(edges_s[0]), float(edges_s[-1]) - other.width_s / 2, other._counts.shape[1])
        while other.width_s < self.width_s:
            other._double()
        while self.width_s < other.width_s:
            self._double()
        self._hold(other.start_s, other.start_s, other._counts.shape[1])
        at = other._first - self._first
        self._counts[at : at + len(other._counts), : other._counts.shape[1]] += other._counts

    def with_channels(self, channels: NDArray[np.int64]) -> TimeBuckets:
        """Return the same counts with channel i counted as `channels[i]`."""
        renamed = TimeBuckets(capacity=self._capacity)
        renamed.width_s, renamed._first = self.width_s, self._first
        buckets, used = self._counts.shape
        renamed._counts = np.zeros((buckets, int(channels[:used].max(initial=-1)) + 1), dtype=np.int64)
        renamed._counts[:, channels[:used]] = self._counts
        return renamed

    def _hold(self, least_s: float, most_s: float, channels: int) -> None:
        """Make room for the instants from `least_s` to `most_s` and for so many channels."""
        while True:
            low, high = math.floor(least_s / self.width_s), math.floor(most_s / self.width_s) + 1
            if len(self._counts):
                low, high = min(low, self._first), max(high, self._first + len(self._counts))
            if high - low <= self._capacity:
                break
            self._double()
        channels = max(channels, self._counts.shape[1])
        if (high - low, channels) != self._counts.shape:
            grown = np.zeros((high - low, channels), dtype=np.int64)
            at = self._first - low if len(self._counts) else 0
            grown[at : at + len(self._counts), : self._counts.shape[1]] = self._counts
            self._counts, self._first = grown, low

    def _double(self) -> None:
        self.width_s *= 2
        if not len(self._counts):
            return
        before = self._first % 2
        after = (before + len(self._counts)) % 2
        padded = np.pad(self._counts, ((before, after), (0, 0)))
        self._counts = padded[0::2] + padded[1::2]
        self._first = math.floor(self._first / 2)
