"""The rans codec: range-variant asymmetric numeral systems with fixed tables, one format in two programs.

Source of the arithmetic: J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman
coding with compression rate of arithmetic coding", arXiv:1311.2540 (there: rANS).

**Symbols** are the latent's values, channel-major: the first c channels are the first c·H·W symbols, so a
shorter prefix is a payload of its own, cut from the same latent. The symbols before it give each symbol a
table and a level (`contexts.py`); what is coded is the difference from the level, modulo 256. A difference
in the table's window takes that difference's slots; any other takes the escape's, then 8 raw bits (16 slots
of the 4096, from `difference << 4`).

**The stream** is coded with a 32-bit state that starts at 0. To code a step of `frequency` slots from
`start`: while state >= frequency << 19, give off the low byte; then state = (state // frequency << 12) +
start + state % frequency. At the end the state itself is given off. The coder runs from the last symbol to
the first and its bytes are stored reversed; the decoder starts at state 0, takes in bytes while the state
is below 2^23 *and bytes are left*, undoes the steps in the symbols' order, and ends at state 0 with no byte
left. Starting at 0 instead of 2^23 saves three bytes, and makes coding a bijection: exactly one stream stands
for a latent, and anything else is refused. A body cut short cannot always be told from the body of another
latent: the payload's checksum is there for that.

**Cost** above the ideal −Σ log2 p: the first step costs 12 bits whatever its frequency, and the end is
rounded up to a byte; together about 1.4 bytes. Counting the slots from the likeliest value's on, so that it
would leave state 0 as it is, was tried and saves 0.06 bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs import rans_numpy
from isthmus.runtime.codecs.tables import FrequencyTables
from isthmus.runtime.codecs.width_tables import WidthTables
from isthmus.runtime.errors import InputError, PayloadError

try:
    from isthmus.runtime.codecs import _rans
except ImportError:  # installed where no C compiler was found
    HAS_C = False
else:
    HAS_C = True

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
        if (self.backend or coder_backend()) == "c":
            return _rans.encode(latent_chw.tobytes(), height, width, own.packed, own.programs)
        return rans_numpy.encode(latent_chw, own)

    def decode(
        self,
        body: bytes | memoryview,
        shape_chw: tuple[int, int, int],
        tables: FrequencyTables | None,
        width_index: int,
    ) -> NDArray[np.uint8]:
        """See `Codec.decode`."""
        try:
            own = _tables_of(tables, width_index, shape_chw[0])
            if (self.backend or coder_backend()) == "c":
                symbols = _rans.decode(bytes(body), *shape_chw, own.packed, own.slots, own.programs)
            else:
                symbols = rans_numpy.decode(bytes(body), shape_chw, own)
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
