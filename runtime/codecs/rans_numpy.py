"""The portable half of the rans codec: the loops of `_rans.c` without a compiler, bit for bit.

The coder knows the whole latent: numpy finds all tables and frequencies at once, and the state then passes
through Python integers. The decoder can only look ahead as far as earlier channels and rows reach; where a
channel has a context network, each value waits for its left neighbour's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.contexts import CAUSAL, ContextNetwork, choose, gather, pad
from isthmus.runtime.codecs.width_tables import PRECISION, TOTAL, WidthTables

LOW = 1 << 23
_LIMIT_SHIFT = 23 - PRECISION + 8
_RAW_BITS = PRECISION - 8
_SLOT = TOTAL - 1
_RAW = (1 << _RAW_BITS) - 1


def encode(latent_chw: NDArray[np.uint8], tables: WidthTables) -> bytes:
    """Return the stream of a latent uint8 [c, H, W], of at most as many channels as `tables`."""
    table, level = tables.contexts(latent_chw)
    differences = (latent_chw.reshape(table.shape) - level & 0xFF).reshape(-1)
    table = table.reshape(-1)
    size = tables.size.astype(np.int64)[table]
    index = differences - tables.first[table]
    escapes = (index < 0) | (index >= size)
    index = np.where(escapes, size, index)
    cumulative = tables.cumulative.astype(np.int64)
    starts = cumulative[table, index]
    frequencies = cumulative[table, index + 1] - starts
    if escapes.any():  # an escape is two steps: its own, then the difference's 8 bits
        steps = 1 + escapes
        second = np.cumsum(steps)[escapes] - 1
        starts, frequencies = np.repeat(starts, steps), np.repeat(frequencies, steps)
        starts[second] = differences[escapes] << _RAW_BITS
        frequencies[second] = 1 << _RAW_BITS
    return _encode_steps(starts, frequencies)


def _encode_steps(starts: NDArray[np.int64], frequencies: NDArray[np.int64]) -> bytes:
    stream = bytearray()
    state = 0
    # From the last step to the first: the decoder undoes the last one first, and so meets them in order.
    for start, frequency in zip(starts[::-1].tolist(), frequencies[::-1].tolist(), strict=True):
        while state >= frequency << _LIMIT_SHIFT:
            stream.append(state & 0xFF)
            state >>= 8
        state = (state // frequency << PRECISION) + start + state % frequency
    while state:
        stream.append(state & 0xFF)
        state >>= 8
    stream.reverse()
    return bytes(stream)


def decode(stream: bytes, shape_chw: tuple[int, int, int], tables: WidthTables) -> bytearray:
    """Return the symbols that `encode` made the stream of.

    Raises:
        ValueError: If the stream is not what `encode` gives for any latent of that shape.
    """
    if stream[:1] == b"\0":
        raise ValueError("the stream starts with a zero byte")
    reader = _Reader(stream, tables)
    latent = np.full((1, *shape_chw), 128, dtype=np.uint8)
    padded = pad(latent)
    for channel, network in enumerate(tables.networks[: shape_chw[0]]):
        plane = padded[0, 1 + channel]
        if network is None:
            values = [reader.difference(tables.own_table[channel]) for _ in range(plane[1:-1, 1:-1].size)]
            plane[1:-1, 1:-1] = np.array(values).reshape(shape_chw[1:]) - 128
        else:
            _decode_channel(reader, padded, channel, network, tables.classes)
    reader.close()
    return bytearray((padded[0, 1:, 1:-1, 1:-1] + 128).astype(np.uint8).tobytes())


def _decode_channel(
    reader: _Reader, padded: NDArray[np.int16], channel: int, network: ContextNetwork, classes: int
) -> None:
    """Fill in a channel's plane, row by row: only the left neighbour is not known to the whole row."""
    plane = padded[0, 1 + channel]
    height, width = plane.shape[0] - 2, plane.shape[1] - 2
    weight = network.hidden_weight.astype(np.int64)
    above, left = weight[-len(CAUSAL) : -1], weight[-1]
    # The channel itself is still 128 everywhere, so that its own inputs are 0 in these sums.
    inputs = gather(padded, channel, network.parents).astype(np.float64)
    known = (inputs @ weight.astype(np.float64)).astype(np.int64).reshape(height, width, -1)
    known += network.hidden_bias
    for y in range(height):
        row = known[y]
        for (down, right), of_one in zip(CAUSAL[:-1], above, strict=True):
            from_row = plane[1 + y + down, 1 + right : 1 + right + width].astype(np.int64)
            row = row + from_row[:, None] * of_one
        value = 0
        for x in range(width):
            expected, scale = network.finish(row[x : x + 1] + value * left)
            table, level = choose(expected, scale, classes)
            value = (reader.difference(int(table[0])) + int(level[0]) & 0xFF) - 128
            plane[1 + y, 1 + x] = value


class _Reader:
    """A stream, and the state after the symbols decoded so far."""

    def __init__(self, stream: bytes, tables: WidthTables) -> None:
        self._stream = stream
        self._slots = tables.slots
        self._first = tables.first.tolist()
        self._size = tables.size.tolist()
        self._cumulative = tables.rows
        self._at = 0
        self._state = 0
        self._take(0)

    def difference(self, table: int) -> int:
        """Return the next symbol, of that table.

        Raises:
            ValueError: If it is escaped although the table's window holds it.
        """
        slot = self._state & _SLOT
        index = self._slots[table * TOTAL + slot]
        cumulative = self._cumulative[table]
        start = cumulative[index]
        frequency = cumulative[index + 1] - start
        self._take(frequency * (self._state >> PRECISION) + slot - start)
        first, size = self._first[table], self._size[table]
        if index != size:
            return int(first + index)
        value = (self._state & _SLOT) >> _RAW_BITS
        if 0 <= value - first < size:
            raise ValueError("a value is escaped that its table holds")
        self._take((self._state >> PRECISION << _RAW_BITS) + (self._state & _RAW))
        return value

    def _take(self, state: int) -> None:
        while state < LOW and self._at < len(self._stream):
            state = state << 8 | self._stream[self._at]
            self._at += 1
        self._state = state

    def close(self) -> None:
        """Check that everything was used up; ValueError if not."""
        if self._state or self._at != len(self._stream):
            raise ValueError("it holds more than the declared symbols")
