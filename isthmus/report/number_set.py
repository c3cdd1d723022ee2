"""Which frame numbers have been seen: a bit each, so that a number that comes twice is found. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PER_CHUNK = 1 << 18
# 8,192 chunks are two thousand million frames; numbers that jump about must not fill the memory.
_MOST_CHUNKS = 8_192


class NumberSet:
    """Frame numbers that occurred.

    Attributes:
        repeated: Occurrences beyond the first of a number.
        complete: Whether all were looked at; not if the numbers are spread too widely.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.repeated = 0
        self.complete = True
        self._chunks: dict[int, NDArray[np.uint8]] = {}

    def add(self, numbers: NDArray[np.int64]) -> None:
        """See `numbers`."""
        chunk_of = numbers >> 18
        for chunk in np.unique(chunk_of):
            within = numbers[chunk_of == chunk] & (_PER_CHUNK - 1)
            fresh = np.unique(within)
            self.repeated += len(within) - len(fresh)
            bits = np.zeros(_PER_CHUNK, dtype=np.bool_)
            bits[fresh] = True
            self._see(int(chunk), np.packbits(bits))

    def merge(self, other: NumberSet) -> None:
        """See what `other` saw."""
        self.repeated += other.repeated
        self.complete &= other.complete
        for chunk, seen in other._chunks.items():
            self._see(chunk, seen)

    def _see(self, chunk: int, seen: NDArray[np.uint8]) -> None:
        before = self._chunks.get(chunk)
        if before is not None:
            self.repeated += int(np.unpackbits(before & seen).sum())
            self._chunks[chunk] = before | seen
        elif len(self._chunks) < _MOST_CHUNKS:
            self._chunks[chunk] = seen
        else:
            self.complete = False
