"""The rans codec: range-variant asymmetric numeral systems with static tables, one format in two programs.

Source of the arithmetic: J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman
coding with compression rate of arithmetic coding", arXiv:1311.2540 (there: rANS).

**Symbols** are the latent's values, channel-major: the first c channels are the first c·H·W symbols, so a
shorter prefix is a payload of its own, cut from the same latent. A value in its channel's window takes that
value's slots; any other takes the escape's, then 8 raw bits (16 slots of the 4096, from `value << 4`).

**A stream** is coded with a 32-bit state that starts at 0. To code a step of `frequency` slots from
`start`: while state >= frequency << 19, give off the low byte; then state = (state // frequency << 12) +
start + state % frequency. At the end the state itself is given off. The coder runs from the last symbol to
the first and its bytes are stored reversed; the decoder starts at state 0, takes in bytes while the state
is below 2^23 *and bytes are left*, undoes the steps in the symbols' order, and ends at state 0 with no byte
left. Starting at 0 instead of 2^23 saves three bytes a stream, and makes coding a bijection: exactly one
stream stands for a latent, and anything else is refused. A body cut short cannot always be told from the
body of another latent: the payload's length and checksum are there for that.

**Cost** above the ideal −Σ log2 p: the first step costs 12 bits whatever its frequency, and the end is
rounded up to a byte; together about 1.5 bytes a stream.

**Lanes.** From `MANY_LANES_FROM` symbols on, symbol i goes to stream i mod 4, so that a processor can work
on four independent states at once; the body then opens with the lengths of the first three streams
(LEB128). This makes the C coder about twice as fast and costs about 11 bytes, hence not on short latents.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs import rans_numpy
from isthmus.runtime.codecs.tables import FrequencyTables, WidthTables
from isthmus.runtime.errors import InputError, PayloadError

try:
    from isthmus.runtime.codecs import _rans
except ImportError:  # installed where no C compiler was found
    HAS_C = False
else:
    HAS_C = True

MANY_LANES_FROM: Final = 16_384
LANES: Final = 4
BACKEND_VARIABLE: Final = "ISTHMUS_RANS"

Backend = Literal["c", "numpy"]


def choose_backend(setting: str | None, *, has_c: bool) -> Backend:
    """Return the implementation that `ISTHMUS_RANS` = `setting` asks for; unset, the fastest present.

    Raises:
        InputError: If `setting` is none of them, or asks for the C coder where it was not built.
    """
    if setting in (None, ""):
        return "c" if has_c else "numpy"
    if setting == "numpy":
        return "numpy"
    if setting != "c":
        raise InputError(f"{BACKEND_VARIABLE}={setting}: unknown coder; use c or numpy")
    if not has_c:
        raise InputError(
            f"{BACKEND_VARIABLE}=c: the C coder was not built; install with a C compiler, or unset it"
        )
    return "c"


@cache
def coder_backend() -> Backend:
    """Return which implementation of rans this process uses (read once from `ISTHMUS_RANS`).

    Raises:
        InputError: If that variable asks for something this installation has not.
    """
    return choose_backend(os.environ.get(BACKEND_VARIABLE), has_c=HAS_C)


@dataclass(frozen=True, slots=True)
class RansCodec:
    """The entropy coder; `backend` None follows `coder_backend`, tests and benchmarks name one."""

    backend: Backend | None = None
    name: str = "rans"
    codec_id: int = 2
    version: int = 1
    needs_tables: bool = True

    def encode(
        self, latent_chw: NDArray[np.uint8], tables: FrequencyTables | None, width_index: int
    ) -> bytes:
        """See `Codec.encode`."""
        channels, height, width = latent_chw.shape
        try:
            own = _tables_of(tables, width_index, channels)
        except ValueError as error:
            raise InputError(f"rans: {error}; load the bundle that made this latent") from None
        lanes = _lanes(latent_chw.size)
        symbols = latent_chw.tobytes()
        if (self.backend or coder_backend()) == "c":
            return _join(_rans.encode(symbols, height * width, own.packed, lanes))
        return _join(rans_numpy.encode(symbols, height * width, own, lanes))

    def decode(
        self,
        body: bytes | memoryview,
        shape_chw: tuple[int, int, int],
        tables: FrequencyTables | None,
        width_index: int,
    ) -> NDArray[np.uint8]:
        """See `Codec.decode`."""
        channels, height, width = shape_chw
        count, plane = math.prod(shape_chw), height * width
        try:
            own = _tables_of(tables, width_index, channels)
            streams = _split(bytes(body), _lanes(count))
            if (self.backend or coder_backend()) == "c":
                symbols = _rans.decode(streams, count, plane, own.packed, own.slots)
            else:
                symbols = rans_numpy.decode(streams, count, plane, own)
        except ValueError as error:
            raise PayloadError(f"payload: rans body cannot be decoded: {error}") from None
        return np.frombuffer(symbols, dtype=np.uint8).reshape(shape_chw)


def _tables_of(tables: FrequencyTables | None, width_index: int, channels: int) -> WidthTables:
    if tables is None:
        raise ValueError("frequency tables are needed")
    if not 0 <= width_index < len(tables.channels):
        raise ValueError(f"width index {width_index} is not in tables of {len(tables.channels)} widths")
    if channels > tables.channels[width_index]:
        raise ValueError(f"{channels} channels, but tables for {tables.channels[width_index]}")
    return tables.width(width_index)


def _lanes(count: int) -> int:
    return LANES if count >= MANY_LANES_FROM else 1


def _join(streams: tuple[bytes, ...]) -> bytes:
    lengths = bytearray()
    for stream in streams[:-1]:
        length = len(stream)
        while length >= 0x80:
            lengths.append(length & 0x7F | 0x80)
            length >>= 7
        lengths.append(length)
    return bytes(lengths) + b"".join(streams)


def _split(body: bytes, lanes: int) -> tuple[bytes, ...]:
    """Undo `_join`; ValueError if the lengths do not fit the body."""
    lengths: list[int] = []
    at = 0
    for _ in range(lanes - 1):
        length = shift = 0
        while True:
            # Five groups hold any length that a payload can declare.
            if at == len(body) or shift > 28:
                raise ValueError("a stream's length is cut short or too long")
            group = body[at]
            at += 1
            length |= (group & 0x7F) << shift
            shift += 7
            if group < 0x80:
                break
        if group == 0 and shift > 7:  # a second spelling of the same length
            raise ValueError("a stream's length is not in its shortest form")
        lengths.append(length)
    if at + sum(lengths) > len(body):
        raise ValueError(f"its streams need {at + sum(lengths)} bytes, the body has {len(body)}")
    streams: list[bytes] = []
    for length in lengths:
        streams.append(body[at : at + length])
        at += length
    return (*streams, body[at:])
