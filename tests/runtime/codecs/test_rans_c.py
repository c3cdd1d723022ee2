"""The C loops alone: wrong arguments, and tables that no `FrequencyTables` would let through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.codecs import FrequencyTables

C_CODER = pytest.importorskip(
    "isthmus.runtime.codecs._rans", reason="the C coder is not built", exc_type=ImportError
)
BLOCK, TOTAL = 518, 4096


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((b"", 1, bytes(BLOCK), 1), ValueError, "do not fill whole channels"),
        ((b"ab", 0, bytes(BLOCK), 1), ValueError, "do not fill whole channels"),
        ((b"ab", -1, bytes(BLOCK), 1), ValueError, "do not fill whole channels"),
        ((b"abc", 2, bytes(BLOCK), 1), ValueError, "do not fill whole channels"),
        ((b"ab", 2, bytes(BLOCK), 0), ValueError, "number of lanes"),
        ((b"ab", 2, bytes(BLOCK), 3), ValueError, "number of lanes"),
        ((b"ab", 2, bytes(BLOCK), 1 << 40), ValueError, "number of lanes"),
        ((b"ab", 2, bytes(BLOCK - 1), 1), ValueError, "more channels than tables"),
        ((b"ab", 1, bytes(BLOCK), 1), ValueError, "more channels than tables"),
        ((b"ab", 2, bytes(BLOCK), 1), ValueError, "table is inconsistent"),
        ((bytearray(b"ab"), 2, bytes(BLOCK), 1), TypeError, "."),
        ((b"ab", 2, bytearray(BLOCK), 1), TypeError, "."),
        ((b"ab", 2), TypeError, "."),
    ],
)
def test_encode_refuses(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        C_CODER.encode(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((), 2, 2, bytes(BLOCK), bytes(TOTAL)), ValueError, "number of lanes"),
        (((b"", b""), 2, 2, bytes(BLOCK), bytes(TOTAL)), ValueError, "number of lanes"),
        (((b"",) * 5, 2, 2, bytes(BLOCK), bytes(TOTAL)), ValueError, "number of lanes"),
        (((b"",), -2, 2, bytes(BLOCK), bytes(TOTAL)), ValueError, "do not fill whole channels"),
        (((b"",), 2**62, 1, bytes(BLOCK), bytes(TOTAL)), ValueError, "do not fill whole channels"),
        (((b"",), 2**59, 1, bytes(BLOCK), bytes(TOTAL)), ValueError, "more channels than tables"),
        (((b"",), 2, 2, bytes(BLOCK), bytes(TOTAL - 1)), ValueError, "more channels than slot tables"),
        (((1,), 2, 2, bytes(BLOCK), bytes(TOTAL)), TypeError, "."),
        (([b""], 2, 2, bytes(BLOCK), bytes(TOTAL)), TypeError, "."),
    ],
)
def test_decode_refuses(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        C_CODER.decode(*arguments)


@given(
    seed=st.integers(0, 2**32 - 1),
    lanes=st.sampled_from([1, 4]),
    plane=st.integers(1, 40),
    mode=st.integers(0, 3),
)
def test_hostile_tables_crash_nothing(seed: int, lanes: int, plane: int, mode: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.bytes(2 * plane)
    block = rng.integers(0, 65536, (2, 259), dtype=np.uint16)
    if mode & 1:
        block[:, 1] = rng.integers(1, 256, 2)  # a size in range, so that the cumulative entries are used
    if mode & 2:
        block[:, 2:] = np.sort(rng.integers(0, 4097, (2, 257)), axis=1)
    tables = block.astype("<u2").tobytes()
    encoded, decoded, complaints = (), b"", []
    try:
        encoded = C_CODER.encode(symbols, plane, tables, lanes)
    except ValueError as error:
        complaints.append(str(error))
    assert complaints == ([] if encoded else ["a frequency table is inconsistent"])
    assert sum(map(len, encoded)) <= 4 * (len(symbols) + lanes)
    streams = tuple(rng.bytes(int(rng.integers(0, 60))) for _ in range(lanes))
    try:
        decoded = C_CODER.decode(streams, 2 * plane, plane, tables, rng.bytes(2 * TOTAL))
    except ValueError as error:
        complaints.append(str(error))
    assert len(decoded) == 2 * plane or complaints


def test_a_large_latent_is_coded_without_the_interpreter_lock(tables: FrequencyTables, draw_latents) -> None:
    latent = draw_latents(1, 6, 80, 80, seed=8)[0]  # 38,400 symbols: past the point where the lock is let go
    width = tables.width(1)
    for lanes in (1, 4):
        streams = C_CODER.encode(latent.tobytes(), 6400, width.packed, lanes)
        assert C_CODER.decode(streams, latent.size, 6400, width.packed, width.slots) == latent.tobytes()
