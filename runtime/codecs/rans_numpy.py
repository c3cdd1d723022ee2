"""The portable half of the rans codec: the loops of `_rans.c` without a compiler, bit for bit.

numpy looks up all frequencies at once; the states then pass through Python integers. A state depends on the
one before it, and a latent has too few lanes for numpy calls on vectors of lanes to be any faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.tables import PRECISION, TOTAL, WidthTables

LOW = 1 << 23
_LIMIT_SHIFT = 23 - PRECISION + 8
_RAW_BITS = PRECISION - 8
_SLOT = TOTAL - 1
_RAW = (1 << _RAW_BITS) - 1


def encode(symbols: bytes, plane: int, tables: WidthTables, lanes: int) -> tuple[bytes, ...]:
    """Return one stream per lane; lane k codes every `lanes`-th symbol from the k-th on.

    Args:
        symbols: Whole channels, one after the other.
        plane: Symbols in a channel.
        tables: One table per channel, at least.
        lanes: Number of streams.
    """
    starts, frequencies, escapes = _look_up(np.frombuffer(symbols, dtype=np.uint8).reshape(-1, plane), tables)
    values = np.frombuffer(symbols, dtype=np.uint8).astype(np.int64)
    return tuple(
        _encode_lane(starts[lane::lanes], frequencies[lane::lanes], escapes[lane::lanes], values[lane::lanes])
        for lane in range(lanes)
    )


def decode(streams: tuple[bytes, ...], count: int, plane: int, tables: WidthTables) -> bytearray:
    """Return the `count` symbols that `encode` made the streams of.

    Raises:
        ValueError: If the streams are not what `encode` gives for any `count` symbols.
    """
    symbols = bytearray(count)
    for lane, stream in enumerate(streams):
        own = _decode_lane(stream, range(lane, count, len(streams)), plane, tables)
        symbols[lane :: len(streams)] = own
    return symbols


def _look_up(
    planes: NDArray[np.uint8], tables: WidthTables
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return start, frequency and whether it is escaped for every symbol of uint8 [C, plane], flat."""
    channels = len(planes)
    size = tables.size[:channels, None].astype(np.int64)
    index = planes.astype(np.int64) - tables.first[:channels, None]
    escapes = (index < 0) | (index >= size)
    index = np.where(escapes, size, index)
    cumulative = tables.cumulative[:channels].astype(np.int64)
    starts = np.take_along_axis(cumulative, index, axis=1)
    frequencies = np.take_along_axis(cumulative, index + 1, axis=1) - starts
    return starts.reshape(-1), frequencies.reshape(-1), escapes.reshape(-1)


def _encode_lane(
    starts: NDArray[np.int64],
    frequencies: NDArray[np.int64],
    escapes: NDArray[np.bool_],
    values: NDArray[np.int64],
) -> bytes:
    if escapes.any():  # an escape is two steps: its own, then the value's 8 bits
        steps = 1 + escapes
        second = np.cumsum(steps)[escapes] - 1
        starts, frequencies = np.repeat(starts, steps), np.repeat(frequencies, steps)
        starts[second] = values[escapes] << _RAW_BITS
        frequencies[second] = 1 << _RAW_BITS
    stream = bytearray()
    state = 0
    # From the last symbol to the first: the decoder undoes the last step first, and so meets them in order.
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


def _decode_lane(stream: bytes, positions: range, plane: int, tables: WidthTables) -> bytearray:
    if stream[:1] == b"\0":
        raise ValueError("a stream starts with a zero byte")
    symbols = bytearray()
    state = at = 0
    end = len(stream)
    while state < LOW and at < end:
        state = state << 8 | stream[at]
        at += 1
    slots = tables.slots
    channel = -1
    for position in positions:
        if position // plane != channel:
            channel = position // plane
            base = channel * TOTAL
            first, size = int(tables.first[channel]), int(tables.size[channel])
            cumulative = tables.cumulative[channel, : size + 2].tolist()
        slot = state & _SLOT
        index = slots[base + slot]
        start = cumulative[index]
        state = (cumulative[index + 1] - start) * (state >> PRECISION) + slot - start
        while state < LOW and at < end:
            state = state << 8 | stream[at]
            at += 1
        if index != size:
            symbols.append(first + index)
            continue
        value = (state & _SLOT) >> _RAW_BITS
        if 0 <= value - first < size:
            raise ValueError("a value is escaped that its table holds")
        symbols.append(value)
        state = (state >> PRECISION << _RAW_BITS) + (state & _RAW)
        while state < LOW and at < end:
            state = state << 8 | stream[at]
            at += 1
    if state or at != end:
        raise ValueError("it holds more than the declared symbols")
    return symbols
